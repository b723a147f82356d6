"""How much everybody in a stretch of video matters, in one number each.

Accepts boxes on the frames of a stretch, NaN where somebody is not seen, and the ball's. A score is
a product, so that nobody leads by one virtue alone: someone far behind is small on the screen
however busily they move, and whoever has the ball matters up to three times as much as without it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.l1 import Floats

BALL_SHARE = 0.3
"""Of a stretch's frames. A ball that is seen in so many leads, and says as much as it can about who
has it; a small fast ball is missed more often than not. Of one that is seen less often, possession
counts in proportion."""
_STEP_SECONDS = 0.5
"""Over which a movement is measured: long beside the flutter of a detector's boxes and a swing of
arms, short beside a run."""
_REACH = 0.5
"""Own heights from the edge of somebody's box, an arm and a step: the ball counts 1/e there of what
it does in the hands."""
_SHARES = (0.4, 0.3, 0.1, 0.2)
"""Of being there, activity, place and certainty in what size is multiplied with. A choice, not a
measurement: someone who runs matters half as much again as someone of the same size who stands."""
_POSSESSION_GAIN = 2.0


def importance(
    boxes: Floats, scores: Floats, ball: Floats, frame_width: float, fps: float
) -> Floats:
    """
    Args:
        boxes: shape (people, k, 4): x1, y1, x2, y2 in pixels.
        scores: shape (people,): mean detection scores, 0..1.
        ball: shape (k, 4).
        frame_width: pixels.

    Returns:
        Shape (people,), 0 and up; only their ratios mean anything.
    """
    if not len(boxes):
        return np.zeros(0)
    seen = np.isfinite(boxes[..., 0])
    height = np.maximum(_mean(boxes[..., 3] - boxes[..., 1], seen), 1)
    size = np.sqrt(np.maximum(_mean((boxes[..., 2:] - boxes[..., :2]).prod(-1), seen), 0))
    activity = _activity(middle(boxes), height, fps)
    place = np.maximum(1 - np.abs(_mean(middle(boxes)[..., 0], seen) / frame_width - 0.5), 0)
    parts = (np.ones(len(boxes)), activity / max(activity.max(), 1e-9), place, scores)
    own = (
        size
        / max(size.max(), 1e-9)
        * sum(share * part for share, part in zip(_SHARES, parts, strict=True))
    )
    return np.asarray(
        seen.mean(1) * own * (1 + _POSSESSION_GAIN * _possession(boxes, ball, height))
    )


def middle(boxes: Floats) -> Floats:
    """Centres, shape (..., 2), of boxes of shape (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _mean(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    return np.where(seen, values, 0).sum(1) / np.maximum(seen.sum(1), 1)


def _activity(middles: Floats, height: Floats, fps: float) -> Floats:
    """Mean speed of each beyond what all share (the camera's), in own heights a second: shape
    (people,)."""
    step = min(max(1, round(_STEP_SECONDS * fps)), middles.shape[1] - 1)
    if step < 1:
        return np.zeros(len(middles))
    moves = middles[:, step:] - middles[:, :-step]
    seen = np.isfinite(moves[..., 0])
    shared = np.zeros(moves.shape[1:])
    together = seen.sum(0) >= 3  # of two, nobody can say which of them moves
    shared[together] = np.nanmedian(moves[:, together], axis=0)
    return _mean(np.linalg.norm(moves - shared, axis=-1), seen) * fps / step / height


def _possession(boxes: Floats, ball: Floats, height: Floats) -> Floats:
    """How much each has the ball, 0..1, shape (people,): 1 with it at hand in every frame of a ball
    that is seen often."""
    known = np.isfinite(ball[:, 0])
    if not known.any():
        return np.zeros(len(boxes))
    at = middle(ball[known])
    near, far = boxes[:, known, :2] - at, at - boxes[:, known, 2:]
    distance = np.linalg.norm(np.maximum(np.maximum(near, far), 0), axis=-1) / height[:, None]
    closeness = np.nan_to_num(np.exp(-distance / _REACH), nan=0.0)
    return closeness.mean(1) * min(1.0, known.mean() / BALL_SHARE)
