"""States that no tracker wrote: refused before any frame is looked at, or harmless."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.track.association import Tracker
from gpu_worker_processors.track.detections import Detections

NAMES = ("person", "sports ball")


def good_state() -> dict[str, Any]:
    """Two people and a ball, the second person seen once."""
    tracker = Tracker("bytetrack", NAMES, 25.0)
    for frame in range(4):
        boxes = [[10 + frame, 10, 60, 150], [300 + 5 * frame, 40, 310 + 5 * frame, 50]]
        if frame == 3:
            boxes.append([400, 10, 450, 160])
        classes = [0, 1, 0][: len(boxes)]
        seen = Detections(
            np.array(boxes, np.float32),
            np.full(len(boxes), 0.9, np.float32),
            np.array(classes, np.int32),
        )
        tracker.update(seen, frame, frame / 25)
    return tracker.state()


def read(state: dict[str, Any]) -> Tracker:
    return Tracker.from_state(state, "bytetrack", NAMES, 25.0)


def test_the_state_itself_is_read() -> None:
    state = good_state()
    assert state["points"] and any(held is not None for held in state["tracks"]["held"])
    assert read(copy.deepcopy(state)).state() == state


def ball_of_tomorrow(state: dict[str, Any]) -> None:
    state["points"][0][2][1] = 9e9


def miss_of_tomorrow(state: dict[str, Any]) -> None:
    state["points"][0][6] = [[2, 9e9]]


def held_frame_of_tomorrow(state: dict[str, Any]) -> None:
    next(held for held in state["tracks"]["held"] if held)[0] = 10**9


def huge_held_frame(state: dict[str, Any]) -> None:
    next(held for held in state["tracks"]["held"] if held)[0] = 10**300


def track_of_tomorrow(state: dict[str, Any]) -> None:
    state["tracks"]["seen"][0] = 9e9


def one_id_twice(state: dict[str, Any]) -> None:
    state["points"][0][1] = next(number for number in state["tracks"]["ids"] if number)


def id_to_be_given(state: dict[str, Any]) -> None:
    state["next_id"] = 1


def id_too_large(state: dict[str, Any]) -> None:
    state["next_id"] = 2**31


def person_as_ball(state: dict[str, Any]) -> None:
    state["points"][0][0] = 0


def score_as_text(state: dict[str, Any]) -> None:
    state["points"][0][2][3] = "nan"


@pytest.mark.parametrize(
    "change",
    [
        ball_of_tomorrow,
        miss_of_tomorrow,
        held_frame_of_tomorrow,
        huge_held_frame,
        track_of_tomorrow,
        one_id_twice,
        id_to_be_given,
        id_too_large,
        person_as_ball,
        score_as_text,
    ],
    ids=lambda change: change.__name__,
)
def test_a_state_that_no_tracker_wrote_is_refused(change: Any) -> None:
    state = good_state()
    change(state)
    with pytest.raises(TaskError) as caught:
        read(state)
    assert caught.value.code is ErrorCode.invalid_task
