"""The plan of an auto_crop job, made before a frame of the output is rendered: a window and a
layout for every frame, who is followed and why, and how good the path is. Pure: the same tracks and
parameters give the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import (
    AutoCropParams,
    CropOverride,
    CropSegment,
    CropSubject,
)
from gpu_worker_processors.auto_crop.candidates import (
    GLIMPSE_SECONDS,
    Cast,
    CropGeometry,
    SubjectTrack,
)
from gpu_worker_processors.auto_crop.group_shot import SplitGroup
from gpu_worker_processors.auto_crop.importance import middle
from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.layout import (
    Stretch,
    View,
    override_frames,
    overrides_of,
    stretches,
    views_of,
)
from gpu_worker_processors.auto_crop.metrics import Quality, quality, steadiness
from gpu_worker_processors.auto_crop.path import PathSettings, ShotTimeline, Wanted, plan_axis
from gpu_worker_processors.auto_crop.subject import Focus, focus_on
from gpu_worker_processors.auto_crop.windows import (
    CropPath,
    path_of_keyframes,
    steps_of_keyframes,
    window_size,
)

_SHOWN_IDS = 50
"""Ids named in a message: enough to choose one."""
_CERTAIN_SHARE = 0.5
"""Of the window: as much of a subject that is larger is kept inside for certain. The other half
lets the window stand still."""
_HEADROOM_SHARE = 0.1
"""Of the window, above the head of whoever is taller than it."""


@dataclass(frozen=True)
class CropPlan:
    path: CropPath
    """A window for each frame; where the layout is not `crop`, one that is wider than the output's
    shape."""
    layouts: NDArray[np.str_] | None
    """Shape (n,): how each frame is shown. None with keyframes: the windows' shapes decide."""
    size: tuple[int, int]
    """Width and height of the window that fills the output, even pixels."""
    segments: tuple[CropSegment, ...]
    subject: CropSubject
    """Of the segments that take most of the time."""
    quality: Quality


def plan_crop(
    tracks: Sequence[SubjectTrack],
    timeline: ShotTimeline,
    frame: tuple[int, int],
    params: AutoCropParams,
) -> CropPlan:
    """
    Args:
        tracks: of the whole video; not looked at when `params.keyframes` are given.
        timeline: at least one frame.
        frame: width and height of the upright image, pixels.

    Raises:
        TaskError: `invalid_task`: an id that no track has, a keyframe or an override outside the
            image, no room for a window.
    """
    size = window_size(frame, params.aspect, params.zoom)
    if params.keyframes is not None:
        path = path_of_keyframes(
            params.keyframes, timeline, size, frame, normalised=params.normalised
        )
        steps = steps_of_keyframes(params.keyframes, path, timeline)
        seen = ShotTimeline(timeline.times, np.union1d(timeline.shot_starts, steps))
        return CropPlan(
            path,
            None,
            size,
            (),
            CropSubject(reason="the keyframes say"),
            steadiness(path.windows, seen),
        )
    cast = Cast(tracks)
    _check_overrides(cast, timeline, params)
    pieces = stretches(timeline, params)
    overrides = overrides_of(pieces, timeline, params)
    geometry = _geometry(frame, size, timeline, params)
    foci = _foci(cast, pieces, overrides, geometry, params)
    views = views_of(pieces, foci, overrides, params.fallback, geometry)
    lengths = [piece.stop - piece.start for piece in pieces]
    layouts, sizes = (
        np.repeat([view.layout for view in views], lengths),
        np.repeat([view.size for view in views], lengths, 0),
    )
    # A window that comes up in mid-shot need not come from anywhere: nobody saw where it was.
    changes = (layouts[1:] != layouts[:-1]) | (sizes[1:] != sizes[:-1]).any(1)
    seen = ShotTimeline(
        timeline.times, np.union1d(timeline.shot_starts, 1 + np.flatnonzero(changes))
    )
    across, down = _wanted(pieces, foci, views, timeline, geometry, params)
    settings = PathSettings(params.smoothing, params.padding, params.anticipation)
    short = (
        timeline.in_short_shots()
    )  # what the user asks for in mid-shot is shown, for however short a time
    x = plan_axis(across, seen, frame[0], sizes[:, 0], settings, short)
    y = plan_axis(down, seen, frame[1], sizes[:, 1], settings, short)
    path = CropPath.moving(x, y, sizes, frame)
    chosen = (sizes != frame).any(1)
    lost = np.concatenate([_lost(*one) for one in zip(foci, views, strict=True)])
    measured = quality(path.windows, seen, across, down, chosen, lost)
    segments = tuple(
        _segment(*one, timeline) for one in zip(pieces, foci, overrides, views, strict=True)
    )
    return CropPlan(path, layouts, size, segments, _most_shown(segments), measured)


