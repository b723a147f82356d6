"""How many blocks each video track of a Matroska or WebM file holds, counted without FFmpeg.

FFmpeg's demuxer skips over damage to the next cluster without an error, so frames would vanish.
Matroska has no list of frames, but its elements stand back to back: walking from header to header
(RFC 8794, RFC 9559) finds every block, and any damage to a header breaks the chain. Reads a few
dozen bytes per block, never the frames, and keeps nothing in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError

_EBML, _SEGMENT, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
_BLOCK_GROUP, _SIMPLE_BLOCK, _BLOCK = 0xA0, 0xA3, 0xA1
_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE = 0xAE, 0xD7, 0x83
_VIDEO = 1
_VIDEO_SETTINGS = 0xE0
_PIXEL_CROP = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
"""Left, top, right, bottom."""

_ENTERED = frozenset({_SEGMENT, _CLUSTER, _BLOCK_GROUP})
_SKIPPED = frozenset(
    {
        _EBML,
        _TRACKS,
        0x114D9B74,
        0x1549A966,
        0x1C53BB6B,
        0x1941A469,
        0x1043A770,
        0x1254C367,  # seek head, info, cues, ...
        0xE7,
        0x5854,
        0xA7,
        0xAB,
        0xAF,  # of a cluster: timestamp, silent tracks, position, previous size, encrypted block
        0x75A1,
        0x9B,
        0xFA,
        0xFB,
        0xFD,
        0xA4,
        0x75A2,
        0x8E,
        0xA2,
        0xC8,  # of a block group
        0xEC,
        0xBF,  # anywhere: void, checksum
    }
)
_UNKNOWN_SIZE = -1
_MAX_TRACKS_BYTES = 2 * 1024 * 1024
"""Codec private data fits many times over."""
_MAX_WITHOUT_BLOCK = 100_000
"""Elements beside those that go with a block: an honest file has a few dozen."""
_ELEMENTS_PER_BLOCK = 16
"""Elements that go with a block: its group, a duration, references, additions, a cluster."""


def video_blocks(path: Path) -> list[int]:
    """Blocks of each video track, in the order of the tracks.

    Raises:
        TaskError: `corrupt_media` when the file is cut off or a header in it is damaged,
            `media_limit` when it is full of elements that hold nothing.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        return _walk(file, path.stat().st_size)
    finally:
        os.close(file)


def tagged_seconds(tag: str) -> Fraction:
    """The end of a Matroska track by its statistics tag, "00:01:02.500000000": a block may be
    written without a duration. 0 for anything else."""
    match = re.fullmatch(r"(\d{1,3}):(\d\d):(\d\d\.\d{1,9})", tag, re.ASCII)
    if match is None:
        return Fraction(0)
    return int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3])


def pixel_crops(path: Path) -> list[tuple[int, int, int, int]]:
    """Pixels that are not shown at the left, top, right and bottom of each video track, in the
    order of the tracks; nothing where the file is damaged before them."""
    file = os.open(path, os.O_RDONLY)
    try:
        position, end = 0, path.stat().st_size
        while position < end:
            name, size, length = _header(os.pread(file, 32, position))
            body = position + length
            if name == _TRACKS:
                return list(_crops(os.pread(file, min(size, _MAX_TRACKS_BYTES), body)))
            if name < 0 or (size < 0 and name != _SEGMENT):
                break
            position = body if name == _SEGMENT else body + size
        return []
    finally:
        os.close(file)


def _crops(tracks: bytes) -> Iterator[tuple[int, int, int, int]]:
    for name, entry in _elements(tracks):
        if name == _TRACK_ENTRY and _numbers(entry).get(_TRACK_TYPE) == _VIDEO:
            video = next((body for name, body in _elements(entry) if name == _VIDEO_SETTINGS), b"")
            numbers = _numbers(video)
            left, top, right, bottom = (numbers.get(name, 0) for name in _PIXEL_CROP)
            yield left, top, right, bottom


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(ID, body) of each element of a body."""
    position = 0
    while position < len(data):
        name, size, length = _header(data, position)
        if name < 0 or size < 0:
            return
        position += length + size
        yield name, data[position - size : position]


def _walk(file: int, end: int) -> list[int]:
    counts: dict[int, int] = {}
    order: list[int] = []
    position, live, without_block = 0, True, _MAX_WITHOUT_BLOCK
    while position < end:
        without_block -= 1
        if without_block < 0:
            raise TaskError(
                ErrorCode.media_limit,
                "the Matroska file consists of elements without content; remux it",
            )
        head = os.pread(file, 32, position)
        name, size, length = _header(head)
        body = position + length
        if name == _SEGMENT and size != _UNKNOWN_SIZE:
            live = False
            if body + size > end:
                raise _cut_off(body + size - end)
            end = body + size
        if name in (_SIMPLE_BLOCK, _BLOCK):
            track, _ = _vint(head, length)
            counts[track] = counts.get(track, 0) + 1
            without_block += _ELEMENTS_PER_BLOCK
        elif name in _ENTERED:
            position = body
            continue
        elif name not in _SKIPPED:
            raise _damaged(position)
        if size == _UNKNOWN_SIZE:
            raise _damaged(position)
        if body + size > end:
            if live:
                break  # a recording that was never finished: its last block is incomplete
            raise _damaged(position)
        if name == _TRACKS and not order:
            order = _video_tracks(os.pread(file, min(size, _MAX_TRACKS_BYTES), body))
        position = body + size
    return [counts.get(track, 0) for track in order]


def _header(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """(element ID, size of its body, length of the header). A header that cannot be gives ID -1."""
    value, length = _vint(data, offset, keep_marker=True)
    if value < 0:
        return -1, 0, 1
    size, size_length = _vint(data, offset + length)
    if size == (1 << 7 * size_length) - 1:
        size = _UNKNOWN_SIZE
    return value, size, length + size_length


def _vint(data: bytes, offset: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """(value, bytes used) of a variable-length integer; value -1 where there is none."""
    first = data[offset] if offset < len(data) else 0
    if not first:
        return -1, 1
    length = 9 - first.bit_length()
    value = int.from_bytes(data[offset : offset + length], "big")
    return (value if keep_marker else value & ((1 << 7 * length) - 1)), length


def _video_tracks(data: bytes) -> list[int]:
    """Numbers of the video tracks in a Tracks element's body."""
    found: list[int] = []
    position = 0
    while position < len(data):
        name, size, length = _header(data, position)
        if name < 0 or size < 0:
            break
        if name == _TRACK_ENTRY:
            entry = _numbers(data[position + length : position + length + size])
            if entry.get(_TRACK_TYPE) == _VIDEO:
                found.append(entry.get(_TRACK_NUMBER, 0))
        position += length + size
    return found


def _numbers(data: bytes) -> dict[int, int]:
    """Element ID -> big-endian integer, for the short elements of a body."""
    values: dict[int, int] = {}
    position = 0
    while position < len(data):
        name, size, length = _header(data, position)
        if name < 0 or size < 0:
            break
        if size <= 8:
            values[name] = int.from_bytes(data[position + length : position + length + size], "big")
        position += length + size
    return values


def _cut_off(missing: int) -> TaskError:
    return TaskError(
        ErrorCode.corrupt_media,
        f"the file is cut off: its header announces {missing} bytes more than there are; upload it"
        " again",
        missing_bytes=missing,
    )


def _damaged(position: int) -> TaskError:
    return TaskError(
        ErrorCode.corrupt_media,
        f"the Matroska file is damaged at byte {position}; upload an intact copy or remux it",
        position=position,
    )
