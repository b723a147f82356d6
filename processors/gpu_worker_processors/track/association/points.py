"""Tracks of things that move farther than their own size between two frames: a ball has no overlap
with itself.

Pairs are made by the distance of centres from a constant-velocity prediction, within a gate
measured in the ball's own diameters, so it holds for every resolution. A gap of at most
`BRIDGE_SECONDS` between two reported boxes is filled with boxes on the line between them, marked
`interpolated`, just before the box that ended the gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpu_worker_processors.track.association.assignment import IMPOSSIBLE, assign
from gpu_worker_processors.track.association.camera import Warp
from gpu_worker_processors.track.association.observation import Observation
from gpu_worker_processors.track.association.state_json import floats, integers, sequence
from gpu_worker_processors.track.association.tracks import Sighting, read_sighting

POINT_CLASSES = frozenset({"sports ball", "frisbee", "ball", "puck", "shuttlecock"})
"""Classes tracked as points. The first two are COCO's; the rest are usual names in detectors
trained for sport."""

BRIDGE_SECONDS = 0.3
"""The longest gap that is filled: beyond it a thrown ball is no longer near a straight line (0.3 s
of free fall is 0.44 m)."""
LOST_SECONDS = 1.0
"""How long a ball that is not seen keeps its identity."""
TRIAL_SECONDS = 0.12
"""A second detection must come within this time to confirm a first one: three frames of 25
frames/s, as balls flicker."""
FIRST_SPEED = 110.0
"""Diameters per second that a ball of unknown speed may move: a basketball (0.24 m) or a football
(0.22 m) at 25 m/s."""
JOLT = 45.0
"""Diameters per second by which a throw may change the speed between two detections, besides
stopping it dead (a catch)."""
SLACK = 1.0
"""Diameters that detection noise may move the centre."""
GATE_GROWTH_SECONDS = 0.2
"""The gate grows with the time since the last detection up to this: a wider one would catch other
balls."""

MAX_POINTS = 5_000


@dataclass
class Point:
    """One ball."""

    class_index: int
    id: int
    """0 until first reported."""
    last: Sighting
    """The last detection, of whatever score. Its box moves with the camera; `reported` does not."""
    speed: tuple[float, float] | None = None
    """Pixels per second of the centre; None after a single detection."""
    held: Sighting | None = None
    """The first detection, until a second one confirms it."""
    reported: Sighting | None = None
    """The last box given out."""
    missed: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Frames and times since `reported`, at most `BRIDGE_SECONDS` of them."""
    tentative: bool = False

    @property
    def diameter(self) -> float:
        """The mean side of the last box in pixels, at least one."""
        x1, y1, x2, y2 = self.last.box
        return max((x2 - x1 + y2 - y1) / 2, 1.0)

    def expected(self, now: float) -> tuple[float, float]:
        """Where the centre should be at `now`."""
        x, y = _centre(self.last.box)
        vx, vy = self.speed or (0.0, 0.0)
        gap = now - self.last.time_seconds
        return x + vx * gap, y + vy * gap

    def gate(self, now: float) -> float:
        """How far from there a detection may lie, in pixels."""
        gap = min(max(now - self.last.time_seconds, 0.0), GATE_GROWTH_SECONDS)
        if self.speed is None:
            return self.diameter * (SLACK + FIRST_SPEED * gap)
        return self.diameter * (SLACK + JOLT * gap) + math.hypot(*self.speed) * gap


Report = Callable[[Point, Sighting, bool], Observation]
"""Turns a sighting of a point, interpolated or not, into an observation, and gives the point its id
the first time."""


