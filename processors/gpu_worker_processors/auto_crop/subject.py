"""Who is followed: out of all tracks, the subject of each stretch of video, and why.

Accepts tracks as arrays and the frames of one stretch, and returns what the window must hold and where it is wanted, frame by
frame. Nothing depends on the order of the tracks. A ball with people around it leads; else the most important person by
presence, size, activity and nearness to the ball; people who all fit into the window are taken in together. Whoever led the
stretch before keeps the lead unless another is clearly ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.l1 import Floats

BALL_CLASSES = frozenset({"sports ball", "ball", "frisbee"})
"""COCO's names of what a game follows, and the plain word."""
_BALL_SHARE = 0.3
"""Of a stretch's frames in which a ball must be seen to lead: a small fast ball is missed more often than not."""
_BALL_GAP_FRAMES_SHARE = 0.1
"""Of a stretch: a ball missed for longer leaves the window to the leading person."""
_PRESENT_SHARE = 0.3
"""Of a stretch's frames in which a person must be seen to count."""
_IMPORTANT = 0.5
"""Of the leader's score."""
_FITS_SHARE = 0.9
"""Of the frames in which a group must fit into the window to be taken in together."""
_FEW = 3
"""People who do not fit: so many are a conversation, of which nobody may be lost; more are a crowd, of which the leader and
those around are shown."""
_STAYS = 1.3
"""The lead of whoever led before: another must be so much more important to take over in mid-shot."""
_AROUND = 8
"""People looked at when the window is filled around a leader."""


@dataclass(frozen=True)
class SubjectTrack:
    """One thing that may be followed."""

    track_id: int
    class_name: str
    frames: NDArray[np.int64]
    """Shape (n,), rising: 0-based, display order."""
    boxes: NDArray[np.float32]
    """Shape (n, 4): x1, y1, x2, y2 in pixels of the upright frame."""
    scores: NDArray[np.float32]
    """Shape (n,), 0..1."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        assert self.boxes.shape == (count, 4), self.boxes.shape
        assert self.scores.shape == (count,), self.scores.shape


@dataclass(frozen=True)
class Picture:
    """What the window is cut from. Pixels."""

    width: int
    height: int
    window_width: int
    window_height: int
    padding: float
    """As the task's."""
    fps: float

    def holds(self, boxes: Floats) -> NDArray[np.bool_]:
        """Whether boxes, shape (..., 4), fit into the window with their padding; False where NaN."""
        size = boxes[..., 2:] - boxes[..., :2]
        fits = size * (1 + 2 * self.padding) <= (self.window_width, self.window_height)
        return np.asarray(fits.all(-1))


@dataclass(frozen=True)
class Focus:
    """The subject of one stretch of k frames."""

    core: Floats
    """Shape (k, 4): the box that must be inside; NaN where nothing is seen."""
    center: Floats
    """Shape (k, 2): where the window's middle is wanted; NaN where nothing is seen."""
    members: tuple[int, ...] = ()
    """Track ids taken in, the leader first."""
    class_name: str | None = None
    """Of the leader."""
    reason: str = "nobody is seen"
    confidence: float = 0.0
    """0..1: how clearly the leader leads."""
    spread: bool = False
    """Two or three are equally important and do not fit into the window together."""

    @classmethod
    def nobody(cls, frames: int) -> Focus:
        return cls(np.full((frames, 4), np.nan), np.full((frames, 2), np.nan))


class Cast:
    """All tracks of a video, ready to be asked for a stretch of it."""

    def __init__(self, tracks: Sequence[SubjectTrack]) -> None:
        self.tracks = sorted((track for track in tracks if len(track.frames)), key=lambda track: track.track_id)
        self._first = np.array([track.frames[0] for track in self.tracks], np.int64)
        self._last = np.array([track.frames[-1] for track in self.tracks], np.int64)

    def ids(self) -> list[int]:
        return [track.track_id for track in self.tracks]

    def seen(self, start: int, stop: int) -> list[Seen]:
        """Whoever is seen in the frames from `start` to before `stop`."""
        over = np.flatnonzero((self._first < stop) & (self._last >= start))
        found = (_seen(self.tracks[index], start, stop) for index in over)
        return [seen for seen in found if seen is not None]


