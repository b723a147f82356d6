"""The plan of an auto_crop job, made before a frame of the output is rendered: a window and a
layout for every frame, who is followed and why, and how good the path is. Pure: the same tracks and
parameters give the same plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol.auto_crop import (
    AutoCropParams,
    CropKeyframe,
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
from gpu_worker_processors.auto_crop.in_view import (
    lost_frames,
    pinned_offsets,
    refused,
    wanted_in_view,
)
from gpu_worker_processors.auto_crop.layout import (
    Stretch,
    View,
    override_frames,
    overrides_of,
    stretches,
    views_of,
)
from gpu_worker_processors.auto_crop.metrics import Quality, quality, steadiness
from gpu_worker_processors.auto_crop.path import PathSettings, ShotTimeline, plan_axis
from gpu_worker_processors.auto_crop.subject import Focus, focus_on
from gpu_worker_processors.auto_crop.windows import (
    CropPath,
    path_of_keyframes,
    steps_of_keyframes,
    window_size,
)

_SHOWN_IDS = 50
"""Ids named in a message: enough to choose one."""


@dataclass(frozen=True)
class CropPlan:
    path: CropPath
    """A window for each frame; where the layout is not `crop`, one that is wider than the output's
    shape."""
    layouts: NDArray[np.str_] | None
    """Shape (n,): how each frame is shown. None with keyframes: the windows' shapes decide."""
    size: tuple[int, int]
    """Width and height of the window that fills the output, even pixels: where shots have bars of
    their own, the one of the most frames."""
    segments: tuple[CropSegment, ...]
    subject: CropSubject
    """The subject of the segments that take most of the time."""
    quality: Quality


def plan_crop(
    tracks: Sequence[SubjectTrack],
    timeline: ShotTimeline,
    frame: tuple[int, int],
    params: AutoCropParams,
    images: NDArray[np.int64] | None = None,
) -> CropPlan:
    """
    Args:
        tracks: of the whole video; not used when `params.keyframes` are given.
        timeline: at least one frame.
        frame: width and height of the upright frame, pixels.
        images: shape (shots, 4): x1, y1, x2, y2 of the part of the frame that each shot fills; None
            where no shot has bars.

    Raises:
        TaskError: `invalid_task`: an id that no track has, a keyframe or an override outside the
            image, no room for a window.
    """
    size = window_size(frame, params.aspect, params.zoom)
    if params.keyframes is not None:
        return _as_keyframes_say(params.keyframes, timeline, frame, size, params)
    if images is None:
        images = np.tile((0, 0, *frame), (len(timeline.shot_starts), 1))
    # From here on positions are those in the image of each shot, until the windows are placed.
    of_frames = images[timeline.shot_of()]
    corners, image_sizes = of_frames[:, :2], of_frames[:, 2:] - of_frames[:, :2]
    cast = Cast([_moved(track, corners) for track in tracks] if corners.any() else tracks)
    _check_overrides(cast, timeline, params)
    pieces = stretches(timeline, params)
    overrides = overrides_of(pieces, timeline, params)
    geometries = [_geometry(image_sizes[piece.start], timeline, params) for piece in pieces]
    foci = _foci(cast, pieces, overrides, geometries, params)
    views = views_of(pieces, foci, overrides, params.fallback, geometries)
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
    across, down = wanted_in_view(pieces, foci, views, timeline, geometries)
    for axis, wanted in enumerate((across, down)):
        wanted.pinned[:] = pinned_offsets(timeline, axis, frame, size, params) - corners[:, axis]
    settings = PathSettings(params.smoothing, params.padding, params.anticipation)
    short = (
        timeline.in_short_shots()
    )  # what the user asks for in mid-shot is shown, for however short a time
    x = plan_axis(across, seen, image_sizes[:, 0], sizes[:, 0], settings, short)
    y = plan_axis(down, seen, image_sizes[:, 1], sizes[:, 1], settings, short)
    path = CropPath.moving(x, y, sizes, image_sizes)
    chosen = (sizes != image_sizes).any(1)
    lost = np.concatenate([lost_frames(*one) for one in zip(foci, views, strict=True)])
    measured = quality(path.windows, seen, across, down, chosen, lost)
    path.windows[:, :2] += corners
    inside = [_without_bars(images[piece.shot], frame, params) for piece in pieces]
    segments = tuple(
        _segment(*one, timeline) for one in zip(pieces, foci, overrides, views, inside, strict=True)
    )
    frames_of = Counter[tuple[int, int]]()
    for geometry, frames in zip(geometries, lengths, strict=True):
        frames_of[geometry.window_width, geometry.window_height] += frames
    ((usual, _),) = frames_of.most_common(1)
    return CropPlan(path, layouts, usual, segments, _most_shown(segments), measured)