class Points:
    """All balls of one tracker."""

    def __init__(self, report: Report, confidence_threshold: float, birth_score: float) -> None:
        self._report = report
        self._threshold = confidence_threshold
        self._birth_score = birth_score
        self.items: list[Point] = []

    def forget(self) -> None:
        """Nothing matches across a cut."""
        self.items = []

    def warp(self, camera: Warp) -> None:
        """Move the last boxes and speeds with the camera."""
        for point in self.items:
            point.last = _warped(point.last, camera)
            if point.speed is not None:
                vx, vy = point.speed
                point.speed = camera.a * vx - camera.b * vy, camera.b * vx + camera.a * vy

    def update(
        self, seen: list[tuple[int, Sighting]], frame: int, now: float, sure: bool
    ) -> list[Observation]:
        """Take in the (class, detection) pairs of one frame, strongest first. With `sure` a single
        detection is believed."""
        self.items = [
            point for point in self.items if now - point.last.time_seconds <= LOST_SECONDS + 1e-9
        ]
        pairs = self._pairs(seen, now)
        out: list[Observation] = []
        for row, column in pairs.items():
            out += self._continued(self.items[row], seen[column][1])
        taken = set(pairs.values())
        for row, point in enumerate(self.items):
            if row not in pairs:
                point.missed.append((frame, now))
        self.items = [point for point in self.items if not _is_over(point, now)]
        for column, (class_index, found) in enumerate(seen):
            if column not in taken and found.score >= self._birth_score:
                out += self._born(class_index, found, sure)
        return out

    def _pairs(self, seen: list[tuple[int, Sighting]], now: float) -> dict[int, int]:
        """Point to detection, nearest to the prediction in units of the gate; at equal distance the
        strong one is preferred."""
        if not self.items or not seen:
            return {}
        cost = np.full((len(self.items), len(seen)), IMPOSSIBLE)
        centres = [_centre(found.box) for _, found in seen]
        for row, point in enumerate(self.items):
            x, y = point.expected(now)
            gate = point.gate(now)
            for column, (class_index, found) in enumerate(seen):
                distance = math.hypot(centres[column][0] - x, centres[column][1] - y) / gate
                if class_index == point.class_index and distance <= 1:
                    cost[row, column] = distance + 0.5 * (1 - found.score)
        rows, columns = assign(cost, 2.0)
        return dict(zip(rows.tolist(), columns.tolist(), strict=True))

    def _continued(self, point: Point, sighting: Sighting) -> list[Observation]:
        gap = sighting.time_seconds - point.last.time_seconds
        if gap > 0:
            (x, y), (px, py) = _centre(sighting.box), _centre(point.last.box)
            point.speed = (x - px) / gap, (y - py) / gap
        point.last, point.tentative = sighting, False
        out: list[Observation] = []
        if point.held is not None:
            out += self._given(point, point.held)
            point.held = None
        return out + self._given(point, sighting)

    def _born(self, class_index: int, sighting: Sighting, sure: bool) -> list[Observation]:
        point = Point(class_index, 0, sighting, held=None if sure else sighting, tentative=not sure)
        self.items.append(point)
        return self._given(point, sighting) if sure else []

    def _given(self, point: Point, sighting: Sighting) -> list[Observation]:
        """Report a sighting if it is strong enough, and the gap before it."""
        if sighting.score < self._threshold:
            point.missed.append((sighting.frame, sighting.time_seconds))
            return []
        before = point.reported
        fill: list[Observation] = []
        if (
            before is not None
            and sighting.time_seconds - before.time_seconds <= BRIDGE_SECONDS + 1e-9
        ):
            gaps = [
                (frame, seconds)
                for frame, seconds in point.missed
                if before.frame < frame < sighting.frame
            ]
            fill = [self._report(point, _between(before, sighting, *gap), True) for gap in gaps]
        point.reported = sighting
        point.missed = [gap for gap in point.missed if gap[0] > sighting.frame]
        return [*fill, self._report(point, sighting, False)]

    def to_json(self) -> list[Any]:
        """All balls as plain lists."""
        return [
            [
                p.class_index,
                p.id,
                _plain(p.last),
                p.speed and list(p.speed),
                _plain(p.held),
                _plain(p.reported),
                [list(gap) for gap in p.missed],
                p.tentative,
            ]
            for p in self.items
        ]

    def read(self, data: Any, class_count: int) -> None:
        """Take what `to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        if not isinstance(data, list) or len(data) > MAX_POINTS:
            raise ValueError("a list of balls is due")
        self.items = [_point(one, class_count) for one in data]


def _point(data: Any, class_count: int) -> Point:
    class_index, identity, last, speed, held, reported, missed, tentative = sequence(data, 8)
    pace = None if speed is None else floats(speed, (2,)).tolist()
    gaps = floats(missed, (None, 2)).tolist() if missed else []
    return Point(
        int(integers(class_index, (), 0, class_count - 1)),
        int(integers(identity, (), 0, 2**53)),
        read_sighting(last),
        None if pace is None else (pace[0], pace[1]),
        None if held is None else read_sighting(held),
        None if reported is None else read_sighting(reported),
        [(int(frame), seconds) for frame, seconds in gaps],
        bool(tentative),
    )


def _plain(one: Sighting | None) -> list[Any] | None:
    return None if one is None else [one.frame, one.time_seconds, list(one.box), one.score]


def _is_over(point: Point, now: float) -> bool:
    """Forget the gaps that are too long to fill, and say whether the point itself is gone."""
    if point.reported is None or now - point.reported.time_seconds > BRIDGE_SECONDS + 1e-9:
        start = point.held.frame if point.held is not None else math.inf
        point.missed = [gap for gap in point.missed if gap[0] > start]
    return (
        now - point.last.time_seconds > (TRIAL_SECONDS if point.tentative else LOST_SECONDS) + 1e-9
    )


def _between(before: Sighting, after: Sighting, frame: int, seconds: float) -> Sighting:
    share = (seconds - before.time_seconds) / max(after.time_seconds - before.time_seconds, 1e-9)
    x1, y1, x2, y2 = (
        (1 - share) * old + share * new for old, new in zip(before.box, after.box, strict=True)
    )
    return Sighting(frame, seconds, (x1, y1, x2, y2), min(before.score, after.score))


def _centre(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _warped(one: Sighting, camera: Warp) -> Sighting:
    x, y = _centre(one.box)
    zoom = math.hypot(camera.a, camera.b)
    half_width, half_height = (
        zoom * (one.box[2] - one.box[0]) / 2,
        zoom * (one.box[3] - one.box[1]) / 2,
    )
    x, y = camera.a * x - camera.b * y + camera.dx, camera.b * x + camera.a * y + camera.dy
    return Sighting(
        one.frame,
        one.time_seconds,
        (x - half_width, y - half_height, x + half_width, y + half_height),
        one.score,
    )


def is_point(class_name: str) -> bool:
    """Whether boxes of that class are tracked as points."""
    return class_name in POINT_CLASSES
