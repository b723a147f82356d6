"""The part of the stored frame that a container shows: PixelCrop of Matroska, the clean aperture of
MP4 and MOV. FFmpeg's own command cuts it out, its decoders do not, and PyAV does not show it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_worker_processors.media.matroska import pixel_crops
from gpu_worker_processors.media.sniff import Kind
from gpu_worker_processors.media.truncation import mov_boxes

_MAX_MOOV_BYTES = 256 * 1024 * 1024
"""An index of nine hours at 60 frames/s has 40 MB."""
_PATH_TO_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")
_ENTRY_HEAD_BYTES = 86
"""Of a VisualSampleEntry, its own size and type included (ISO/IEC 14496-12, 12.1.3)."""


@dataclass(frozen=True)
class Margins:
    """Pixels of the stored frame that are not shown."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))

    def fit(self, width: int, height: int) -> bool:
        """Whether something of a frame is left."""
        return self.left + self.right < width and self.top + self.bottom < height


def stated_margins(path: Path, kind: Kind, number: int) -> Margins:
    """What the container says of its n-th video track; nothing where it says nothing.

    Args:
        number: from 0, among the video tracks.
    """
    found: list[Margins] = []
    if kind.demuxer == "matroska":
        found = [Margins(*crop) for crop in pixel_crops(path)]
    elif kind.demuxer == "mov":
        found = list(_clean_apertures(path))
    return found[number] if number < len(found) else Margins()


def _clean_apertures(path: Path) -> Iterator[Margins]:
    for kind, offset, size in mov_boxes(path):
        if kind == b"moov" and size <= _MAX_MOOV_BYTES:
            with path.open("rb") as file:
                file.seek(offset)
                moov = file.read(size)
            for name, start, end in _boxes(moov, 8, len(moov)):
                if name == b"trak" and b"vide" in moov[start:end]:
                    yield _of_track(moov, start, end)
            return


def _of_track(moov: bytes, start: int, end: int) -> Margins:
    for wanted in _PATH_TO_ENTRIES:
        inside = next(((s, e) for name, s, e in _boxes(moov, start, end) if name == wanted), None)
        if inside is None:
            return Margins()
        start, end = inside
    entry = start + 8  # after version, flags and the count of entries
    if entry + _ENTRY_HEAD_BYTES > end:
        return Margins()
    width, height = struct.unpack_from(">HH", moov, entry + 32)
    entry_end = min(end, entry + int.from_bytes(moov[entry : entry + 4], "big"))
    for name, at, stop in _boxes(moov, entry + _ENTRY_HEAD_BYTES, entry_end):
        if name == b"clap" and stop - at >= 32:
            return _of_clap(width, height, struct.unpack_from(">IIIIiIiI", moov, at))
    return Margins()


def _of_clap(width: int, height: int, clap: tuple[int, ...]) -> Margins:
    """ISO/IEC 14496-12, 12.1.4.1: size of the aperture and how far its centre lies from the
    frame's, as fractions."""
    if 0 in clap[1::2]:
        return Margins()
    shown_width, shown_height, right_by, down_by = (clap[n] / clap[n + 1] for n in range(0, 8, 2))
    left = round((width - shown_width) / 2 + right_by)
    top = round((height - shown_height) / 2 + down_by)
    right, bottom = width - left - round(shown_width), height - top - round(shown_height)
    margins = Margins(left, top, right, bottom)
    return margins if min(left, top, right, bottom) >= 0 else Margins()


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start and end of the body) of each box in a part of an ISO media file."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > end:
            return
        yield data[start + 4 : start + 8], start + 8, start + size
        start += size
