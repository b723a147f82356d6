"""Whoever does not fit into the window, and what a wider one would have to hold: a subject by
itself, or the few who matter together.

So many are a conversation or a rally; more are a crowd, of which the leader and those around are
shown (`subject`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpu_worker_processors.auto_crop.candidates import (
    FITS_SHARE,
    GLIMPSE_SECONDS,
    CropGeometry,
    Ranked,
    Seen,
    counting,
    important,
    most_seen,
    union,
)
from gpu_worker_processors.auto_crop.importance import BALL_SHARE
from gpu_worker_processors.auto_crop.l1 import Floats

FEW = 3
"""People, at most."""
_PLAYER_HEIGHT = 0.25
"""The least height of a player, as a share of the leader's. Seen from 5 m behind one of them,
another half a basketball court (14 m, FIBA's rules, 2.1) farther away is 5/19 as tall; whoever is
smaller stands outside the game."""


_CUT_SHARE = 1 / 3
"""A subject that the window would cut in this share of its frames does not fit."""


@dataclass(frozen=True)
class Oversize:
    """Those in a stretch of k frames who do not fit into the window: the subject, or the two or
    three who matter, and their ball."""

    track_ids: tuple[int, ...]
    boxes: Floats
    """Shape (k, 4): the smallest box around them; NaN where none of them is seen."""
    room: Floats
    """Shape (k, 2): width and height of it with each one's own padding, pixels."""
    reason: str


def oversize_subject(one: Seen, geometry: CropGeometry) -> Oversize | None:
    """The subject, if it is too wide for the window. Of one that is only too tall the upper part
    makes a good shot (`in_view`)."""
    size = one.boxes[:, 2:] - one.boxes[:, :2]
    if (size[:, 0] > geometry.window_width).sum() <= _CUT_SHARE * one.present.sum():
        return None
    room = np.minimum(size * (1 + 2 * geometry.padding), (geometry.width, geometry.height))
    return Oversize((one.track_id,), one.boxes, room, "wider than the window")


def oversize_group(
    few: Sequence[Seen],
    reason: str,
    balls: Sequence[Seen],
    ball: Floats,
    geometry: CropGeometry,
) -> Oversize | None:
    """The few who matter, if they do not fit into the window together.

    Args:
        few, reason: see `few_who_matter`.
        balls: all that are seen; `ball`, shape (k, 4), is the best of them in each frame.
    """
    boxes = [one.boxes for one in few]
    if not few or not _do_not_fit(boxes, geometry):
        return None
    padded = [
        box + geometry.padding * np.tile(box[:, 2:] - box[:, :2], 2) * (-1, -1, 1, 1)
        for box in boxes
    ]
    if np.isfinite(ball[:, 0]).sum() >= GLIMPSE_SECONDS * geometry.fps:
        boxes, padded, few = [*boxes, ball], [*padded, ball], [*few, most_seen(balls)]
    room = np.clip(union(padded), 0, (geometry.width, geometry.height) * 2)
    return Oversize(
        tuple(one.track_id for one in few), union(boxes), room[:, 2:] - room[:, :2], reason
    )


def few_who_matter(ranked: Ranked, ball: Floats, *, is_game: bool) -> tuple[list[Seen], str]:
    """Two or three, or nobody; and why they: in a game all who play it, else those who matter about
    as much as the leader. Around a ball that leads a crowd there are none."""
    seen = counting(ranked)
    if len(seen) <= FEW and is_game:
        players = [one for one in seen if _height(one) >= _PLAYER_HEIGHT * _height(seen[0])]
        if len(players) > 1:
            return players, f"{len(players)} play and do not fit together"
    is_led_by_ball = np.isfinite(ball[:, 0]).mean() >= BALL_SHARE
    alike = important(ranked) if seen and (len(seen) <= FEW or not is_led_by_ball) else []
    return (
        (alike, f"{len(alike)} matter alike and do not fit together")
        if 1 < len(alike) <= FEW
        else ([], "")
    )


def _do_not_fit(boxes: Sequence[Floats], geometry: CropGeometry) -> bool:
    """Whether the distance between them is too large for one window. False when one of them is too
    large by itself, or left before the other came."""
    around = union(boxes)
    seen = np.sum([np.isfinite(box[:, 0]) for box in boxes], axis=0)
    return bool(
        ((seen > 1) & ~geometry.holds_group(around)).sum() > (1 - FITS_SHARE) * (seen > 0).sum()
    )


def _height(one: Seen) -> float:
    """Mean, pixels."""
    return float(np.nanmean(one.boxes[:, 3] - one.boxes[:, 1]))