@dataclass(frozen=True)
class Seen:
    """One track in a stretch of k frames."""

    track_id: int
    class_name: str
    boxes: Floats
    """Shape (k, 4), NaN where it is not seen."""
    score: float
    """Mean detection score, 0..1."""

    @property
    def present(self) -> NDArray[np.bool_]:
        """Shape (k,)."""
        return np.isfinite(self.boxes[:, 0])


def _seen(track: SubjectTrack, start: int, stop: int) -> Seen | None:
    begin, end = np.searchsorted(track.frames, (start, stop))
    if begin == end:
        return None
    boxes = np.full((stop - start, 4), np.nan)
    boxes[track.frames[begin:end] - start] = track.boxes[begin:end]
    return Seen(track.track_id, track.class_name, boxes, float(track.scores[begin:end].mean()))


def focus_on(seen: Sequence[Seen], frames: int, subject: int | str, picture: Picture, before: int | None) -> Focus:
    """The subject of a stretch.

    Args:
        seen: whoever is in it.
        frames: k, its length.
        subject: "auto", a track's id or a class.
        before: the leader of the stretch before in the same shot.
    """
    if isinstance(subject, int):
        return _named(seen, frames, subject)
    if subject != "auto":
        seen = [one for one in seen if one.class_name == subject]
        if subject in BALL_CLASSES:
            return _alone(seen, frames, subject)
    balls = [one for one in seen if one.class_name in BALL_CLASSES]
    people = [one for one in seen if one.class_name not in BALL_CLASSES]
    ball = best_ball(balls, frames)
    scores = importance(people, ball, picture)
    order = sorted(range(len(people)), key=lambda i: -scores[i] * (_STAYS if people[i].track_id == before else 1))
    ranked = [(people[i], float(scores[i])) for i in order]
    return _ladder(ranked, balls, ball, frames, picture)


def _named(seen: Sequence[Seen], frames: int, track_id: int) -> Focus:
    one = next((one for one in seen if one.track_id == track_id), None)
    if one is None:
        return Focus.nobody(frames)
    return _single(one, "asked for by its id", one.score)


def _alone(seen: Sequence[Seen], frames: int, name: str) -> Focus:
    boxes = best_ball(seen, frames)
    if not np.isfinite(boxes).any():
        return Focus.nobody(frames)
    leader = max(seen, key=lambda one: one.present.sum())
    return Focus(boxes, _middle(boxes), (leader.track_id,), name, "asked for by its class", leader.score)


def _single(one: Seen, reason: str, confidence: float) -> Focus:
    return Focus(one.boxes, _middle(one.boxes), (one.track_id,), one.class_name, reason, confidence)


