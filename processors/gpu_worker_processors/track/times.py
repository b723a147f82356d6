"""The times of a video's frames in a few pairs: what a result says of a video whose frames are not
evenly spaced.

Accepts the time of every frame, rising. Guarantees that times read off the straight lines between
the pairs are so near the true ones that the nearest frame to them is the right one. Pure
arithmetic.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from math import inf

TOLERANCE = 0.25
"""Of the gap to the nearer neighbour: at half of it the frame before or after would be as near."""
MAX_PAIRS = 10_000
"""Some 200 kB of JSON. A recording whose gaps are all unlike needs more, and gets twice the
tolerance until it does not."""
_FRAMES_AHEAD = 256
"""Frames checked beyond the last possible end of a line before the line is ended there: keeps the
work linear."""


def time_pairs(seconds: Iterable[float]) -> list[tuple[int, float]]:
    """The pairs (frame, seconds), the first and the last frame among them.

    Args:
        seconds: time of each frame, rising.
    """
    times = array("d", seconds)
    tolerance = TOLERANCE
    while len(pairs := list(_pairs(times, tolerance))) > MAX_PAIRS:
        tolerance *= 2
    return pairs


def _pairs(times: array[float], tolerance: float) -> Iterator[tuple[int, float]]:
    start = 0
    if times:
        yield 0, times[0]
    while start < len(times) - 1:
        start = _line_end(times, start, tolerance)
        yield start, times[start]


def _line_end(times: array[float], start: int, tolerance: float) -> int:
    """The last frame to which a straight line from frame `start` passes all frames between within
    the tolerance."""
    end, lowest, highest = start + 1, -inf, inf
    for frame in range(start + 1, len(times)):
        count, way = frame - start, times[frame] - times[start]
        if lowest <= way / count <= highest:
            end = frame
        allowed = tolerance * _nearer_gap(times, frame)
        lowest, highest = (
            max(lowest, (way - allowed) / count),
            min(highest, (way + allowed) / count),
        )
        if lowest > highest or frame - end > _FRAMES_AHEAD:
            break
    return end


def _nearer_gap(times: array[float], frame: int) -> float:
    after = times[frame + 1] - times[frame] if frame + 1 < len(times) else inf
    return min(times[frame] - times[frame - 1], after)
