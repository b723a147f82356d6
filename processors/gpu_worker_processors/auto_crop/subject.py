"""Who is followed: out of all tracks, the subject of each stretch of video, and why.

Accepts tracks as arrays and the frames of one stretch, and returns what the window must hold and
where it is wanted, frame by frame. Nothing depends on the order of the tracks. A ball that is seen
often leads, with the people around it; else the most important person does (`importance`), and a
ball that shows up, and then the second player, stay beside them where they fit; people who all fit
into the window are taken in together. Whoever does not fit is named as well, with the box that a
wider window would have to hold: the subject itself, or with `framing` "group" the two or three who
matter. Whoever led the stretch before keeps the lead unless another is clearly
ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol.auto_crop import Framing
from gpu_worker_processors.auto_crop.candidates import (
    BALL_CLASSES,
    GLIMPSE_SECONDS,
    CropGeometry,
    Ranked,
    Seen,
    best_ball,
    counting,
    fits,
    important,
    most_seen,
    union,
)
from gpu_worker_processors.auto_crop.group_shot import (
    FEW,
    Oversize,
    few_who_matter,
    oversize_group,
    oversize_subject,
)
from gpu_worker_processors.auto_crop.importance import BALL_SHARE, importance, middle
from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.path import MOMENT_SECONDS

_BALL_GAP_FRAMES_SHARE = 0.1
"""A ball missed for more than this share of a stretch leaves the window to the leading person."""
_STAYS = 1.5
"""The lead of whoever led before: another must be so much more important to take over in mid-shot.
On SportsMOT's 45 clips with 1.3 the lead changes half as often again, and 0.6 % fewer frames show
the whole leader (measured)."""
_AROUND = 8
"""People considered when the window is filled around a leader."""


@dataclass(frozen=True)
class Focus:
    """The subject of one stretch of k frames."""

    core: Floats
    """Shape (k, 4): the box that must be inside; NaN where nothing is seen."""
    center: Floats
    """Shape (k, 2): where the window's middle is wanted; NaN where nothing is seen."""
    exact: NDArray[np.bool_]
    """Shape (k,): `core` holds a ball that shows up for a moment, and may take all the room there
    is."""
    members: tuple[int, ...] = ()
    """Track ids the window is led by, the leader first."""
    class_name: str | None = None
    """The class of the leader."""
    reason: str = ""
    confidence: float = 0.0
    """0..1: how clearly the leader leads."""
    oversize: Oversize | None = None
    """Those who do not fit, and need a wider window."""

    @classmethod
    def on(
        cls,
        core: Floats,
        members: Sequence[Seen],
        reason: str,
        confidence: float,
        center: Floats | None = None,
    ) -> Focus:
        """Around `core`, and its middle where no other `center` is given. The first member
        leads."""
        center = middle(core) if center is None else center
        ids = tuple(dict.fromkeys(one.track_id for one in members))
        return cls(
            core, center, np.zeros(len(core), bool), ids, members[0].class_name, reason, confidence
        )

    @classmethod
    def nobody(cls, frames: int, reason: str = "nobody is seen") -> Focus:
        return cls(
            np.full((frames, 4), np.nan),
            np.full((frames, 2), np.nan),
            np.zeros(frames, bool),
            reason=reason,
        )


def focus_on(
    seen: Sequence[Seen],
    frames: int,
    subject: int | str,
    geometry: CropGeometry,
    before: int | None,
    *,
    is_game: bool = False,
    framing: Framing = "subject",
) -> Focus:
    """The subject of a stretch.

    Args:
        seen: whoever is in it and meant by `subject`.
        frames: k, its length.
        subject: "auto", a track's id or a class.
        before: the leader of the stretch before in the same shot.
        is_game: a ball is seen around this time. Where `subject` is "auto", two or three people
            then play, and matter all.
        framing: as the task's.
    """
    seen = [one.within(geometry) for one in seen]
    if isinstance(subject, int):
        if not seen:
            return Focus.nobody(frames, "the one asked for by its id is not seen")
        focus = Focus.on(seen[0].boxes, seen, "asked for by its id", seen[0].score)
    elif subject == "auto":
        focus = _chosen(seen, frames, geometry, before, is_game=is_game, framing=framing)
    elif not seen:
        return Focus.nobody(frames, "nobody of the class asked for is seen")
    elif subject in BALL_CLASSES:
        return _only_ball(seen, frames)
    else:
        focus = _chosen(seen, frames, geometry, before, is_game=False, framing=framing)
        focus = replace(focus, reason=f"asked for by its class; of all of it {focus.reason}")
    if framing == "group" or not focus.members:
        return focus
    leader = next(one for one in seen if one.track_id == focus.members[0])
    return replace(focus, oversize=oversize_subject(leader, geometry))


