"""From cuts to scenes: pure arithmetic over frame times, no frame and no file.

Frame indices are the decoder's (0-based, display order) and times come from timestamps, so nothing
drifts at 23.976 frames/s or at a variable rate.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

from gpu_worker_client.protocol import Scene

_JITTER_TICKS = 2
"""Matroska rounds to milliseconds, so constant 23.976 frames/s alternates between 41 and 42
ticks."""
_JITTER_SHARE = Fraction(1, 100)
"""Steps that differ by less than one percent of a frame are a constant rate written inexactly."""


class FrameTimes:
    """The timestamps of all frames of one video: 8 bytes a frame."""

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self._ticks = array("q")
        self._last_duration_ticks = 0

    def add(self, pts: int, duration_ticks: int) -> None:
        """The next frame. `pts` must rise; `duration_ticks` may be 0 for "not stated"."""
        self._ticks.append(pts)
        self._last_duration_ticks = duration_ticks

    def __len__(self) -> int:
        return len(self._ticks)

    def pts(self, index: int) -> int:
        """Timestamp of a frame, in ticks."""
        return self._ticks[index]

    def seconds(self, index: int) -> float:
        """Time of a frame, from the first frame."""
        return round(float((self._ticks[index] - self._ticks[0]) * self.time_base), 6)

    def index_of(self, pts: int) -> int:
        """The frame with that timestamp."""
        return bisect_left(self._ticks, pts)

    @property
    def duration_seconds(self) -> float:
        """From the first frame to the end of the last. A last frame that states no duration lasts
        as long as the one before."""
        last = self._last_duration_ticks or (
            self._ticks[-1] - self._ticks[-2] if len(self._ticks) > 1 else 0
        )
        return round(float((self._ticks[-1] + last - self._ticks[0]) * self.time_base), 6)

    @property
    def is_vfr(self) -> bool:
        """Whether the distance between frames varies by more than rounding."""
        if len(self._ticks) < 3:
            return False
        steps = [b - a for a, b in zip(self._ticks, self._ticks[1:], strict=False)]
        allowed = max(_JITTER_TICKS, float(_JITTER_SHARE) * sum(steps) / len(steps))
        return max(steps) - min(steps) > allowed


def scenes_between(cuts: Sequence[int], times: FrameTimes) -> list[Scene]:
    """The scenes of a video.

    Args:
        cuts: first frames of new scenes, rising, without 0.
        times: of all frames, at least one.
    """
    starts = [0, *cuts]
    ends = [*(cut - 1 for cut in cuts), len(times) - 1]
    return [
        Scene(
            start_frame=start,
            end_frame=end,
            start_time=times.seconds(start),
            end_time=times.seconds(end),
        )
        for start, end in zip(starts, ends, strict=True)
    ]
