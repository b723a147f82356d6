"""The plan of an auto_crop job, made before a frame of the output is rendered: a window and a layout for every frame, who is
followed and why, and how good the path is. Pure: the same tracks and parameters give the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import AutoCropParams, CropSegment, CropSubject, Layout
from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.layout import Stretch, layouts_of_shots, override_frames, overrides_of, stretches
from gpu_worker_processors.auto_crop.path import PathSettings, Timeline, Wanted, plan_axis
from gpu_worker_processors.auto_crop.subject import Cast, Focus, Picture, SubjectTrack, focus_on
from gpu_worker_processors.auto_crop.windows import CropPath, path_of_keyframes, window_size

_SHOWN_IDS = 50
"""Ids named in a message: enough to choose one."""
_KEPT_SHARE = 0.5
"""Of the window: as much of a subject that is larger is kept inside for certain. The other half lets the window stand still."""
_HEADROOM_SHARE = 0.1
"""Of the window, above the head of whoever is taller than it."""
_STILL_PX = 0.05
"""A window that moves less between two frames stands still: it cannot be seen."""


@dataclass(frozen=True)
class Quality:
    """How good a path is, in the words of `AutoCropStats`."""

    subject_frames: int = 0
    in_view: float | None = None
    mean_offset: float | None = None
    still: float = 0.0
    jerk: float = 0.0


@dataclass(frozen=True)
class CropPlan:
    path: CropPath
    """A window for each frame; the whole picture where the layout is not `crop`."""
    layouts: tuple[Layout, ...]
    """One for each shot; empty with keyframes."""
    whole: NDArray[np.bool_] | None
    """Shape (n,): the frames that are shown whole, as `fallback` says. None with keyframes: the windows' shapes decide."""
    size: tuple[int, int]
    """Width and height of the moving window, even pixels."""
    segments: tuple[CropSegment, ...]
    subject: CropSubject
    """Of the segments that take most of the time."""
    quality: Quality


def plan_crop(tracks: Sequence[SubjectTrack], timeline: Timeline, frame: tuple[int, int], params: AutoCropParams) -> CropPlan:
    """
    Args:
        tracks: of the whole video; not looked at when `params.keyframes` are given.
        timeline: at least one frame.
        frame: width and height of the upright picture, pixels.

    Raises:
        TaskError: `invalid_task`: an id that no track has, a keyframe or an override outside the picture, no room for a window.
    """
    size = window_size(frame, params.aspect, params.zoom)
    if params.keyframes is not None:
        path = path_of_keyframes(params.keyframes, timeline, size, frame, normalised=params.normalised)
        return CropPlan(path, (), None, size, (), CropSubject(reason="the keyframes say"), _steadiness(path, timeline, size))
    cast = Cast(tracks)
    _check_ids(cast, params)
    pieces = stretches(timeline, params)
    foci = _foci(cast, pieces, timeline, _picture(frame, size, timeline, params), params)
    layouts = layouts_of_shots(pieces, foci, params.fallback)
    shown: list[Layout] = ["crop" if overrides_of(piece, timeline, params) else layouts[piece.shot] for piece in pieces]
    whole = np.repeat([layout != "crop" for layout in shown], [piece.stop - piece.start for piece in pieces])
    # A window that comes up in mid-shot need not come from anywhere: nobody saw where it was.
    seen = Timeline(timeline.times, np.union1d(timeline.shot_starts, 1 + np.flatnonzero(np.diff(whole))))
    across, down = _wanted(pieces, foci, timeline, frame, size, params)
    settings = PathSettings(params.smoothing, params.padding, params.anticipation)
    x = plan_axis(across, seen, frame[0], size[0], settings)
    y = plan_axis(down, seen, frame[1], size[1], settings)
    path = CropPath.moving(x, y, size, frame)
    path.windows[whole] = (0, 0, *frame)
    quality = _quality(path, seen, size, across, down, whole)
    segments = tuple(_segment(*one, timeline) for one in zip(pieces, foci, shown, strict=True))
    return CropPlan(path, tuple(layouts), whole, size, segments, _most_shown(segments), quality)


def _picture(frame: tuple[int, int], size: tuple[int, int], timeline: Timeline, params: AutoCropParams) -> Picture:
    times = timeline.times
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25.0
    return Picture(*frame, *size, params.padding, float(fps))


def _check_ids(cast: Cast, params: AutoCropParams) -> None:
    ids = cast.ids()
    asked = [("params.subject", params.subject)]
    asked += [(f"params.overrides.{index}.subject", override.subject) for index, override in enumerate(params.overrides)]
    for path, subject in asked:
        if isinstance(subject, int) and subject not in ids:
            more = f", ... ({len(ids)} in all)" if len(ids) > _SHOWN_IDS else ""
            known = ", ".join(str(one) for one in ids[:_SHOWN_IDS])
            problem = f"no track has this id; there are: {known}{more}" if ids else "no track has this id; nothing was tracked"
            raise _refused(path, problem)


def _foci(cast: Cast, pieces: Sequence[Stretch], timeline: Timeline, picture: Picture, params: AutoCropParams) -> list[Focus]:
    foci, before, shot = list[Focus](), None, -1
    for piece in pieces:
        here = overrides_of(piece, timeline, params)
        subject = next((one.subject for one in reversed(here) if one.subject is not None), params.subject)
        if piece.shot != shot:
            before, shot = None, piece.shot
        focus = focus_on(cast.seen(piece.start, piece.stop), piece.stop - piece.start, subject, picture, before)
        before = focus.members[0] if focus.members else before
        foci.append(replace(focus, reason="the override says where") if here and here[-1].x is not None else focus)
    return foci


