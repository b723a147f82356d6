"""Coded audio without a container: where its first whole frame is.

A recording of a live stream starts wherever it was joined, often in the middle of a frame. Each
of these formats says in the head of a frame how long that frame is, so a frame is one that
is followed by more of its kind.
"""

from __future__ import annotations

from collections.abc import Callable

SEARCHED_BYTES = 1 << 16
"""How far FFmpeg's own reader of MP3 goes to find a frame (libavformat/mp3dec.c)."""
_FOLLOWING = 3
"""Frames in a row that prove each other: by chance, three heads in 64 KiB agree once in 10^10."""
_MPEG_KBPS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(version, layer) as coded -> bit rates; ISO/IEC 11172-3 and 13818-3, 2.4.2.3. Version 2 has one
row for layers II and III."""
_MPEG_HZ = (44_100, 48_000, 32_000)
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_HZ = (48_000, 44_100, 32_000)


def first_frame(data: bytes) -> tuple[int, str] | None:
    """(offset, FFmpeg's demuxer) of the first frame that is followed by more of its kind."""
    found = [
        (at, demuxer)
        for demuxer, sync, length in _FORMATS
        if (at := _first_of(data, sync, length)) is not None
    ]
    return min(found, default=None)


def _first_of(data: bytes, sync: bytes, length: Callable[[bytes], int]) -> int | None:
    at = data.find(sync)
    while 0 <= at < SEARCHED_BYTES:
        if _is_followed(data, at, length):
            return at
        at = data.find(sync, at + 1)
    return None


def _is_followed(data: bytes, at: int, length: Callable[[bytes], int]) -> bool:
    for _ in range(_FOLLOWING):
        size = length(data[at : at + 9])
        if not size:
            return False
        at += size
    return len(data) == at or bool(length(data[at : at + 9]))


def _mpeg(head: bytes) -> int:
    """Bytes of a frame of MPEG audio; 0 for what is none, or has a rate of its own ("free")."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rate, hz = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or rate in (0, 15) or hz == 3:
        return 0
    row = (3, layer) if version == 3 else (2, max(2, layer))
    bits = 1000 * _MPEG_KBPS[row][rate - 1]
    sample_rate = _MPEG_HZ[hz] >> {3: 0, 2: 1, 0: 2}[version]
    padding = head[2] >> 1 & 1
    if layer == 3:
        return 4 * (12 * bits // sample_rate + padding)
    return (72 if layer == 1 and version != 3 else 144) * bits // sample_rate + padding


def _adts(head: bytes) -> int:
    """Of ADTS; ISO/IEC 14496-3, 1.A.2.2."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    size = int.from_bytes(head[3:6], "big") >> 5 & 0x1FFF
    return size if size > 7 else 0


def _ac3(head: bytes) -> int:
    """Of AC-3 and E-AC-3; ETSI TS 102 366, 4.3 and E.1.2."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if 10 < head[5] >> 3 <= 16:
        return 2 * (int.from_bytes(head[2:4], "big") & 0x7FF) + 2
    hz, rate = head[4] >> 6, head[4] & 63
    if hz == 3 or rate >= 2 * len(_AC3_KBPS) or head[5] >> 3 > 10:
        return 0
    words = 96_000 * _AC3_KBPS[rate >> 1] // _AC3_HZ[hz]
    return 2 * (words + (rate & 1 if _AC3_HZ[hz] == 44_100 else 0))


def _dts(head: bytes) -> int:
    """Of DTS; ETSI TS 102 114, 5.3."""
    if len(head) < 8 or head[:4] != b"\x7f\xfe\x80\x01":
        return 0
    return (int.from_bytes(head[5:8], "big") >> 4 & 0x3FFF) + 1


def _loas(head: bytes) -> int:
    """Of AAC in LOAS; ISO/IEC 14496-3, 1.7.2."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return (int.from_bytes(head[1:3], "big") & 0x1FFF) + 3


_FORMATS: tuple[tuple[str, bytes, Callable[[bytes], int]], ...] = (
    ("mp3", b"\xff", _mpeg),
    ("aac", b"\xff", _adts),
    ("ac3", b"\x0b\x77", _ac3),
    ("dts", b"\x7f\xfe\x80\x01", _dts),
    ("loas", b"\x56", _loas),
)
"""(demuxer, bytes that every frame starts with, length of the frame with a head; 0 for no head)."""
