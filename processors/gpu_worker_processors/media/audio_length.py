"""How long the audio of a WAV, Wave64, AIFF or CAF file is by its own header, and that header put
right where nobody filled it in.

A recorder that streams does not know the length when it writes the header, and leaves there 0, -1
or the largest number it knows. The samples then go on to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpu_worker_processors.media.sniff import Kind

_UNFILLED_FROM = 0x7FFF_0000
"""What SoX (0x7FFFF000), arecord and FFmpeg (2^31 and more) leave in 32 bits."""
_UNFILLED_64_FROM = 2**62
_PLAIN_AIFC = (b"NONE", b"sowt", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32", b"twos")
"""Codings of AIFC with as many bytes per sample as the header says bits."""
_MOST_CHUNKS = 1000


@dataclass(frozen=True)
class _Layout:
    """How a container's chunks are laid out."""

    first: int
    """Offset of the first chunk."""
    name_bytes: int
    size: str
    """`struct` format of a chunk's size."""
    data: bytes
    """Name of the chunk with the samples."""
    align: int = 2
    counts_head: bool = False
    """The size includes name and size."""
    whole_at: int | None = 4
    """Offset of the size of the whole file."""


_LAYOUTS = {
    b"RIFF": _Layout(12, 4, "<I", b"data"),
    b"RIFX": _Layout(12, 4, ">I", b"data"),
    b"RF64": _Layout(12, 4, "<I", b"data"),
    b"BW64": _Layout(12, 4, "<I", b"data"),
    b"FORM": _Layout(12, 4, ">I", b"SSND"),
    b"caff": _Layout(8, 4, ">q", b"data", align=1, whole_at=None),
    b"riff": _Layout(
        *(40, 16, "<Q", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"),
        align=8,
        counts_head=True,
        whole_at=16,
    ),
}
"""First four bytes of a file -> its layout. RF64 is EBU Tech 3306, the last is Wave64."""
KINDS = frozenset({"wav", "aiff", "caf", "w64"})


@dataclass(frozen=True)
class Field:
    """A number in a header."""

    offset: int
    format: str
    """Of `struct`."""
    value: int


@dataclass(frozen=True)
class AudioLength:
    announced_bytes: int = 0
    """Of samples; 0 where the header does not say it, or in no plain number."""
    missing: tuple[Field, ...] = ()
    """What the header must say and nobody filled in."""


def audio_length(path: Path, kind: Kind) -> AudioLength:
    """What the header says, of a file of one of `KINDS`; nothing of any other."""
    if kind.demuxer not in KINDS:
        return AudioLength()
    end = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        layout = _LAYOUTS.get(magic)
        chunks = dict(_chunks(file, layout)) if layout else {}
        if layout is None or layout.data not in chunks:
            return AudioLength()
        data = chunks[layout.data]
        samples = end - data.body
        if b"ds64" in chunks:
            return _wide(file, chunks[b"ds64"], end, samples)
        missing = _missing_frames(file, chunks.get(b"COMM"), samples)
        if 0 < data.size < _unfilled_from(layout.size) and not missing:
            return AudioLength(data.size if magic != b"caff" else 0)
    head = data.body - data.size_at + layout.name_bytes if layout.counts_head else 0
    largest = (1 << 8 * struct.calcsize(layout.size)) - 1
    missing.append(Field(data.size_at, layout.size, min(samples + head, largest)))
    if layout.whole_at is not None:
        whole = end if layout.counts_head else end - 8
        missing.append(Field(layout.whole_at, layout.size, min(whole, largest)))
    return AudioLength(0, tuple(missing))


@dataclass(frozen=True)
class _Chunk:
    size_at: int
    """Offset of its size."""
    body: int
    """Offset of what it holds."""
    size: int
    """Bytes of that, by its head."""


def _chunks(file: BinaryIO, layout: _Layout) -> Iterator[tuple[bytes, _Chunk]]:
    """Name and chunk, up to the one with the samples."""
    at, head_bytes = layout.first, layout.name_bytes + struct.calcsize(layout.size)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(head_bytes)
        if len(head) < head_bytes:
            return
        size = struct.unpack_from(layout.size, head, layout.name_bytes)[0]
        size -= head_bytes if layout.counts_head else 0
        name, body = head[: layout.name_bytes], at + head_bytes
        yield name, _Chunk(at + layout.name_bytes, body, size)
        if name == layout.data or size < 0:
            return
        at = body + size + -size % layout.align


def _unfilled_from(size_format: str) -> int:
    return _UNFILLED_FROM if struct.calcsize(size_format) == 4 else _UNFILLED_64_FROM


def _wide(file: BinaryIO, ds64: _Chunk, end: int, samples: int) -> AudioLength:
    """The sizes of RF64: of the file, of the samples, and their number."""
    file.seek(ds64.body)
    numbers = file.read(24)
    size = struct.unpack_from("<Q", numbers, 8)[0] if len(numbers) == 24 else 0
    if 0 < size < _UNFILLED_64_FROM:
        return AudioLength(size)
    values = (end - 8, samples, 0)  # FFmpeg counts the samples itself when there are none
    fields = [Field(ds64.body + 8 * n, "<Q", value) for n, value in enumerate(values)]
    return AudioLength(0, tuple(fields))


def _missing_frames(file: BinaryIO, common: _Chunk | None, samples: int) -> list[Field]:
    """The number of sample frames of an AIFF, where its COMM chunk lacks it."""
    if common is None:
        return []
    file.seek(common.body)
    channels, frames, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
    coding = file.read(14)[10:] if common.size > 18 else b"NONE"
    frame_bytes = channels * ((bits + 7) // 8)
    if 0 < frames < _UNFILLED_FROM or not frame_bytes or coding not in _PLAIN_AIFC:
        return []
    return [Field(common.body + 2, ">I", min((samples - 8) // frame_bytes, 2**32 - 1))]