def _geometry(
    frame: tuple[int, int], size: tuple[int, int], timeline: ShotTimeline, params: AutoCropParams
) -> CropGeometry:
    times = timeline.times
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25.0
    return CropGeometry(*frame, *size, params.padding, float(fps))


def _check_overrides(cast: Cast, timeline: ShotTimeline, params: AutoCropParams) -> None:
    """
    Raises:
        TaskError: `invalid_task`: an id that no track has, or an override in whose time no frame
            lies.
    """
    _check_id(cast, "params.subject", params.subject)
    last = timeline.times[-1]
    for index, override in enumerate(params.overrides):
        _check_id(cast, f"params.overrides.{index}.subject", override.subject)
        start, stop = override_frames(timeline, override.start_time, override.end_time)
        if start >= len(timeline.times):
            raise _refused(
                f"params.overrides.{index}", f"begins after the last frame, at {last:.3f} seconds"
            )
        if start == stop:
            near = f"the next one is at {timeline.times[start]:.6f} seconds"
            raise _refused(
                f"params.overrides.{index}",
                f"no frame lies between start_time and end_time; {near}",
            )


def _check_id(cast: Cast, path: str, subject: int | str | None) -> None:
    ids = cast.ids()
    if isinstance(subject, int) and subject not in ids:
        more = f", ... ({len(ids)} in all)" if len(ids) > _SHOWN_IDS else ""
        known = ", ".join(str(one) for one in ids[:_SHOWN_IDS])
        problem = (
            f"no track has this id; there are: {known}{more}"
            if ids
            else "no track has this id; nothing was tracked"
        )
        raise _refused(path, problem)


def _foci(
    cast: Cast,
    pieces: Sequence[Stretch],
    overrides: Sequence[CropOverride | None],
    geometry: CropGeometry,
    params: AutoCropParams,
) -> list[Focus]:
    foci, before, shot = list[Focus](), None, -1
    games = _games(cast, pieces, geometry)
    for piece, override, is_game in zip(pieces, overrides, games, strict=True):
        subject = (
            params.subject if override is None or override.subject is None else override.subject
        )
        if piece.shot != shot:
            before, shot = None, piece.shot
        seen = cast.seen(piece.start, piece.stop, subject)
        focus = focus_on(seen, piece.stop - piece.start, subject, geometry, before, is_game=is_game)
        before = focus.members[0] if focus.members else before
        foci.append(focus)
    return foci


def _games(cast: Cast, pieces: Sequence[Stretch], geometry: CropGeometry) -> list[bool]:
    """Whether a ball is seen in each stretch, or in the one before or after it in the same shot."""
    has_ball = [
        cast.ball_frames(piece.start, piece.stop) >= GLIMPSE_SECONDS * geometry.fps
        for piece in pieces
    ]
    return [
        any(
            has_ball[near]
            for near in range(max(at - 1, 0), min(at + 2, len(pieces)))
            if pieces[near].shot == piece.shot
        )
        for at, piece in enumerate(pieces)
    ]


def _wanted(
    pieces: Sequence[Stretch],
    foci: Sequence[Focus],
    views: Sequence[View],
    timeline: ShotTimeline,
    geometry: CropGeometry,
    params: AutoCropParams,
) -> tuple[Wanted, Wanted]:
    """What is to be seen from left to right, and from top to bottom."""
    frame, size = (geometry.width, geometry.height), (geometry.window_width, geometry.window_height)
    axes = Wanted.nothing(len(timeline.times)), Wanted.nothing(len(timeline.times))
    for piece, focus, view in zip(pieces, foci, views, strict=True):
        frames = slice(piece.start, piece.stop)
        core, middles, exact = _in_view(focus, view)
        for axis, wanted in enumerate(axes):
            low = np.clip(core[:, axis], 0, frame[axis])
            high = np.clip(core[:, axis + 2], 0, frame[axis])
            center = np.where(np.isfinite(core[:, 0]), middles[:, axis], np.nan)
            fitting = _head_first if axis else _middle_first
            wanted.low[frames], wanted.high[frames], wanted.center[frames] = fitting(
                low, high, center, view.size[axis]
            )
            wanted.exact[frames] = exact
    for index, override in enumerate(params.overrides):
        start, stop = override_frames(timeline, override.start_time, override.end_time)
        for axis, place in enumerate((override.x, override.y)):
            pinned = np.nan if place is None else _pinned(place, axis, index, frame, size, params)
            axes[axis].pinned[start:stop] = pinned
    return axes