def _chosen(
    seen: Sequence[Seen],
    frames: int,
    geometry: CropGeometry,
    before: int | None,
    *,
    is_game: bool,
    framing: Framing,
) -> Focus:
    balls = [one for one in seen if one.class_name in BALL_CLASSES]
    people = [one for one in seen if one.class_name not in BALL_CLASSES]
    ball = best_ball(balls, frames)
    boxes = np.stack([one.boxes for one in people]) if people else np.zeros((0, frames, 4))
    scores = importance(
        boxes, np.array([one.score for one in people]), ball, geometry.width, geometry.fps
    )
    order = sorted(
        range(len(people)),
        key=lambda i: -scores[i] * (_STAYS if people[i].track_id == before else 1),
    )
    ranked = [(people[i], float(scores[i])) for i in order]
    focus = _ladder(ranked, balls, ball, geometry)
    few, reason = few_who_matter(ranked, ball, is_game=is_game)
    if framing == "subject":
        if is_game and few:
            # A player leads, not the ball that flies between them; it comes before the rest.
            reason = f"the first of {len(few)} who play"
            focus = Focus.on(few[0].boxes, few[:1], reason, _clarity(ranked))
            focus = _with_glimpses(focus, balls, ball, geometry)
        return _with_more(focus, few, geometry)
    return replace(focus, oversize=oversize_group(few, reason, balls, ball, geometry))


def _only_ball(balls: Sequence[Seen], frames: int) -> Focus:
    leader = most_seen(balls)
    return Focus.on(best_ball(balls, frames), [leader], "the only one to be seen", leader.score)


def _ladder(ranked: Ranked, balls: Sequence[Seen], ball: Floats, geometry: CropGeometry) -> Focus:
    """All who count, if they fit; else a ball that is seen often; else the important ones, if they
    fit; else one of them."""
    share = float(np.isfinite(ball[:, 0]).mean())
    enough = counting(ranked)
    if not enough and balls:
        return _only_ball(balls, len(ball))
    if not enough:
        return _last_resort(ranked, len(ball))
    often = ball if share >= BALL_SHARE else np.full_like(ball, np.nan)
    everyone = union([*(one.boxes for one in enough), often])
    if len(enough) > 1 and fits(everyone, geometry):
        focus = _group(enough, everyone, ranked, geometry, "everybody fits into the window")
    elif share >= BALL_SHARE:
        focus = _around_ball(ball, balls, ranked, geometry)
    else:
        focus = _around_leader(ranked, geometry)
    return focus if share >= BALL_SHARE else _with_glimpses(focus, balls, ball, geometry)


def _around_leader(ranked: Ranked, geometry: CropGeometry) -> Focus:
    leader, alike, confidence = ranked[0][0], important(ranked), _clarity(ranked)
    if len(alike) == 1:
        return Focus.on(
            leader.boxes, [leader], "the most important by presence, size and activity", confidence
        )
    together = union([one.boxes for one in alike])
    if fits(together, geometry):
        return _group(
            alike, together, ranked, geometry, "those who matter fit into the window together"
        )
    if len(alike) <= FEW:
        reason = f"the first of {len(alike)} who matter alike and do not fit together"
        return Focus.on(leader.boxes, [leader], reason, confidence)
    center = middle(_filled(leader.boxes, [one.boxes for one, _ in ranked], geometry))
    return Focus.on(
        leader.boxes, [leader], "the leader of a crowd, and those around", confidence, center
    )


def _with_glimpses(
    focus: Focus, balls: Sequence[Seen], ball: Floats, geometry: CropGeometry
) -> Focus:
    """The same with a ball that is seen too rarely to lead: where it fits into the window beside
    whoever is followed it is inside, or half of it where only so much fits. Nobody is lost for it,
    and the window still follows only them."""
    if np.isfinite(ball[:, 0]).sum() < GLIMPSE_SECONDS * geometry.fps:
        return focus
    core, followed = focus.core, np.isfinite(focus.core[:, 0]) & np.isfinite(ball[:, 0])
    for part in (np.concatenate([middle(ball), middle(ball)], axis=1), ball):
        both = union([focus.core, part])
        core = np.where((followed & geometry.holds(both, padded=False))[:, None], both, core)
    exact = followed & (core != focus.core).any(1)
    if not exact.any():
        return focus
    members = (*focus.members, most_seen(balls).track_id)
    return replace(
        focus,
        core=core,
        exact=exact,
        members=members,
        reason=f"{focus.reason}; the ball where it fits beside",
    )


