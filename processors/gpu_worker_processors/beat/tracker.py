"""The path of beats through an onset envelope: the best one over every tempo and phase, free to
follow a changing tempo.

A dynamic program after Ellis (Beat Tracking by Dynamic Programming, 2007) with the interval as part
of the state, as in the bar pointer model (Krebs, Boeck, Widmer 2015): exact, and computed for as
many frames at once as the shortest interval has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def best_path(
    strength: Doubles,
    salience: Doubles,
    step: int,
    intervals: NDArray[np.int64],
    stiffness: float,
) -> NDArray[np.int64]:
    """Frames of the beats, rising; those outside the audio are left out.

    Maximises the sum over beats of interval * (strength at the beat + salience of the interval
    there) minus `stiffness` times the squared change of tempo in octaves, in units of frames.

    Args:
        strength: how much like a beat each frame is, float64 of shape (frames,), about 0..1.
        salience: how likely each interval is, float64 of shape (frames // step + 1, intervals), 0
            and less.
        step: frames per row of `salience`.
        intervals: candidates, frames, rising, int64 of shape (intervals,), at most 256.
        stiffness: cost of a change.
    """
    total, shortest, longest = len(strength), int(intervals[0]), int(intervals[-1])
    log = np.log2(intervals)
    change = -stiffness * np.square(log[:, None] - log)  # [to, from]
    padded = np.concatenate([np.zeros(longest), strength, np.zeros(longest)])
    end = len(padded)
    ring = longest + shortest
    arrived = np.zeros(
        (ring, len(intervals))
    )  # best score of a path with a beat here, by the interval that follows
    came_by = np.zeros((end, len(intervals)), np.uint8)  # the interval before it; 36 MB an hour
    last = np.full((end - longest - total, len(intervals)), -np.inf)
    for first in range(longest, end, shortest):
        at = np.arange(first, min(first + shortest, end))
        before = at[:, None] - intervals
        covered = np.minimum(at, longest + total)[:, None] - np.clip(
            before, longest, longest + total
        )
        row = np.clip((at - longest) // step, 0, len(salience) - 1)
        score = arrived[before % ring, np.arange(len(intervals))]
        score = score + np.maximum(0, covered) * (padded[at, None] + salience[row])
        onward = score[:, None, :] + change
        came_by[at] = onward.argmax(axis=2)
        arrived[at % ring] = onward.max(axis=2)
        beyond = at >= longest + total
        if beyond.any():
            last[at[beyond] - longest - total] = score[beyond]
    return _trace(last, came_by, intervals, longest, total)


def _trace(
    last: Doubles,
    came_by: NDArray[np.uint8],
    intervals: NDArray[np.int64],
    longest: int,
    total: int,
) -> NDArray[np.int64]:
    row, state = np.unravel_index(int(last.argmax()), last.shape)
    at, beats = int(row) + longest + total, list[int]()
    state = int(state)
    while at >= longest:
        if at < longest + total:
            beats.append(at - longest)
        at -= int(intervals[state])
        if at >= longest:
            state = int(came_by[at, state])
    return np.array(beats[::-1], np.int64)
