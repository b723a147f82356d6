"""How a shot is shown: through the window, or whole where the window would cut off someone who matters.

A layout holds for a whole shot: a change in its middle would look like a cut. Only where the user asked for something is that
shown, whatever the rest of the shot does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpu_worker_client.protocol.auto_crop import AutoCropParams, CropOverride, Layout
from gpu_worker_processors.auto_crop.path import Timeline
from gpu_worker_processors.auto_crop.subject import Focus

_STRETCH_SECONDS = 10.0
"""A subject is chosen for so long at most: in a recording of one shot the leader changes, and ids do not last."""
_SPREAD_SHARE = 1 / 3
"""Of a shot's frames: whoever would be missing for so long would be missed."""


@dataclass(frozen=True)
class Stretch:
    """Frames for which one subject is chosen: a shot, or part of a long one, or of one with an override."""

    shot: int
    start: int
    stop: int
    """One after the last frame."""


def stretches(timeline: Timeline, params: AutoCropParams) -> list[Stretch]:
    """All frames, in order, without gaps."""
    bounds = {len(timeline.times), *timeline.shot_starts.tolist()}
    for override in params.overrides:
        bounds.update(override_frames(timeline, override.start_time, override.end_time))
    for start, seconds in zip(timeline.shot_starts, timeline.seconds_of_shots(), strict=True):
        pieces = int(np.ceil(seconds / _STRETCH_SECONDS))
        inner = timeline.times[start] + seconds * np.arange(1, pieces) / max(pieces, 1)
        bounds.update(np.searchsorted(timeline.times, inner).tolist())
    marks, shot = sorted(bounds), timeline.shot_of()
    return [Stretch(int(shot[start]), start, stop) for start, stop in zip(marks, marks[1:], strict=False)]


def override_frames(timeline: Timeline, start_time: float, end_time: float) -> tuple[int, int]:
    """First frame, and one after the last, of a time."""
    start, stop = np.searchsorted(timeline.times, (start_time, end_time))
    return int(start), int(stop)


def overrides_of(pieces: Sequence[Stretch], timeline: Timeline, params: AutoCropParams) -> list[CropOverride | None]:
    """The one that holds in each stretch: the last in the user's list."""
    holds = np.full(len(timeline.times), -1)
    for index, override in enumerate(params.overrides):
        start, stop = override_frames(timeline, override.start_time, override.end_time)
        holds[start:stop] = index
    return [None if index < 0 else params.overrides[index] for index in holds[[piece.start for piece in pieces]].tolist()]


def layouts_of(
    pieces: Sequence[Stretch], foci: Sequence[Focus], overrides: Sequence[CropOverride | None], fallback: Layout
) -> list[Layout]:
    """How each stretch is shown: as an override says, else as its shot is."""
    shots = _layouts_of_shots(pieces, foci, fallback)
    return [
        shots[piece.shot] if override is None else override.layout or "crop"
        for piece, override in zip(pieces, overrides, strict=True)
    ]


def _layouts_of_shots(pieces: Sequence[Stretch], foci: Sequence[Focus], fallback: Layout) -> list[Layout]:
    """One layout for each shot: `fallback` where a good part of the shot's frames have subjects too far apart."""
    spread, total = dict[int, int](), dict[int, int]()
    for piece, focus in zip(pieces, foci, strict=True):
        length = piece.stop - piece.start
        total[piece.shot] = total.get(piece.shot, 0) + length
        spread[piece.shot] = spread.get(piece.shot, 0) + length * bool(focus.rivals)
    return [fallback if spread[shot] > _SPREAD_SHARE * total[shot] else "crop" for shot in sorted(total)]