def _wanted(
    pieces: Sequence[Stretch],
    foci: Sequence[Focus],
    timeline: Timeline,
    frame: tuple[int, int],
    size: tuple[int, int],
    params: AutoCropParams,
) -> tuple[Wanted, Wanted]:
    """What is to be seen from left to right, and from top to bottom."""
    axes = Wanted.nothing(len(timeline.times)), Wanted.nothing(len(timeline.times))
    for piece, focus in zip(pieces, foci, strict=True):
        frames = slice(piece.start, piece.stop)
        for axis, wanted in enumerate(axes):
            low = np.clip(focus.core[:, axis], 0, frame[axis])
            high = np.clip(focus.core[:, axis + 2], 0, frame[axis])
            center = np.where(np.isfinite(focus.core[:, 0]), focus.center[:, axis], np.nan)
            fitting = _head_first(low, high, center, size[1]) if axis else _middle_first(low, high, center, size[0])
            wanted.low[frames], wanted.high[frames], wanted.center[frames] = fitting
    for index, override in enumerate(params.overrides):
        start, stop = override_frames(timeline, override.start_time, override.end_time)
        if start >= len(timeline.times):
            raise _refused(f"params.overrides.{index}", f"begins after the last frame, at {timeline.times[-1]:.3f} seconds")
        axes[0].pinned[start:stop] = np.nan
        if override.x is not None:
            axes[0].pinned[start:stop] = _pinned(override.x, index, frame, size, params)
    return axes


def _head_first(low: Floats, high: Floats, center: Floats, window: int) -> tuple[Floats, Floats, Floats]:
    """From top to bottom: of whoever is taller than the window its upper part, with room above and freedom below, so that the
    head stays and the window need not move with every raised arm."""
    tall = high - low > window
    return (
        low,
        np.where(tall, low + _KEPT_SHARE * window, high),
        np.where(tall, low + (0.5 - _HEADROOM_SHARE) * window, center),
    )


def _middle_first(low: Floats, high: Floats, center: Floats, window: int) -> tuple[Floats, Floats, Floats]:
    """From left to right: of whoever is wider than the window the middle."""
    wide, middle, half = high - low > window, (low + high) / 2, _KEPT_SHARE * window / 2
    return np.where(wide, middle - half, low), np.where(wide, middle + half, high), np.where(wide, middle, center)


def _pinned(x: float, index: int, frame: tuple[int, int], size: tuple[int, int], params: AutoCropParams) -> float:
    offset = x * frame[0] if params.normalised else x
    if offset > frame[0] - size[0] + 0.02:
        end = frame[0] - size[0]
        most = f"{end / frame[0]:.6f}" if params.normalised else f"{end} of {frame[0]} pixels"
        raise _refused(f"params.overrides.{index}.x", f"the window is {size[0]} pixels wide, so x is at most {most}")
    return offset


def _refused(path: str, problem: str) -> TaskError:
    return TaskError(ErrorCode.invalid_task, f"{path}: {problem}", errors=[{"path": path, "problem": problem}])


def _segment(piece: Stretch, focus: Focus, layout: Layout, timeline: Timeline) -> CropSegment:
    subject = CropSubject(
        track_id=focus.members[0] if focus.members else None,
        class_name=focus.class_name,
        track_ids=list(focus.members),
        reason=focus.reason,
        confidence=round(focus.confidence, 3),
    )
    return CropSegment(
        shot=piece.shot,
        start_frame=piece.start,
        end_frame=piece.stop - 1,
        start_time=round(float(timeline.times[piece.start]), 6),
        end_time=round(float(timeline.times[piece.stop - 1]), 6),
        layout=layout,
        subject=subject,
    )


def _most_shown(segments: Sequence[CropSegment]) -> CropSubject:
    frames = dict[int | None, int]()
    for segment in segments:
        leader = segment.subject.track_id
        frames[leader] = frames.get(leader, 0) + segment.end_frame + 1 - segment.start_frame
    return max((segment.subject for segment in segments), key=lambda subject: frames[subject.track_id])


def _steadiness(path: CropPath, timeline: Timeline, size: tuple[int, int]) -> Quality:
    """What can be said of a path without a subject. Derivatives are taken within shots."""
    times, starts = timeline.times, timeline.starts()
    if len(times) < 2:
        return Quality(still=1.0)
    steps = np.diff(path.windows[:, :2], axis=0)[~starts[1:]]
    still = float((np.abs(steps) < _STILL_PX).all(1).mean()) if len(steps) else 1.0
    jerk = 0.0
    if len(times) > 3:
        step = np.diff(times)[:-2, None]
        third = np.diff(path.windows[:, :2] / size, 3, axis=0) / step**3
        inside = ~(starts[1:-2] | starts[2:-1] | starts[3:])
        jerk = float(np.sqrt((third[inside] ** 2).sum(1).mean())) if inside.any() else 0.0
    return Quality(still=round(still, 4), jerk=round(jerk, 4))


def _quality(
    path: CropPath, timeline: Timeline, size: tuple[int, int], across: Wanted, down: Wanted, whole: NDArray[np.bool_]
) -> Quality:
    base = _steadiness(path, timeline, size)
    seen = np.isfinite(across.low) & ~whole
    if not seen.any():
        return base
    x, y = path.windows[seen, 0], path.windows[seen, 1]
    near = (across.low[seen] >= x - 0.01) & (down.low[seen] >= y - 0.01)
    far = (across.high[seen] <= x + size[0] + 0.01) & (down.high[seen] <= y + size[1] + 0.01)
    middle = (across.low[seen] + across.high[seen]) / 2
    offset = float(np.abs(middle - x - size[0] / 2).mean() / size[0])
    return Quality(int(seen.sum()), round(float((near & far).mean()), 4), round(offset, 4), base.still, base.jerk)