def _middle(boxes: Floats) -> Floats:
    """Centres, shape (..., 2), of boxes of shape (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def best_ball(balls: Sequence[Seen], frames: int) -> Floats:
    """One ball box a frame, shape (frames, 4), NaN where none is seen: the ball seen most, then the next where that is not."""
    boxes = np.full((frames, 4), np.nan)
    for one in sorted(balls, key=lambda one: (-one.present.sum() * one.score, one.track_id)):
        boxes = np.where(np.isfinite(boxes), boxes, one.boxes)
    return boxes


def importance(people: Sequence[Seen], ball: Floats, picture: Picture) -> Floats:
    """How important each is: shape (people,), 0 and up.

    Presence times a mean of size, activity, place and certainty, each 0..1, up to three times as much beside the ball. The
    shares are a choice, not a measurement: size and activity count alike, so that neither a referee who stands near nor a
    player who runs far away leads alone.
    """
    if not people:
        return np.zeros(0)
    boxes = np.stack([one.boxes for one in people])
    seen = np.isfinite(boxes[..., 0])
    counts = seen.sum(1)
    height = _mean(boxes[..., 3] - boxes[..., 1], seen)
    middle = _middle(boxes)
    size = np.sqrt(np.maximum(_mean((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]), seen), 0))
    activity = _activity(middle, height, picture.fps)
    place = 1 - np.abs(_mean(middle[..., 0], seen) / picture.width - 0.5)
    score = np.array([one.score for one in people])
    own = 0.35 * size / max(size.max(), 1e-9) + 0.35 * activity / max(activity.max(), 1e-9) + 0.1 * place + 0.2 * score
    distance = np.linalg.norm(middle - _middle(ball), axis=-1) / np.maximum(height, 1)[:, None]
    near = np.nansum(np.exp(-distance / 2), axis=1) / np.maximum(counts, 1)
    return counts / boxes.shape[1] * own * (1 + 2 * near)


def _mean(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    return np.where(seen, values, 0).sum(1) / np.maximum(seen.sum(1), 1)


def _activity(middle: Floats, height: Floats, fps: float) -> Floats:
    """Mean speed of each beyond what all share (the camera's), in own heights a second: shape (people,)."""
    moves = np.diff(middle, axis=1)
    seen = np.isfinite(moves[..., 0])
    shared = np.zeros(moves.shape[1:])
    together = seen.sum(0) >= 3  # of two, nobody can say which of them moves
    shared[together] = np.nanmedian(moves[:, together], axis=0)
    return _mean(np.linalg.norm(moves - shared, axis=-1), seen) * fps / np.maximum(height, 1)


def _ladder(ranked: list[tuple[Seen, float]], balls: Sequence[Seen], ball: Floats, frames: int, picture: Picture) -> Focus:
    """All who count, if they fit; else the ball; else the important ones, if they fit; else whether they are few or a crowd."""
    ball_seen = np.isfinite(ball[:, 0])
    counting = [one for one, _ in ranked if one.present.mean() >= _PRESENT_SHARE]
    if not ranked or not counting:
        return _alone(balls, frames, balls[0].class_name) if balls else _last_resort(ranked, frames)
    if ball_seen.mean() < _BALL_SHARE:
        ball = np.full_like(ball, np.nan)
    leader = ranked[0][0]
    confidence = _clarity(ranked)
    everyone = _union([*(one.boxes for one in counting), ball])
    if len(counting) > 1 and _fits(everyone, picture):
        return _group(counting, everyone, leader, picture, "everybody fits into the window", confidence)
    important = [one for one, score in ranked if score >= _IMPORTANT * ranked[0][1]]
    together = _union([one.boxes for one in important])
    spread = 1 < len(important) <= _FEW and not _fits(together, picture)
    if np.isfinite(ball).any():
        focus = _around_ball(ball, balls, ranked, picture)
        return _spread(focus, important) if spread and len(counting) <= _FEW else focus
    if len(important) == 1:
        return _single(leader, "the most important by presence, size and activity", confidence)
    if _fits(together, picture):
        return _group(important, together, leader, picture, "those who matter fit into the window together", confidence)
    if spread:
        return _spread(_single(leader, "", confidence), important)
    center = _middle(_filled(leader.boxes, [one.boxes for one, _ in ranked], picture))
    reason = "the leader of a crowd, and those around"
    return Focus(leader.boxes, center, (leader.track_id,), leader.class_name, reason, confidence)


def _spread(focus: Focus, important: Sequence[Seen]) -> Focus:
    """The same for a window that follows, and the note that it would lose some who matter."""
    ids = (*focus.members, *(one.track_id for one in important if one.track_id not in focus.members))
    return replace(focus, members=ids, reason=f"{len(important)} matter alike and do not fit together", spread=True)


def _last_resort(ranked: list[tuple[Seen, float]], frames: int) -> Focus:
    """Nobody is seen for long: whoever is most important of those who pass."""
    if not ranked:
        return Focus.nobody(frames)
    return _single(ranked[0][0], "seen only in passing, and nobody else for longer", ranked[0][0].score / 2)


def _clarity(ranked: list[tuple[Seen, float]]) -> float:
    """The leader's detection score, half of it when another is as important."""
    best = ranked[0][1]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    return ranked[0][0].score * (1 - min(second / max(best, 1e-9), 1) / 2)


def _union(boxes: Sequence[Floats]) -> Floats:
    """The smallest box around all that are seen, shape (k, 4); NaN where none is."""
    stack = np.stack(boxes)
    low = np.fmin.reduce(stack[..., :2], axis=0)
    high = np.fmax.reduce(stack[..., 2:], axis=0)
    return np.concatenate([low, high], axis=-1)


def _fits(union: Floats, picture: Picture) -> bool:
    seen = np.isfinite(union[:, 0])
    return bool(picture.holds(union[seen]).mean() >= _FITS_SHARE)


def _group(members: Sequence[Seen], union: Floats, leader: Seen, picture: Picture, reason: str, confidence: float) -> Focus:
    """All of them inside; where they do not fit for a moment, the leader."""
    inside = picture.holds(union)[:, None]
    core = np.where(inside, union, leader.boxes)
    ids = (leader.track_id, *(one.track_id for one in members if one is not leader))
    return Focus(core, _middle(np.where(inside, union, core)), ids, leader.class_name, reason, confidence)


def _around_ball(ball: Floats, balls: Sequence[Seen], ranked: list[tuple[Seen, float]], picture: Picture) -> Focus:
    """The ball and whoever is nearest to it most of the time inside, the window's middle on as many around them as fit.

    Whoever is nearest in each frame would change from frame to frame, and the window with it.
    """
    people = [one.boxes for one, _ in ranked]
    pair = _union([ball, people[_nearest_most(ball, people)]])
    both = np.isfinite(ball[:, 0]) & picture.holds(pair)  # where the ball is missed for a moment, the window waits for it
    core = np.where(both[:, None], pair, ball)
    center = _middle(_filled(core, people, picture))
    long = _long_gaps(np.isfinite(ball[:, 0]))
    leader = ranked[0][0]
    core = np.where(long[:, None], leader.boxes, core)
    center = np.where(long[:, None], _middle(leader.boxes), center)
    first = max(balls, key=lambda one: (one.present.sum() * one.score, -one.track_id))
    confidence = first.score * float(np.isfinite(ball[:, 0]).mean())
    members = (first.track_id, leader.track_id)
    return Focus(core, center, members, first.class_name, "the ball, and those around it", confidence)


def _long_gaps(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames in gaps longer than a tenth of the stretch."""
    run = np.cumsum(np.append(True, seen[1:] != seen[:-1])) - 1
    return ~seen & (np.bincount(run)[run] > _BALL_GAP_FRAMES_SHARE * len(seen))


def _nearest_most(core: Floats, people: Sequence[Floats]) -> int:
    """Which of them is nearest to `core` in most frames."""
    distance = np.linalg.norm(_middle(np.stack(people)) - _middle(core), axis=-1)
    known = np.isfinite(distance)
    nearest = np.where(known, distance, np.inf).argmin(0)[known.any(0)]
    return int(np.bincount(nearest, minlength=len(people)).argmax())


def _nearest_first(core: Floats, people: Sequence[Floats]) -> Floats:
    """Boxes by distance to `core`, shape (up to 8, k, 4): the first is the nearest in each frame. NaN come last."""
    stack = np.stack(people)
    distance = np.linalg.norm(_middle(stack) - _middle(core), axis=-1)
    order = np.argsort(np.where(np.isfinite(distance), distance, np.inf), axis=0, kind="stable")[:_AROUND]
    return np.take_along_axis(stack, order[..., None], axis=0)


def _filled(core: Floats, people: Sequence[Floats], picture: Picture) -> Floats:
    """`core` and those nearest to it, as many as the window holds: shape (k, 4)."""
    union = core
    for boxes in _nearest_first(core, people):
        larger = _union([union, boxes])
        union = np.where((picture.holds(larger) & np.isfinite(union[:, 0]))[:, None], larger, union)
    return union
