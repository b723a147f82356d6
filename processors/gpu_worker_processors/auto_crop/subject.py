"""Who is followed: out of all tracks, the subject of each stretch of video, and why.

Accepts tracks as arrays and the frames of one stretch, and returns what the window must hold and where it is wanted, frame by
frame. Nothing depends on the order of the tracks. A ball that is seen often leads, with the people around it; else the most
important person does (`importance`), and a ball that shows up is kept beside them where it fits; people who all fit into the
window are taken in together. Whoever led the stretch before keeps the lead unless another is clearly ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.importance import BALL_SHARE, importance, middle
from gpu_worker_processors.auto_crop.l1 import Floats

BALL_CLASSES = frozenset({"sports ball", "ball", "frisbee"})
"""COCO's names of what a game follows, and the plain word."""
_BALL_GAP_FRAMES_SHARE = 0.1
"""Of a stretch: a ball missed for longer leaves the window to the leading person."""
_GLIMPSE_SECONDS = 0.25
"""A ball seen for less in a whole stretch is as likely a mistake of the detector: the window does not move for it."""
_PRESENT_SHARE = 0.3
"""Of a stretch's frames in which a person must be seen to count."""
_IMPORTANT = 0.5
"""Of the leader's score."""
_FITS_SHARE = 0.9
"""Of the frames in which a group must fit into the window to be taken in together."""
_FEW = 3
"""People who do not fit: so many are a conversation, of which nobody may be lost; more are a crowd, of which the leader and
those around are shown."""
_STAYS = 1.5
"""The lead of whoever led before: another must be so much more important to take over in mid-shot. On SportsMOT's 45 clips with
1.3 the lead changes half as often again, and 0.6 % fewer frames show the whole leader (measured)."""
_MOST = 500
"""Tracks looked at in one stretch, those seen longest: of more nobody could say who matters, and memory is bounded."""
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

    def holds(self, boxes: Floats, *, padded: bool = True) -> NDArray[np.bool_]:
        """Whether boxes, shape (..., 4), fit into the window, with their padding or without; False where NaN."""
        size = boxes[..., 2:] - boxes[..., :2]
        fits = size * (1 + 2 * self.padding * padded) <= (self.window_width, self.window_height)
        return np.asarray(fits.all(-1))


@dataclass(frozen=True)
class Focus:
    """The subject of one stretch of k frames."""

    core: Floats
    """Shape (k, 4): the box that must be inside; NaN where nothing is seen."""
    center: Floats
    """Shape (k, 2): where the window's middle is wanted; NaN where nothing is seen."""
    exact: NDArray[np.bool_]
    """Shape (k,): `core` holds a ball that shows up for a moment, and may take all the room there is."""
    members: tuple[int, ...] = ()
    """Track ids the window is led by, the leader first."""
    class_name: str | None = None
    """Of the leader."""
    reason: str = ""
    confidence: float = 0.0
    """0..1: how clearly the leader leads."""
    rivals: tuple[int, ...] = ()
    """Track ids of the two or three who matter alike and do not fit into the window together; empty where it is not so."""

    @classmethod
    def on(cls, core: Floats, members: Sequence[Seen], reason: str, confidence: float, center: Floats | None = None) -> Focus:
        """Around `core`, and its middle where no other `center` is given. The first member leads."""
        center = middle(core) if center is None else center
        ids = tuple(dict.fromkeys(one.track_id for one in members))
        return cls(core, center, np.zeros(len(core), bool), ids, members[0].class_name, reason, confidence)

    @classmethod
    def nobody(cls, frames: int, reason: str = "nobody is seen") -> Focus:
        return cls(np.full((frames, 4), np.nan), np.full((frames, 2), np.nan), np.zeros(frames, bool), reason=reason)


class Cast:
    """All tracks of a video, ready to be asked for a stretch of it."""

    def __init__(self, tracks: Sequence[SubjectTrack]) -> None:
        self.tracks = sorted((track for track in tracks if len(track.frames)), key=lambda track: track.track_id)
        self._frames = np.concatenate([np.zeros(0, np.int64), *(track.frames for track in self.tracks)])
        self._owners = np.repeat(np.arange(len(self.tracks)), [len(track.frames) for track in self.tracks])
        order = np.argsort(self._frames, kind="stable")
        self._frames, self._owners = self._frames[order], self._owners[order]

    def ids(self) -> list[int]:
        return [track.track_id for track in self.tracks]

    def seen(self, start: int, stop: int, subject: int | str) -> list[Seen]:
        """Whoever may be meant by `subject` (see `focus_on`) in the frames from `start` to before `stop`, by rising id."""
        begin, end = np.searchsorted(self._frames, (start, stop))
        owners, counts = np.unique(self._owners[begin:end], return_counts=True)
        meant = np.array([self._is_meant(int(owner), subject) for owner in owners], bool)
        owners, counts = owners[meant], counts[meant]
        most = np.sort(np.argsort(-counts, kind="stable")[:_MOST])
        return [_seen(self.tracks[owner], start, stop) for owner in owners[most].tolist()]

    def _is_meant(self, owner: int, subject: int | str) -> bool:
        track = self.tracks[owner]
        return subject in ("auto", track.track_id if isinstance(subject, int) else track.class_name)


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


