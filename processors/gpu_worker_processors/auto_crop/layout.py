"""How a shot is shown: through the user's window, or a wider one with bars where that would cut off
someone who matters.

A view holds for a whole shot: a change in its middle would seem a cut. Only where the user
asked for something is that shown, whatever the rest of the shot does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpu_worker_client.protocol.auto_crop import AutoCropParams, CropOverride, Layout
from gpu_worker_processors.auto_crop.candidates import PAIR_PX, CropGeometry
from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.path import ROOM, ShotTimeline
from gpu_worker_processors.auto_crop.subject import Focus
from gpu_worker_processors.auto_crop.windows import SAME_ASPECT

_STRETCH_SECONDS = 10.0
"""A subject is chosen for so long at most: in a recording of one shot the leader changes, and ids
do not last."""
_SPREAD_SHARE = 1 / 3
"""A shot is shown wider when someone who matters would be missing in this share of its frames."""
_HELD_SHARE = 0.98
"""The wide window holds the group in this share of the frames in which the user's window does not:
a leap of one box does not widen it for the whole shot."""


@dataclass(frozen=True)
class Stretch:
    """Frames for which one subject is chosen: a shot, or part of a long one, or of one with an
    override."""

    shot: int
    start: int
    stop: int
    """One after the last frame."""


def stretches(timeline: ShotTimeline, params: AutoCropParams) -> list[Stretch]:
    """All frames, in order, without gaps."""
    bounds = {len(timeline.times), *timeline.shot_starts.tolist()}
    for override in params.overrides:
        bounds.update(override_frames(timeline, override.start_time, override.end_time))
    for start, seconds in zip(timeline.shot_starts, timeline.seconds_of_shots(), strict=True):
        pieces = int(np.ceil(seconds / _STRETCH_SECONDS))
        inner = timeline.times[start] + seconds * np.arange(1, pieces) / max(pieces, 1)
        bounds.update(np.searchsorted(timeline.times, inner).tolist())
    marks, shot = sorted(bounds), timeline.shot_of()
    return [
        Stretch(int(shot[start]), start, stop)
        for start, stop in zip(marks, marks[1:], strict=False)
    ]


def override_frames(timeline: ShotTimeline, start_time: float, end_time: float) -> tuple[int, int]:
    """First frame, and one after the last, of a time."""
    start, stop = np.searchsorted(timeline.times, (start_time, end_time))
    return int(start), int(stop)


def overrides_of(
    pieces: Sequence[Stretch], timeline: ShotTimeline, params: AutoCropParams
) -> list[CropOverride | None]:
    """The one that holds in each stretch: the last in the user's list."""
    holds = np.full(len(timeline.times), -1)
    for index, override in enumerate(params.overrides):
        start, stop = override_frames(timeline, override.start_time, override.end_time)
        holds[start:stop] = index
    return [
        None if index < 0 else params.overrides[index]
        for index in holds[[piece.start for piece in pieces]].tolist()
    ]


@dataclass(frozen=True)
class View:
    """How a stretch is shown."""

    layout: Layout
    size: tuple[int, int]
    """Width and height of the window, pixels: the user's, a wider one, or the whole image."""
    holds_group_shot: bool = False
    """The window is wide for the sake of those who do not fit into the user's together."""


def views_of(
    pieces: Sequence[Stretch],
    foci: Sequence[Focus],
    overrides: Sequence[CropOverride | None],
    fallback: Layout,
    geometries: Sequence[CropGeometry],
) -> list[View]:
    """How each stretch is shown: as an override says, else as its shot is."""
    # An exception for some time says nothing of the rest of its shot.
    usually = [
        (piece, focus, geometry)
        for piece, focus, override, geometry in zip(
            pieces, foci, overrides, geometries, strict=True
        )
        if override is None
    ]
    wide = {} if fallback == "crop" else _wide_shots(usually, fallback)
    views = list[View]()
    for piece, override, geometry in zip(pieces, overrides, geometries, strict=True):
        view = View("crop", (geometry.window_width, geometry.window_height))
        if override is None:
            view = wide.get(piece.shot, view)
        elif override.layout not in (None, "crop"):
            view = View(override.layout, (geometry.width, geometry.height))
        views.append(view)
    return views


def _wide_shots(
    usually: Sequence[tuple[Stretch, Focus, CropGeometry]], fallback: Layout
) -> dict[int, View]:
    """A wider view for each shot in which people who matter often do not fit into one window."""
    total, rooms = dict[int, int](), dict[int, list[Floats]]()
    for piece, focus, _ in usually:
        total[piece.shot] = total.get(piece.shot, 0) + piece.stop - piece.start
        if focus.oversize is not None:
            rooms.setdefault(piece.shot, []).append(focus.oversize.room)
    many = {shot: np.concatenate(room) for shot, room in rooms.items()}
    geometries = {piece.shot: geometry for piece, _, geometry in usually}
    return {
        shot: _wide(room, fallback, geometries[shot])
        for shot, room in many.items()
        if len(room) > _SPREAD_SHARE * total[shot]
    }


def _wide(room: Floats, fallback: Layout, geometry: CropGeometry) -> View:
    """The smallest window of the user's shape that holds nearly every `room`, shape (k, 2), with
    some to spare; cut off where the image ends, and therefore shown over a background there."""
    frame, window = (
        (geometry.width, geometry.height),
        (geometry.window_width, geometry.window_height),
    )
    needed = np.minimum(np.nanquantile(room, _HELD_SHARE, axis=0) / (1 - ROOM), frame)
    growth = max(1.0, float((needed / window).max()))
    sides = [
        (2 * int(np.ceil(side * growth / 2)), limit)
        for side, limit in zip(window, frame, strict=True)
    ]
    width, height = (limit if side > limit - PAIR_PX else side for side, limit in sides)
    is_cut = (np.multiply(window, growth) / frame).max() > 1 + SAME_ASPECT
    return View(fallback if is_cut else "crop", (width, height), holds_group_shot=True)