def _in_view(focus: Focus, view: View) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """What must be inside, the place where the window's middle is wanted, and where it may take all
    the room: those who are apart in each frame in which a wide window holds them, else whoever is
    followed."""
    if focus.split_group is None or not view.holds_group_shot:
        return focus.core, focus.center, focus.exact
    boxes, held = focus.split_group.boxes, _held(focus.split_group, view)
    core, middles = (
        np.where(held[:, None], boxes, focus.core),
        np.where(held[:, None], middle(boxes), focus.center),
    )
    return core, middles, focus.exact & ~held


def _held(split_group: SplitGroup, view: View) -> NDArray[np.bool_]:
    """Frames in which some are seen and a window of that size holds them."""
    return np.asarray((split_group.boxes[:, 2:] - split_group.boxes[:, :2] <= view.size).all(1))


def _lost(focus: Focus, view: View) -> NDArray[np.bool_]:
    """Frames in which those for whom the window is widened are farther apart than it is wide."""
    if focus.split_group is None or not view.holds_group_shot:
        return np.zeros(len(focus.core), bool)
    return np.isfinite(focus.split_group.boxes[:, 0]) & ~_held(focus.split_group, view)


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


def _pinned(
    place: float,
    axis: int,
    index: int,
    frame: tuple[int, int],
    size: tuple[int, int],
    params: AutoCropParams,
) -> float:
    offset, end = place * frame[axis] if params.normalised else place, frame[axis] - size[axis]
    if offset > end + 0.02:
        most = f"{end / frame[axis]:.6f}" if params.normalised else f"{end} of {frame[axis]} pixels"
        name, length = ("x", "wide") if axis == 0 else ("y", "high")
        problem = f"the window is {size[axis]} pixels {length}, so {name} is at most {most}"
        raise _refused(f"params.overrides.{index}.{name}", problem)
    return offset


def _refused(path: str, problem: str) -> TaskError:
    return TaskError(
        ErrorCode.invalid_task, f"{path}: {problem}", errors=[{"path": path, "problem": problem}]
    )


def _segment(
    piece: Stretch, focus: Focus, override: CropOverride | None, view: View, timeline: ShotTimeline
) -> CropSegment:
    members, reason = focus.members, focus.reason
    if view.layout != "crop" or view.holds_group_shot:
        members, reason = _shown_together(focus)
    if override is not None and override.subject is None:
        reason = "the override says where" if override.layout is None else "the override says how"
    subject = CropSubject(
        track_id=members[0] if members else None,
        class_name=focus.class_name,
        track_ids=list(members),
        reason=reason,
        confidence=round(focus.confidence, 3),
    )
    return CropSegment(
        shot=piece.shot,
        start_frame=piece.start,
        end_frame=piece.stop - 1,
        start_time=round(float(timeline.times[piece.start]), 6),
        end_time=round(float(timeline.times[piece.stop - 1]), 6),
        layout=view.layout,
        subject=subject,
    )


def _shown_together(focus: Focus) -> tuple[tuple[int, ...], str]:
    if focus.split_group is None:
        return focus.members, f"{focus.reason}; wide as all of its shot"
    return tuple(
        dict.fromkeys((*focus.members, *focus.split_group.track_ids))
    ), focus.split_group.reason


def _most_shown(segments: Sequence[CropSegment]) -> CropSubject:
    frames = dict[int | None, int]()
    for segment in segments:
        leader = segment.subject.track_id
        frames[leader] = frames.get(leader, 0) + segment.end_frame + 1 - segment.start_frame
    return max(
        (segment.subject for segment in segments), key=lambda subject: frames[subject.track_id]
    )
