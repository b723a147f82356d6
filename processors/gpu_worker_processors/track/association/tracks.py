"""The table of live, lost and tentative tracks: one row each, columns as arrays, so that a frame
costs a few array operations.

Rows keep their order; new ones are appended, dropped ones removed. `to_json` and `from_json` carry
the whole table exactly: Python writes and reads floats so that they come back to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.track.association.boxes import Floats
from gpu_worker_processors.track.association.camera import Warp, warped
from gpu_worker_processors.track.association.motion import Motion
from gpu_worker_processors.track.association.state_json import floats, integers, sequence

TENTATIVE, LIVE, LOST = 0, 1, 2
"""Seen once and not believed yet; seen in the last frame; not seen in the last frame."""

LOST_PACE = 0.97
"""Share of its speed that a lost track keeps per tick: what goes out of sight at speed seldom goes
on in a straight line."""

MAX_TRACKS = 20_000
"""A state with more is not one that a tracker wrote: 500 detections a frame at 30 frames/s, each
lost for a second."""


@dataclass(frozen=True)
class Sighting:
    """One detection that belongs to a track and has not been reported yet."""

    frame: int
    time_seconds: float
    box: tuple[float, float, float, float]
    score: float


@dataclass
class Tracks:
    """All tracks of one tracker, n rows."""

    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Shape (n,): 0 until the track is first reported."""
    classes: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """Shape (n,): index into the detector's class names."""
    status: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    """Shape (n,): TENTATIVE, LIVE or LOST."""
    seen: Floats = field(default_factory=lambda: np.zeros(0))
    """Shape (n,): time of the last detection in seconds."""
    last: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    """Shape (n, 4): corner box of the last detection, moved with the camera since."""
    motion: Motion = field(default_factory=lambda: Motion.starting(np.zeros((0, 4))))
    """Filter states, n rows."""
    held: list[Sighting | None] = field(default_factory=list[Sighting | None])
    """The first detection of a tentative track, reported once a second one confirms it."""

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the rows where `mask`, bool of shape (n,), is false."""
        rows = np.nonzero(mask)[0]
        self.ids, self.classes = self.ids[rows], self.classes[rows]
        self.status, self.seen, self.last = self.status[rows], self.seen[rows], self.last[rows]
        self.motion = Motion(
            self.motion.position[rows], self.motion.speed[rows], self.motion.spread[:, rows]
        )
        self.held = [self.held[row] for row in rows]

    def append(
        self,
        boxes: Floats,
        classes: NDArray[np.int32],
        status: int,
        held: list[Sighting | None],
        now: float,
    ) -> None:
        """Add a track for each of the corner boxes (k, 4) seen at `now` seconds."""
        count, motion, new = len(boxes), self.motion, Motion.starting(boxes)
        self.ids = np.concatenate([self.ids, np.zeros(count, np.int64)])
        self.classes = np.concatenate([self.classes, classes])
        self.status = np.concatenate([self.status, np.full(count, status, np.int8)])
        self.seen = np.concatenate([self.seen, np.full(count, now)])
        self.last = np.concatenate([self.last, boxes])
        spread = np.concatenate([motion.spread, new.spread], axis=1)
        self.motion = Motion(
            np.concatenate([motion.position, new.position]),
            np.concatenate([motion.speed, new.speed]),
            spread,
        )
        self.held = self.held + held

    def step(self, ticks: float) -> None:
        """Predict all tracks `ticks` into the future. Those that are lost slow down and keep their
        size."""
        lost = self.status == LOST
        self.motion.speed[lost, 2:] = 0
        self.motion.speed[lost, :2] *= LOST_PACE**ticks
        self.motion.step(ticks)

    def warp(self, camera: Warp) -> None:
        """Move all tracks with the camera."""
        self.motion.warp(camera)
        self.last = warped(self.last, camera)

    def to_json(self) -> dict[str, Any]:
        """The table as plain lists."""
        return {
            "ids": self.ids.tolist(),
            "classes": self.classes.tolist(),
            "status": self.status.tolist(),
            "seen": self.seen.tolist(),
            "last": self.last.tolist(),
            "place": self.motion.position.tolist(),
            "speed": self.motion.speed.tolist(),
            "spread": self.motion.spread.tolist(),
            "held": [
                None if one is None else [one.frame, one.time_seconds, list(one.box), one.score]
                for one in self.held
            ],
        }

    @classmethod
    def from_json(cls, data: Any, class_count: int) -> Tracks:
        """The table that `to_json` wrote. Raises ValueError, TypeError or KeyError for anything
        else."""
        ids = integers(data["ids"], (None,), 0, 2**53)
        count = len(ids)
        if count > MAX_TRACKS:
            raise ValueError(f"{count} tracks")
        motion = Motion(
            floats(data["place"], (count, 4)),
            floats(data["speed"], (count, 4)),
            floats(data["spread"], (3, count, 4)),
        )
        return cls(
            ids,
            integers(data["classes"], (count,), 0, class_count - 1).astype(np.int32),
            integers(data["status"], (count,), TENTATIVE, LOST).astype(np.int8),
            floats(data["seen"], (count,)),
            floats(data["last"], (count, 4)),
            motion,
            [None if one is None else read_sighting(one) for one in sequence(data["held"], count)],
        )


def read_sighting(data: Any) -> Sighting:
    """One sighting from the list [frame, seconds, box, score]."""
    frame, seconds, box, score = sequence(data, 4)
    corners = floats(box, (4,)).tolist()
    number, moment, strength = (
        float(floats(value, ())) for value in (integers(frame, (), 0, 2**53), seconds, score)
    )
    return Sighting(int(number), moment, (corners[0], corners[1], corners[2], corners[3]), strength)