def _seen(track: SubjectTrack, start: int, stop: int) -> Seen:
    begin, end = np.searchsorted(track.frames, (start, stop))
    boxes = np.full((stop - start, 4), np.nan)
    boxes[track.frames[begin:end] - start] = track.boxes[begin:end]
    return Seen(track.track_id, track.class_name, boxes, float(track.scores[begin:end].mean()))


def focus_on(seen: Sequence[Seen], frames: int, subject: int | str, picture: Picture, before: int | None) -> Focus:
    """The subject of a stretch.

    Args:
        seen: whoever is in it and meant by `subject`.
        frames: k, its length.
        subject: "auto", a track's id or a class.
        before: the leader of the stretch before in the same shot.
    """
    if isinstance(subject, int):
        if not seen:
            return Focus.nobody(frames, "the one asked for by its id is not seen")
        return Focus.on(seen[0].boxes, seen, "asked for by its id", seen[0].score)
    if subject == "auto":
        return _chosen(seen, frames, picture, before)
    if not seen:
        return Focus.nobody(frames, "nobody of the class asked for is seen")
    if subject in BALL_CLASSES:
        return _alone(seen, frames)
    focus = _chosen(seen, frames, picture, before)
    return replace(focus, reason=f"asked for by its class; of all of it {focus.reason}")


def _chosen(seen: Sequence[Seen], frames: int, picture: Picture, before: int | None) -> Focus:
    balls = [one for one in seen if one.class_name in BALL_CLASSES]
    people = [one for one in seen if one.class_name not in BALL_CLASSES]
    ball = best_ball(balls, frames)
    boxes = np.stack([one.boxes for one in people]) if people else np.zeros((0, frames, 4))
    scores = importance(boxes, np.array([one.score for one in people]), ball, picture.width, picture.fps)
    order = sorted(range(len(people)), key=lambda i: -scores[i] * (_STAYS if people[i].track_id == before else 1))
    return _ladder([(people[i], float(scores[i])) for i in order], balls, ball, picture)


def _alone(balls: Sequence[Seen], frames: int) -> Focus:
    leader = _most_seen(balls)
    return Focus.on(best_ball(balls, frames), [leader], "the only one to be seen", leader.score)


def _most_seen(balls: Sequence[Seen]) -> Seen:
    return max(balls, key=lambda one: (one.present.sum() * one.score, -one.track_id))


def best_ball(balls: Sequence[Seen], frames: int) -> Floats:
    """One ball box a frame, shape (frames, 4), NaN where none is seen: the ball seen most, then the next where that is not."""
    boxes = np.full((frames, 4), np.nan)
    for one in sorted(balls, key=lambda one: (-one.present.sum() * one.score, one.track_id)):
        boxes = np.where(np.isfinite(boxes), boxes, one.boxes)
    return boxes


def _ladder(ranked: list[tuple[Seen, float]], balls: Sequence[Seen], ball: Floats, picture: Picture) -> Focus:
    """All who count, if they fit; else a ball that is seen often; else the important ones, if they fit; else one of them."""
    share = float(np.isfinite(ball[:, 0]).mean())
    counting = [one for one, _ in ranked if one.present.mean() >= _PRESENT_SHARE]
    if not counting and balls:
        return _alone(balls, len(ball))
    if not counting:
        return _last_resort(ranked, len(ball))
    often = ball if share >= BALL_SHARE else np.full_like(ball, np.nan)
    everyone = _union([*(one.boxes for one in counting), often])
    if len(counting) > 1 and _fits(everyone, picture):
        focus = _group(counting, everyone, ranked, picture, "everybody fits into the window")
    elif share >= BALL_SHARE:
        focus = _around_ball(ball, balls, ranked, picture)
        return _with_rivals(focus, ranked, picture) if len(counting) <= _FEW else focus
    else:
        focus = _around_leader(ranked, picture)
    return focus if share >= BALL_SHARE else _with_glimpses(focus, balls, ball, picture)


def _around_leader(ranked: list[tuple[Seen, float]], picture: Picture) -> Focus:
    leader, important = ranked[0][0], _important(ranked)
    confidence = _clarity(ranked)
    if len(important) == 1:
        return Focus.on(leader.boxes, [leader], "the most important by presence, size and activity", confidence)
    together = _union([one.boxes for one in important])
    if _fits(together, picture):
        return _group(important, together, ranked, picture, "those who matter fit into the window together")
    if len(important) <= _FEW:
        reason = f"the first of {len(important)} who matter alike and do not fit together"
        return _with_rivals(Focus.on(leader.boxes, [leader], reason, confidence), ranked, picture)
    center = middle(_filled(leader.boxes, [one.boxes for one, _ in ranked], picture))
    return Focus.on(leader.boxes, [leader], "the leader of a crowd, and those around", confidence, center)


