"""Who is in a stretch of video, before anybody asks whom to follow.

Accepts the tracks of a whole video as arrays and gives those of a stretch, frame by frame; a
`Ranked` list of them has the most important first. Nothing depends on the order of the tracks, and
no stretch holds more of them than can matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.path import ROOM

BALL_CLASSES = frozenset({"sports ball", "ball", "frisbee"})
"""COCO's names of what a game follows, and the plain word."""
GLIMPSE_SECONDS = 0.25
"""A ball seen for less in a whole stretch is as likely a mistake of the detector: the window does
not move for it."""
_PRESENT_SHARE = 0.3
"""Of a stretch's frames in which a person must be seen to count."""
_IMPORTANT = 0.5
"""Of the leader's score."""
FITS_SHARE = 0.9
"""Of the frames in which a group must fit into the window to be taken in together."""
PAIR_PX = 2
"""Sizes of windows are even: less than this is lost of an odd image."""
_MOST = 500
"""Tracks looked at in one stretch, those seen longest: of more nobody could say who matters, and
memory is bounded."""


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
class CropGeometry:
    """What the window is cut from. Pixels."""

    width: int
    height: int
    window_width: int
    window_height: int
    padding: float
    """As the task's."""
    fps: float

    def holds(self, boxes: Floats, *, padded: bool = True, room: float = 0.0) -> NDArray[np.bool_]:
        """Whether boxes, shape (..., 4), fit into the window, with their padding or without; False
        where NaN. A window as long as the image holds everything in that direction.

        Args:
            room: share of the window that is left free.
        """
        size = boxes[..., 2:] - boxes[..., :2]
        window = np.array([self.window_width, self.window_height])
        is_whole = np.array([self.width, self.height]) - window < PAIR_PX
        limits = np.where(is_whole, np.inf, window * (1 - room))
        fits = size * (1 + 2 * self.padding * padded) <= limits
        return np.asarray(fits.all(-1))

    def holds_group(self, boxes: Floats) -> NDArray[np.bool_]:
        """Whether people with these boxes around them can be shown together: with as much room as
        the path needs. More would be padding, which is left out wherever it does not fit."""
        return self.holds(boxes, padded=False, room=ROOM)


class Cast:
    """All tracks of a video, ready to be asked for a stretch of it."""

    def __init__(self, tracks: Sequence[SubjectTrack]) -> None:
        self.tracks = sorted(
            (track for track in tracks if len(track.frames)), key=lambda track: track.track_id
        )
        self._frames = np.concatenate(
            [np.zeros(0, np.int64), *(track.frames for track in self.tracks)]
        )
        self._owners = np.repeat(
            np.arange(len(self.tracks)), [len(track.frames) for track in self.tracks]
        )
        order = np.argsort(self._frames, kind="stable")
        self._frames, self._owners = self._frames[order], self._owners[order]
        balls = [track.frames for track in self.tracks if track.class_name in BALL_CLASSES]
        self._ball_frames = np.unique(np.concatenate([np.zeros(0, np.int64), *balls]))

    def ids(self) -> list[int]:
        return [track.track_id for track in self.tracks]

    def ball_frames(self, start: int, stop: int) -> int:
        """In how many frames from `start` to before `stop` a ball is seen."""
        low, high = np.searchsorted(self._ball_frames, (start, stop))
        return int(high - low)

    def seen(self, start: int, stop: int, subject: int | str) -> list[Seen]:
        """Whoever may be meant by `subject` (see `focus_on`) in the frames from `start` to before
        `stop`, by rising id."""
        low, high = np.searchsorted(self._frames, (start, stop))
        owners, counts = np.unique(self._owners[low:high], return_counts=True)
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

    def within(self, geometry: CropGeometry) -> Seen:
        """What of it is in the frame."""
        return replace(self, boxes=np.clip(self.boxes, 0, (geometry.width, geometry.height) * 2))

    @property
    def present(self) -> NDArray[np.bool_]:
        """Shape (k,)."""
        return np.isfinite(self.boxes[:, 0])


def _seen(track: SubjectTrack, start: int, stop: int) -> Seen:
    low, high = np.searchsorted(track.frames, (start, stop))
    boxes = np.full((stop - start, 4), np.nan)
    boxes[track.frames[low:high] - start] = track.boxes[low:high]
    return Seen(track.track_id, track.class_name, boxes, float(track.scores[low:high].mean()))


Ranked = list[tuple["Seen", float]]
"""People of a stretch and their importance, the most important first."""


def counting(ranked: Ranked) -> list[Seen]:
    """Those who are seen for long enough to count."""
    return [one for one, _ in ranked if one.present.mean() >= _PRESENT_SHARE]


def important(ranked: Ranked) -> list[Seen]:
    """Those who matter about as much as the first of them."""
    return [one for one, score in ranked if score >= _IMPORTANT * ranked[0][1]]


def most_seen(balls: Sequence[Seen]) -> Seen:
    """The ball seen most."""
    return max(balls, key=lambda one: (one.present.sum() * one.score, -one.track_id))


def best_ball(balls: Sequence[Seen], frames: int) -> Floats:
    """One ball box a frame, shape (frames, 4), NaN where none is seen: the ball seen most, then the
    next where that is not."""
    boxes = np.full((frames, 4), np.nan)
    for one in sorted(balls, key=lambda one: (-one.present.sum() * one.score, one.track_id)):
        boxes = np.where(np.isfinite(boxes), boxes, one.boxes)
    return boxes


def union(boxes: Sequence[Floats]) -> Floats:
    """The smallest box around all that are seen, shape (k, 4); NaN where none is."""
    stack = np.stack(boxes)
    low = np.fmin.reduce(stack[..., :2], axis=0)
    high = np.fmax.reduce(stack[..., 2:], axis=0)
    return np.concatenate([low, high], axis=-1)


def fits(boxes: Floats, geometry: CropGeometry) -> bool:
    """Whether people with these boxes around them, shape (k, 4), fit into the window nearly
    whenever they are seen."""
    seen = np.isfinite(boxes[:, 0])
    return bool(geometry.holds_group(boxes[seen]).mean() >= FITS_SHARE)
