"""Scripted detections for the tracker: boxes whose motion is known by construction."""

from __future__ import annotations

import json

import numpy as np

from gpu_worker_processors.track.association import Algorithm, Observation, Tracker
from gpu_worker_processors.track.detections import Detections

NAMES = ("person", "sports ball", "dog", "frisbee")
PERSON, BALL, DOG, FRISBEE = 0, 1, 2, 3
Row = tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2, score, class."""


def frame_of(*rows: Row) -> Detections:
    table = np.array(sorted(rows, key=lambda row: -row[4]), np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def box_at(
    x: float,
    y: float = 100.0,
    width: float = 40.0,
    height: float = 100.0,
    score: float = 0.9,
    kind: int = PERSON,
) -> Row:
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2, score, kind)


def ball_at(x: float, y: float = 50.0, score: float = 0.8) -> Row:
    return box_at(x, y, 10.0, 10.0, score, BALL)


def new_tracker(
    algorithm: Algorithm = "bytetrack", fps: float = 25, threshold: float = 0.5
) -> Tracker:
    return Tracker(algorithm, NAMES, fps, threshold)


def run_tracker(tracker: Tracker, frames: list[Detections], fps: float = 25.0) -> list[Observation]:
    return [one for i, frame in enumerate(frames) for one in tracker.update(frame, i, i / fps)]


def resumed(tracker: Tracker, algorithm: Algorithm = "bytetrack") -> Tracker:
    return Tracker.from_state(json.loads(json.dumps(tracker.state())), algorithm, NAMES, 25)
