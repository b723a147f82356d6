"""The timecode inside a video stream: of the header of an MPEG-2 GOP, or of SMPTE ST 12-1 in H.264
and HEVC."""

from __future__ import annotations

from fractions import Fraction

import av
from av.sidedata.sidedata import Type as SideDataType

from gpu_worker_processors.media.frame import side_data

_GOP_TIME = 0xFFEFFF
"""Hours to frames of an MPEG-2 group's timecode, ISO/IEC 13818-2, 6.3.8: neither the drop flag
nor the bit that is always set. 0 is what encoders write that know no time."""
_DROPPING = (Fraction(30_000, 1001), Fraction(60_000, 1001))
"""Rates at which numbers are dropped (SMPTE ST 12-1)."""


def timecode_of(frame: av.VideoFrame, fps: Fraction) -> str | None:
    """Such as "01:02:03:04", with ";" before the frames where numbers are dropped; None without
    one."""
    smpte = side_data(frame, SideDataType.S12M_TIMECODE)
    if smpte is not None and len(smpte) >= 8:  # a count, then the first of up to three
        return smpte_text(int.from_bytes(smpte[4:8], "little"), fps)
    gop = int.from_bytes((side_data(frame, SideDataType.GOP_TIMECODE) or b"")[:4], "little")
    if not gop & _GOP_TIME:
        return None
    fields = (gop >> 19 & 0x1F, gop >> 13 & 0x3F, gop >> 6 & 0x3F, gop & 0x3F)
    return _text(fields, fps, drops=bool(gop >> 24 & 1))


def smpte_text(word: int, fps: Fraction) -> str:
    """What 32 bits of SMPTE ST 12-1 say, decimal digits in four bits each. Above 30 frames/s they
    count pairs, and a flag marks the second frame of one."""
    hours, minutes, seconds, frames = (
        (word >> shift & mask) // 16 * 10 + (word >> shift & 0xF)
        for shift, mask in ((0, 0x3F), (8, 0x7F), (16, 0x7F), (24, 0x3F))
    )
    if fps > 30:
        frames = 2 * frames + (word >> (7 if fps == 50 else 23) & 1)
    return _text((hours, minutes, seconds, frames), fps, drops=bool(word >> 30 & 1))


def _text(fields: tuple[int, ...], fps: Fraction, *, drops: bool) -> str:
    near = any(abs(fps - rate) < Fraction(1, 100) for rate in _DROPPING)
    hours, minutes, seconds, frames = (f"{field:02d}" for field in fields)
    return f"{hours}:{minutes}:{seconds}{';' if drops and near else ':'}{frames}"
