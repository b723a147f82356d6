"""How good a path is, in the words of `AutoCropStats`: measured on the windows that will be shown,
not on what was planned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.path import ShotTimeline, Wanted

_STILL_PX = 0.05
"""A window that moves less between two frames stands still: it cannot be seen."""
_ROUNDING_PX = 0.01
"""Of the windows."""


@dataclass(frozen=True)
class Quality:
    """The fields of `AutoCropStats` of the same names."""

    subject_frames: int = 0
    in_view: float | None = None
    mean_offset: float | None = None
    still: float = 0.0
    jerk: float = 0.0


def steadiness(windows: Floats, timeline: ShotTimeline) -> Quality:
    """What can be said of a path without a subject. Nothing is measured across the start of a shot.

    Args:
        windows: shape (n, 4): x, y, width, height in pixels.
    """
    times, starts = timeline.times, timeline.starts()
    if len(times) < 2:
        return Quality(still=1.0)
    steps = np.diff(windows, axis=0)[~starts[1:]]
    still = float((np.abs(steps) < _STILL_PX).all(1).mean()) if len(steps) else 1.0
    jerk = 0.0
    if len(times) > 3:
        # Of the middle: a window that grows around it does not move. In its own size at that time.
        third = (
            np.diff(windows[:, :2] + windows[:, 2:] / 2, 3, axis=0)
            / windows[1:-2, 2:]
            / np.diff(times)[:-2, None] ** 3
        )
        inside = ~(starts[1:-2] | starts[2:-1] | starts[3:])
        jerk = float(np.sqrt((third[inside] ** 2).sum(1).mean())) if inside.any() else 0.0
    return Quality(still=round(still, 4), jerk=round(jerk, 4))


def quality(
    windows: Floats,
    timeline: ShotTimeline,
    across: Wanted,
    down: Wanted,
    chosen: NDArray[np.bool_],
    lost: NDArray[np.bool_],
) -> Quality:
    """
    Args:
        windows: shape (n, 4).
        across, down: what was to be seen from left to right, and from top to bottom.
        chosen: shape (n,): frames that show a part of the image, and not the whole.
        lost: shape (n,): frames in which more was to be seen than any window of that size holds.
    """
    base = steadiness(windows, timeline)
    seen = np.isfinite(across.low) & chosen
    if not seen.any():
        return base
    x, y, width, height = windows[seen].T
    near = (across.low[seen] >= x - _ROUNDING_PX) & (down.low[seen] >= y - _ROUNDING_PX)
    far = (across.high[seen] <= x + width + _ROUNDING_PX) & (
        down.high[seen] <= y + height + _ROUNDING_PX
    )
    offset = np.abs((across.low[seen] + across.high[seen]) / 2 - x - width / 2) / width
    return replace(
        base,
        subject_frames=int(seen.sum()),
        in_view=round(float((near & far & ~lost[seen]).mean()), 4),
        mean_offset=round(float(offset.mean()), 4),
    )