def _as_keyframes_say(
    keyframes: Sequence[CropKeyframe],
    timeline: ShotTimeline,
    frame: tuple[int, int],
    size: tuple[int, int],
    params: AutoCropParams,
) -> CropPlan:
    path = path_of_keyframes(keyframes, timeline, size, frame, normalised=params.normalised)
    steps = steps_of_keyframes(keyframes, path, timeline)
    seen = ShotTimeline(timeline.times, np.union1d(timeline.shot_starts, steps))
    subject, measured = CropSubject(reason="the keyframes say"), steadiness(path.windows, seen)
    return CropPlan(path, None, size, (), subject, measured)


def _moved(track: SubjectTrack, corners: NDArray[np.int64]) -> SubjectTrack:
    """The same with positions from each frame's corner, shape (n, 2)."""
    boxes = track.boxes - np.tile(corners[track.frames], 2).astype(np.float32)
    return replace(track, boxes=boxes)


def _geometry(
    image: NDArray[np.int64], timeline: ShotTimeline, params: AutoCropParams
) -> CropGeometry:
    times = timeline.times
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25.0
    width, height = image.tolist()
    size = window_size((width, height), params.aspect, params.zoom)
    return CropGeometry(width, height, *size, params.padding, float(fps))


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
            raise refused(
                f"params.overrides.{index}", f"begins after the last frame, at {last:.3f} seconds"
            )
        if start == stop:
            near = f"the next one is at {timeline.times[start]:.6f} seconds"
            raise refused(
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
        raise refused(path, problem)


def _foci(
    cast: Cast,
    pieces: Sequence[Stretch],
    overrides: Sequence[CropOverride | None],
    geometries: Sequence[CropGeometry],
    params: AutoCropParams,
) -> list[Focus]:
    foci, before, shot = list[Focus](), None, -1
    games = _games(cast, pieces, geometries[0].fps)
    for piece, override, geometry, is_game in zip(
        pieces, overrides, geometries, games, strict=True
    ):
        subject = (
            params.subject if override is None or override.subject is None else override.subject
        )
        if piece.shot != shot:
            before, shot = None, piece.shot
        seen = cast.seen(piece.start, piece.stop, subject)
        focus = focus_on(
            seen,
            piece.stop - piece.start,
            subject,
            geometry,
            before,
            is_game=is_game,
            framing=params.framing,
        )
        before = focus.members[0] if focus.members else before
        foci.append(focus)
    return foci


def _games(cast: Cast, pieces: Sequence[Stretch], fps: float) -> list[bool]:
    """Whether a ball is seen in each stretch, or in the one before or after it in the same shot."""
    has_ball = [
        cast.ball_frames(piece.start, piece.stop) >= GLIMPSE_SECONDS * fps for piece in pieces
    ]
    return [
        any(
            has_ball[near]
            for near in range(max(at - 1, 0), min(at + 2, len(pieces)))
            if pieces[near].shot == piece.shot
        )
        for at, piece in enumerate(pieces)
    ]


def _without_bars(
    image: NDArray[np.int64], frame: tuple[int, int], params: AutoCropParams
) -> tuple[float, float, float, float] | None:
    """`CropSegment.image`."""
    x1, y1, x2, y2 = image.tolist()
    if (x1, y1, x2, y2) == (0, 0, *frame):
        return None
    width, height = frame if params.normalised else (1, 1)
    return x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height


def _segment(
    piece: Stretch,
    focus: Focus,
    override: CropOverride | None,
    view: View,
    image: tuple[float, float, float, float] | None,
    timeline: ShotTimeline,
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
        image=image,
        subject=subject,
    )


def _shown_together(focus: Focus) -> tuple[tuple[int, ...], str]:
    if focus.oversize is None:
        return focus.members, f"{focus.reason}; wide as all of its shot"
    return tuple(dict.fromkeys((*focus.members, *focus.oversize.track_ids))), focus.oversize.reason


def _most_shown(segments: Sequence[CropSegment]) -> CropSubject:
    frames = dict[int | None, int]()
    for segment in segments:
        leader = segment.subject.track_id
        frames[leader] = frames.get(leader, 0) + segment.end_frame + 1 - segment.start_frame
    return max(
        (segment.subject for segment in segments), key=lambda subject: frames[subject.track_id]
    )