def _with_more(focus: Focus, few: Sequence[Seen], geometry: CropGeometry) -> Focus:
    """The same with the rest of the few who matter inside wherever they fit beside whoever is
    followed, the one who does most often first. Nobody is lost for them, nor the ball."""
    if not few or focus.members[:1] != (few[0].track_id,):
        return focus
    core, held, members = focus.core, focus.exact, focus.members
    rest = [one for one in few if one.track_id not in members]
    for one in sorted(rest, key=lambda one: -_beside(core, one, geometry).sum()):
        fit = _beside(core, one, geometry)
        fit &= ~_in_the_way(fit, held, geometry.fps)
        if fit.any():
            core, held = np.where(fit[:, None], union([core, one.boxes]), core), held | fit
            members = (*members, one.track_id)
    if members == focus.members:
        return focus
    reason = f"{focus.reason}; more where they fit beside"
    return replace(focus, core=core, members=members, reason=reason)


def _beside(core: Floats, one: Seen, geometry: CropGeometry) -> NDArray[np.bool_]:
    """Frames in which the window holds both."""
    both = geometry.holds_group(union([core, one.boxes]))
    return both & np.isfinite(core[:, 0]) & one.present


def _in_the_way(fit: NDArray[np.bool_], held: NDArray[np.bool_], fps: float) -> NDArray[np.bool_]:
    """Frames around those in which somebody else is inside already, `held`, and in some of which
    there is no room: the window has to be free to swing from one side to the other."""
    reach = round(MOMENT_SECONDS * fps)
    near = np.convolve(held, np.ones(2 * reach + 1))[reach : reach + len(held)] > 0.5
    run = np.cumsum(np.append(True, near[1:] != near[:-1])) - 1
    return near & (np.bincount(run[held & ~fit], minlength=run[-1] + 1) > 0)[run]


def _last_resort(ranked: Ranked, frames: int) -> Focus:
    """Nobody is seen for long: whoever is most important of those who pass."""
    if not ranked:
        return Focus.nobody(frames)
    one = ranked[0][0]
    return Focus.on(
        one.boxes, [one], "seen only in passing, and nobody else for longer", one.score / 2
    )


def _clarity(ranked: Ranked) -> float:
    """The leader's detection score, half of it when another is as important."""
    best = ranked[0][1]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    return ranked[0][0].score * (1 - min(second / max(best, 1e-9), 1) / 2)


def _group(
    members: Sequence[Seen], boxes: Floats, ranked: Ranked, geometry: CropGeometry, reason: str
) -> Focus:
    """All of them inside; where they do not fit for a moment, the leader."""
    leader = ranked[0][0]
    core = np.where(geometry.holds_group(boxes)[:, None], boxes, leader.boxes)
    return Focus.on(core, [leader, *members], reason, _clarity(ranked))


def _around_ball(
    ball: Floats, balls: Sequence[Seen], ranked: Ranked, geometry: CropGeometry
) -> Focus:
    """The ball and whoever is nearest to it most of the time inside, the window's middle on as many
    around them as fit.

    Whoever is nearest in each frame would change from frame to frame, and the window with it.
    """
    people = [one.boxes for one, _ in ranked]
    partner, leader = ranked[_nearest_most(ball, people)][0], ranked[0][0]
    pair = union([ball, partner.boxes])
    both = np.isfinite(ball[:, 0]) & geometry.holds(
        pair
    )  # where the ball is missed for a moment, the window waits for it
    core = np.where(both[:, None], pair, ball)
    center = middle(_filled(core, people, geometry))
    long = _long_gaps(np.isfinite(ball[:, 0]))
    core = np.where(long[:, None], leader.boxes, core)
    center = np.where(long[:, None], middle(leader.boxes), center)
    first = most_seen(balls)
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
    """Boxes by distance to `core`, shape (up to 8, k, 4): the first is the nearest in each frame.
    NaN come last."""
    stack = np.stack(people)
    distance = np.linalg.norm(middle(stack) - middle(core), axis=-1)
    order = np.argsort(np.where(np.isfinite(distance), distance, np.inf), axis=0, kind="stable")[
        :_AROUND
    ]
    return np.take_along_axis(stack, order[..., None], axis=0)


def _filled(core: Floats, people: Sequence[Floats], geometry: CropGeometry) -> Floats:
    """`core` and those nearest to it, as many as the window holds: shape (k, 4)."""
    filled = core
    for boxes in _nearest_first(core, people):
        larger = union([filled, boxes])
        filled = np.where(
            (geometry.holds(larger) & np.isfinite(filled[:, 0]))[:, None], larger, filled
        )
    return filled
