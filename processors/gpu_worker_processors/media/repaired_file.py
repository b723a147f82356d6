"""A file as FFmpeg should see it: without tags and broken frames around its audio, and with the
lengths in its header that a recorder left open.

The file on disk stays as it is.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from gpu_worker_processors.media.audio_length import Field, audio_length
from gpu_worker_processors.media.sniff import Kind
from gpu_worker_processors.media.tags import start_of_trailing_tags

_KNOWS_NO_TAGS = frozenset({"mp3", "aac", "loas", "ac3", "dts", "truehd", "ogg", "wv"})
"""Demuxers that read to the end of the file whatever stands there."""


class RepairedFile(io.RawIOBase):
    """The bytes `start` to `end` of a file, some numbers among them replaced.

    Args:
        fields: their offsets count from the start of the file on disk.
    """

    def __init__(self, path: Path, start: int, end: int, fields: tuple[Field, ...] = ()) -> None:
        self._file = path.open("rb")
        self._start, self._end, self._at = start, end, 0
        self._patches = [(f.offset, struct.pack(f.format, f.value)) for f in fields]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end - self._start}
        self._at = max(0, base[whence] + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        first = self._start + self._at
        left = max(0, self._end - first)
        self._file.seek(first)
        data = bytearray(self._file.read(left if size < 0 else min(size, left)))
        for offset, patch in self._patches:
            for at, byte in enumerate(patch, offset - first):
                if 0 <= at < len(data):
                    data[at] = byte
        self._at += len(data)
        return bytes(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def repaired(path: Path, kind: Kind) -> RepairedFile | None:
    """The file without its faults; None where it has none."""
    end = path.stat().st_size
    start, fields = kind.start, audio_length(path, kind).missing
    if kind.demuxer in _KNOWS_NO_TAGS:
        with path.open("rb") as file:
            end = max(start, start_of_trailing_tags(file))
    if not start and not fields and end == path.stat().st_size:
        return None
    return RepairedFile(path, start, end, fields)
