"""What a container's own outermost boxes say about its length, read without FFmpeg.

FFmpeg plays a file that was cut off as if it simply ended there. The sizes announced at the top of MP4, Matroska and AVI files
show it: these functions follow only those few headers, whatever the size of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gpu_worker_processors.media.sniff import Kind

_MAX_BOXES = 100_000
"""A fragmented file has two boxes per fragment; a day of two-second fragments has 86,400."""


def mov_boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset, announced size) of each top-level box of an ISO media file (ISO/IEC 14496-12, 4.2). Stops at a box that
    cannot be: the caller judges."""
    end = path.stat().st_size
    offset = 0
    with path.open("rb") as file:
        for _ in range(_MAX_BOXES):
            file.seek(offset)
            head = file.read(16)
            if len(head) < 8:
                return
            size, kind = struct.unpack(">I4s", head[:8])
            if size == 1 and len(head) == 16:
                size = struct.unpack(">Q", head[8:])[0]
            elif size == 0:
                size = end - offset
            if size < 8:
                return
            yield kind, offset, size
            offset += size


def has_moov(path: Path) -> bool:
    """Whether an ISO media file holds its index."""
    return any(kind == b"moov" for kind, _, _ in mov_boxes(path))


def missing_bytes(path: Path, kind: Kind) -> int:
    """Bytes that the header of a Matroska or AVI file announces beyond the file's end; 0 when whole, live or of another kind.

    MP4 needs no such check here: its index names every sample, and the reader counts them.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind.demuxer == "matroska":
            return max(0, _matroska_end(file) - size)
        if kind.demuxer == "avi":
            return max(0, _avi_movi_end(file, size) - size)
    return 0


def _vint(file: BinaryIO, *, keep_marker: bool) -> int:
    """An EBML variable-length integer (RFC 8794, section 4); -1 at the end of the file or for the reserved "unknown" value."""
    first = file.read(1)
    if not first or first[0] == 0:
        return -1
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(first + rest, "big")
    marker = 1 << (7 * length)
    if keep_marker:
        return value
    return -1 if value == 2 * marker - 1 else value - marker


def _matroska_end(file: BinaryIO) -> int:
    """Where the first Segment ends; 0 when it does not say (a live stream)."""
    for _ in range(8):  # EBML header, perhaps Void elements, then the Segment
        name, size = _vint(file, keep_marker=True), _vint(file, keep_marker=False)
        if name == 0x18538067:
            return 0 if size < 0 else file.tell() + size
        if name < 0 or size < 0:
            return 0
        file.seek(size, 1)
    return 0


def _avi_movi_end(file: BinaryIO, end: int) -> int:
    """Where the `movi` list of the first RIFF chunk ends; 0 when there is none or its size was never filled in."""
    offset = 12
    while offset + 12 <= end:
        file.seek(offset)
        name, size, kind = struct.unpack("<4sI4s", file.read(12))
        if name == b"LIST" and kind == b"movi":
            return 0 if size in (0, 0xFFFFFFFF) else offset + 8 + size
        offset += 8 + size + size % 2
    return 0