def _important(ranked: list[tuple[Seen, float]]) -> list[Seen]:
    return [one for one, score in ranked if score >= _IMPORTANT * ranked[0][1]]


def _with_rivals(focus: Focus, ranked: list[tuple[Seen, float]], picture: Picture) -> Focus:
    """The same for a window that follows, and who else matters as much, where two or three do and do not fit together."""
    important = _important(ranked)
    if not 1 < len(important) <= _FEW or _fits(_union([one.boxes for one in important]), picture):
        return focus
    return replace(focus, rivals=tuple(one.track_id for one in important))


def _with_glimpses(focus: Focus, balls: Sequence[Seen], ball: Floats, picture: Picture) -> Focus:
    """The same with a ball that is seen too rarely to lead: where it fits into the window beside whoever is followed it is
    inside, or half of it where only so much fits. Nobody is lost for it, and the window is led by them alone."""
    if np.isfinite(ball[:, 0]).sum() < _GLIMPSE_SECONDS * picture.fps:
        return focus
    core, followed = focus.core, np.isfinite(focus.core[:, 0]) & np.isfinite(ball[:, 0])
    for part in (np.concatenate([middle(ball), middle(ball)], axis=1), ball):
        both = _union([focus.core, part])
        core = np.where((followed & picture.holds(both, padded=False))[:, None], both, core)
    exact = followed & (core != focus.core).any(1)
    if not exact.any():
        return focus
    members = (*focus.members, _most_seen(balls).track_id)
    return replace(focus, core=core, exact=exact, members=members, reason=f"{focus.reason}; the ball where it fits beside")


def _last_resort(ranked: list[tuple[Seen, float]], frames: int) -> Focus:
    """Nobody is seen for long: whoever is most important of those who pass."""
    if not ranked:
        return Focus.nobody(frames)
    one = ranked[0][0]
    return Focus.on(one.boxes, [one], "seen only in passing, and nobody else for longer", one.score / 2)


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


def _group(members: Sequence[Seen], union: Floats, ranked: list[tuple[Seen, float]], picture: Picture, reason: str) -> Focus:
    """All of them inside; where they do not fit for a moment, the leader."""
    leader = ranked[0][0]
    core = np.where(picture.holds(union)[:, None], union, leader.boxes)
    return Focus.on(core, [leader, *members], reason, _clarity(ranked))


def _around_ball(ball: Floats, balls: Sequence[Seen], ranked: list[tuple[Seen, float]], picture: Picture) -> Focus:
    """The ball and whoever is nearest to it most of the time inside, the window's middle on as many around them as fit.

    Whoever is nearest in each frame would change from frame to frame, and the window with it.
    """
    people = [one.boxes for one, _ in ranked]
    partner, leader = ranked[_nearest_most(ball, people)][0], ranked[0][0]
    pair = _union([ball, partner.boxes])
    both = np.isfinite(ball[:, 0]) & picture.holds(pair)  # where the ball is missed for a moment, the window waits for it
    core = np.where(both[:, None], pair, ball)
    center = middle(_filled(core, people, picture))
    long = _long_gaps(np.isfinite(ball[:, 0]))
    core = np.where(long[:, None], leader.boxes, core)
    center = np.where(long[:, None], middle(leader.boxes), center)
    first = _most_seen(balls)
    confidence = first.score * float(np.isfinite(ball[:, 0]).mean())
    members = [first, *([partner] if both.any() else []), *([leader] if long.any() else [])]
    return Focus.on(core, members, "the ball, and those around it", confidence, center)


def _long_gaps(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames in gaps longer than a tenth of the stretch."""
    run = np.cumsum(np.append(True, seen[1:] != seen[:-1])) - 1
    return ~seen & (np.bincount(run)[run] > _BALL_GAP_FRAMES_SHARE * len(seen))


def _nearest_most(core: Floats, people: Sequence[Floats]) -> int:
    """Which of them is nearest to `core` in most frames."""
    distance = np.linalg.norm(middle(np.stack(people)) - middle(core), axis=-1)
    known = np.isfinite(distance)
    nearest = np.where(known, distance, np.inf).argmin(0)[known.any(0)]
    return int(np.bincount(nearest, minlength=len(people)).argmax())


def _nearest_first(core: Floats, people: Sequence[Floats]) -> Floats:
    """Boxes by distance to `core`, shape (up to 8, k, 4): the first is the nearest in each frame. NaN come last."""
    stack = np.stack(people)
    distance = np.linalg.norm(middle(stack) - middle(core), axis=-1)
    order = np.argsort(np.where(np.isfinite(distance), distance, np.inf), axis=0, kind="stable")[:_AROUND]
    return np.take_along_axis(stack, order[..., None], axis=0)


def _filled(core: Floats, people: Sequence[Floats], picture: Picture) -> Floats:
    """`core` and those nearest to it, as many as the window holds: shape (k, 4)."""
    union = core
    for boxes in _nearest_first(core, people):
        larger = _union([union, boxes])
        union = np.where((picture.holds(larger) & np.isfinite(union[:, 0]))[:, None], larger, union)
    return union
