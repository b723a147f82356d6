"""What the window must show, along each axis and in each frame: whoever is followed, or the group
that it is widened for, or what the user put it over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_processors.auto_crop.candidates import CropGeometry
from gpu_worker_processors.auto_crop.group_shot import Oversize
from gpu_worker_processors.auto_crop.importance import middle
from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.layout import Stretch, View, override_frames
from gpu_worker_processors.auto_crop.path import ShotTimeline, Wanted
from gpu_worker_processors.auto_crop.subject import Focus

_CERTAIN_SHARE = 0.5
"""A subject that is larger than the window is certain to fill this share of it. The other half lets
the window stand still."""
_HEADROOM_SHARE = 0.1
"""Room above the head of a person taller than the window, as a share of the window."""


def wanted_in_view(
    pieces: Sequence[Stretch],
    foci: Sequence[Focus],
    views: Sequence[View],
    timeline: ShotTimeline,
    geometries: Sequence[CropGeometry],
) -> tuple[Wanted, Wanted]:
    """What is to be seen from left to right, and from top to bottom."""
    axes = Wanted.nothing(len(timeline.times)), Wanted.nothing(len(timeline.times))
    for piece, focus, view, geometry in zip(pieces, foci, views, geometries, strict=True):
        image = geometry.width, geometry.height
        frames = slice(piece.start, piece.stop)
        core, middles, exact = _in_view(focus, view)
        for axis, wanted in enumerate(axes):
            low = np.clip(core[:, axis], 0, image[axis])
            high = np.clip(core[:, axis + 2], 0, image[axis])
            center = np.where(np.isfinite(core[:, 0]), middles[:, axis], np.nan)
            fitting = _head_first if axis else _middle_first
            wanted.low[frames], wanted.high[frames], wanted.center[frames] = fitting(
                low, high, center, view.size[axis]
            )
            wanted.exact[frames] = exact
    return axes


def _in_view(focus: Focus, view: View) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The box that must be inside, where the window's middle is wanted, and whether the box may
    take all the room; each by frame. In a wide view the box is that of the whole group in the
    frames in which the window holds it. In all other frames it is that of the subject that is
    followed."""
    if focus.oversize is None or not view.holds_group_shot:
        return focus.core, focus.center, focus.exact
    boxes, held = focus.oversize.boxes, _held(focus.oversize, view)
    core, middles = (
        np.where(held[:, None], boxes, focus.core),
        np.where(held[:, None], middle(boxes), focus.center),
    )
    return core, middles, focus.exact & ~held


def _held(oversize: Oversize, view: View) -> NDArray[np.bool_]:
    """Frames in which some are seen and a window of that size holds them."""
    return np.asarray((oversize.boxes[:, 2:] - oversize.boxes[:, :2] <= view.size).all(1))


def lost_frames(focus: Focus, view: View) -> NDArray[np.bool_]:
    """Frames in which the group that the window is widened for is still larger than the window."""
    if focus.oversize is None or not view.holds_group_shot:
        return np.zeros(len(focus.core), bool)
    return np.isfinite(focus.oversize.boxes[:, 0]) & ~_held(focus.oversize, view)


def _head_first(
    low: Floats, high: Floats, center: Floats, window: int
) -> tuple[Floats, Floats, Floats]:
    """From top to bottom: of whoever is taller than the window its upper part, with room above and
    freedom below, so that the head stays and the window need not move with every raised arm."""
    tall = high - low > window
    return (
        low,
        np.where(tall, low + _CERTAIN_SHARE * window, high),
        np.where(tall, low + (0.5 - _HEADROOM_SHARE) * window, center),
    )


def _middle_first(
    low: Floats, high: Floats, center: Floats, window: int
) -> tuple[Floats, Floats, Floats]:
    """From left to right: of whoever is wider than the window the middle."""
    wide, middle, half = high - low > window, (low + high) / 2, _CERTAIN_SHARE * window / 2
    return (
        np.where(wide, middle - half, low),
        np.where(wide, middle + half, high),
        np.where(wide, middle, center),
    )


def pinned_offsets(
    timeline: ShotTimeline,
    axis: int,
    frame: tuple[int, int],
    size: tuple[int, int],
    params: AutoCropParams,
) -> Floats:
    """Where the overrides put the window, shape (n,); NaN where they do not."""
    pinned = np.full(len(timeline.times), np.nan)
    for index, override in enumerate(params.overrides):
        start, stop = override_frames(timeline, override.start_time, override.end_time)
        position = override.y if axis else override.x
        pinned[start:stop] = (
            np.nan if position is None else _offset(position, axis, index, frame, size, params)
        )
    return pinned


def _offset(
    position: float,
    axis: int,
    index: int,
    frame: tuple[int, int],
    size: tuple[int, int],
    params: AutoCropParams,
) -> float:
    offset, end = (
        position * frame[axis] if params.normalised else position,
        frame[axis] - size[axis],
    )
    if offset > end + 0.02:
        most = f"{end / frame[axis]:.6f}" if params.normalised else f"{end} of {frame[axis]} pixels"
        name, length = ("x", "wide") if axis == 0 else ("y", "high")
        problem = f"the window is {size[axis]} pixels {length}, so {name} is at most {most}"
        raise refused(f"params.overrides.{index}.{name}", problem)
    return offset


def refused(path: str, problem: str) -> TaskError:
    return TaskError(
        ErrorCode.invalid_task, f"{path}: {problem}", errors=[{"path": path, "problem": problem}]
    )
