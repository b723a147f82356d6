"""The tracker on motion whose truth is known by construction."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gpu_worker_processors.track.association import Observation, Tracker
from gpu_worker_processors.track.detections import Detections

NAMES = ("person", "sports ball", "dog")
Row = tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2, score, class."""


def _frame(*rows: Row) -> Detections:
    table = np.array(sorted(rows, key=lambda row: -row[4]), np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int32))


def _at(x: float, y: float = 100.0, width: float = 40.0, height: float = 100.0, score: float = 0.9, kind: int = 0) -> Row:
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2, score, kind)


def _run(tracker: Tracker, frames: list[Detections], fps: float = 25.0) -> list[Observation]:
    return [one for i, frame in enumerate(frames) for one in tracker.update(frame, i, i / fps)]


def test_two_people_who_cross_keep_their_ids() -> None:
    # 4 px a frame, towards each other, overlapping in frames 22..28.
    frames = [_frame(_at(100 + 4 * i), _at(300 - 4 * i, 110.0)) for i in range(50)]
    found = _run(Tracker("bytetrack", NAMES, 25), frames)
    for one in found:
        rightwards = one.bbox[1] == 50.0
        assert one.track_id == (1 if rightwards else 2)
    assert len(found) == 100


@pytest.mark.parametrize("algorithm", ["bytetrack", "botsort"])
def test_state_goes_through_json_between_any_two_frames(algorithm: str) -> None:
    rng = np.random.default_rng(3)
    frames = [
        _frame(*(_at(60 * k + 3 * i, 100 + 7 * k, score=float(rng.uniform(0.1, 1))) for k in range(8) if rng.random() > 0.2))
        for i in range(60)
    ]
    whole = Tracker(algorithm, NAMES, 25)  # type: ignore[arg-type]
    parted = Tracker(algorithm, NAMES, 25)  # type: ignore[arg-type]
    for i, frame in enumerate(frames):
        parted = Tracker.from_state(json.loads(json.dumps(parted.state())), algorithm, NAMES, 25)  # type: ignore[arg-type]
        assert parted.update(frame, i, i / 25) == whole.update(frame, i, i / 25)


def test_nothing_at_all_and_one_detection() -> None:
    tracker = Tracker("bytetrack", NAMES, 25)
    assert _run(tracker, [_frame()] * 5) == []
    (only,) = tracker.update(_frame(_at(50)), 5, 0.2)
    assert (only.track_id, only.frame, only.bbox) == (1, 5, (30.0, 50.0, 70.0, 150.0))
