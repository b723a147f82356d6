"""Timestamps of copied packets that a muxer takes: each later than the one before, and audio in
step with the video where files were joined or a live stream stuttered. Matroska takes equal ones,
as those of TrueHD's packets of 0.8 ms in its milliseconds.

Nothing is decoded: a packet keeps its time, moves to the end of the one before it, or, where the
same moments were recorded twice, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from gpu_worker_processors.media.clock import ClockJump

_JITTER_SECONDS = Fraction(1, 10)
"""Audio that overlaps by less goes on where the audio before it ends: ffmpeg's own number for what
it does not mend by a cut (aresample's `min_hard_comp`)."""
_NEW_CLOCK_SECONDS = 1
"""Audio that lies farther back belongs to another clock: nothing was recorded twice."""
_JOINT_SECONDS = 1
"""For so long after a jump of the clock an overlap of half a packet counts, so that those of many
joints do not add up."""


class RisingTimes:
    """The times of one copied stream.

    Args:
        jumps: what was bridged in the file so far; it grows while the file is read.
        muxer: FFmpeg's name of the output's format.
    """

    def __init__(self, jumps: Sequence[ClockJump], muxer: str, *, is_audio: bool) -> None:
        self._least_step = 0 if muxer == "matroska" else 1
        self._jumps = jumps
        self._jumps_seen = 0
        self._is_audio = is_audio
        self._strict_until: Fraction | None = None
        self._moved = 0
        """Ticks that a new clock is behind."""
        self._last: int | None = None
        self._end = 0

    def take(self, packet: Any) -> bool:
        """Sets the packet's times; False where it is to be left out."""
        at = (packet.dts if packet.dts is not None else packet.pts) + self._moved
        shown_later = 0 if packet.pts is None or self._is_audio else packet.pts + self._moved - at
        length = packet.duration or 0
        if self._last is not None:
            if self._is_audio and self._end - at > length / 2:
                overlap = (self._end - at) * packet.time_base
                if overlap > _NEW_CLOCK_SECONDS:
                    self._moved += self._end - at
                elif overlap > _JITTER_SECONDS or self._is_after_a_joint(at * packet.time_base):
                    return False
                at = self._end
            at = max(at, self._last + self._least_step)
        packet.dts, packet.pts = at, at + max(0, shown_later)
        self._last, self._end = at, at + length
        return True

    def _is_after_a_joint(self, at: Fraction) -> bool:
        if len(self._jumps) > self._jumps_seen:
            self._jumps_seen = len(self._jumps)
            self._strict_until = at + _JOINT_SECONDS
        return self._strict_until is not None and at < self._strict_until
