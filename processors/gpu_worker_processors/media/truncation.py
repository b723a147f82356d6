"""What a container's own outermost boxes say about its length, read without FFmpeg.

FFmpeg plays a file that was cut off as if it simply ended there. The sizes announced in the headers
of AVI, FLV and Ogg files and the packets of a transport stream show it: these functions follow
headers only, whatever the size of the file. A file that was cut exactly between two tags, pages or
packets does not show it: not every writer of these sets a mark at the end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.media.sniff import Kind, transport_packet_bytes

_MAX_BOXES = 100_000
"""A fragmented file has two boxes per fragment; a day of two-second fragments has 86,400."""
_HEAD_BYTES = 4096
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""Identifier of the object with the size of the file."""
_DV_FRAME_BYTES = (120_000, 144_000)
"""Of 525 and of 625 lines at 25 Mbit/s, which every richer DV is a multiple of: IEC 61834."""
_Y4M_COLOR = re.compile(r"(420|411|422|444|mono)(p9|p1[0-6]|1[0-6])?(?:jpeg|mpeg2|paldv)?")
_Y4M_HALVES = {"420": 3, "411": 3, "422": 4, "444": 6, "mono": 2}
"""Twice the samples per pixel."""
_OGG_HEAD_BYTES = 27
"""Of a page, its table of segments left out."""


def mov_boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset, announced size) of each top-level box of an ISO media file (ISO/IEC 14496-12,
    4.2). Stops at a box that cannot be: the caller judges."""
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
            if offset >= end:  # a size of 64 bits may lead to where no file can be read
                return


def has_moov(path: Path) -> bool:
    """Whether an ISO media file holds its index."""
    return any(kind == b"moov" for kind, _, _ in mov_boxes(path))


def is_fragmented(path: Path, kind: Kind) -> bool:
    """Whether an ISO media file comes in fragments, each with a time of its own."""
    return kind.demuxer == "mov" and any(name == b"moof" for name, _, _ in mov_boxes(path))


def missing_bytes(path: Path, kind: Kind) -> int:
    """Bytes that the headers of an AVI, FLV, Ogg, ASF or MXF file announce beyond the file's end,
    or that the last packet of a transport stream or frame of a DV or YUV4MPEG2 file lacks; 0 when
    whole or of another kind.

    An MP4's index names every sample: `container.samples_beyond_end`. Matroska has
    `matroska.video_blocks`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind.demuxer == "avi":
            return max(0, _avi_movi_end(file, size) - size)
        if kind.demuxer == "flv":
            return max(0, _flv_end(file, size) - size)
        if kind.demuxer == "ogg":
            return max(0, _ogg_end(file, size) - size)
        if kind.demuxer == "mpegts":
            file.seek(kind.start)
            packet = transport_packet_bytes(file.read(_HEAD_BYTES))
            return (kind.start - size) % packet if packet else 0
        if kind.demuxer == "asf":
            return max(0, _asf_end(file.read(_HEAD_BYTES)) - size)
        if kind.demuxer == "mxf":
            footer = _mxf_footer(file.read(_HEAD_BYTES))
            return max(0, footer + 1 - size) if footer else 0
        if kind.demuxer == "dv":
            return -size % _DV_FRAME_BYTES[file.read(4)[3] >> 7]
        if kind.demuxer == "yuv4mpegpipe":
            head, frame = _y4m_bytes(file.read(_HEAD_BYTES))
            return -(size - head) % frame if frame else 0
    return 0


def _asf_end(head: bytes) -> int:
    """The size of the file by its own properties (ASF specification, 3.2); 0 for a broadcast, which
    never learnt it."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return 0
    size, flags = struct.unpack_from("<Q", head, at + 40)[0], head[at + 88]
    return 0 if flags & 1 else size


def _mxf_footer(head: bytes) -> int:
    """Where the footer begins by the first partition (SMPTE ST 377-1, 7.1); 0 when not said."""
    at = 17 + (head[16] & 0x7F if head[16] & 0x80 else 0)
    return struct.unpack_from(">Q", head, at + 24)[0] if len(head) >= at + 32 else 0


def _y4m_bytes(head: bytes) -> tuple[int, int]:
    """(length of the header, of a frame with its own) of a YUV4MPEG2 file; a frame of 0 where its
    format is none of the usual (mjpegtools, yuv4mpeg(5))."""
    line = head.partition(b"\n")[0]
    words = {word[:1]: word[1:] for word in line.decode("latin-1").split(" ")[1:]}
    width, height = parse_integer(words.get("W")), parse_integer(words.get("H"))
    color = _Y4M_COLOR.fullmatch(words.get("C", "420"))
    if not width or not height or width % 4 or height % 2 or color is None:
        return 0, 0
    samples = width * height * _Y4M_HALVES[color[1]] // 2
    return len(line) + 1, samples * (2 if color[2] else 1) + len("FRAME\n")


def _flv_end(file: BinaryIO, end: int) -> int:
    """Where the last tag ends by its own size (Adobe Flash Video File Format 10.1, E.4)."""
    offset = 13  # file header and the first back pointer
    while offset + 11 <= end:
        file.seek(offset + 1)
        offset += 11 + int.from_bytes(file.read(3), "big") + 4
    return offset


def _ogg_end(file: BinaryIO, end: int) -> int:
    """Where the last page ends by its own table of segments (RFC 3533, 6). Stops where no page
    begins: the reader judges."""
    offset = 0
    while offset < end:
        file.seek(offset)
        head = file.read(_OGG_HEAD_BYTES + 255)
        if not b"OggS".startswith(head[:4]):
            return end
        segments = head[_OGG_HEAD_BYTES - 1] if len(head) >= _OGG_HEAD_BYTES else 255
        offset += (
            _OGG_HEAD_BYTES + segments + sum(head[_OGG_HEAD_BYTES : _OGG_HEAD_BYTES + segments])
        )
    return offset


def _avi_movi_end(file: BinaryIO, end: int) -> int:
    """Where the `movi` list of the first RIFF chunk ends; 0 when there is none or its size was
    never filled in."""
    offset = 12
    while offset + 12 <= end:
        file.seek(offset)
        name, size, kind = struct.unpack("<4sI4s", file.read(12))
        if name == b"LIST" and kind == b"movi":
            return 0 if size in (0, 0xFFFFFFFF) else offset + 8 + size
        offset += 8 + size + size % 2
    return 0
