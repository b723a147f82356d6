"""The tracker on balls: small, fast, often hidden; paths known by construction."""

from __future__ import annotations

import pytest
from support.tracker_kit import FRISBEE, ball_at, box_at, frame_of, new_tracker, run_tracker

from gpu_worker_processors.track.association import Observation


def test_a_ball_faster_than_its_size_keeps_its_id() -> None:
    # 10 px wide, 25 px a frame: no two boxes overlap.
    found = run_tracker(
        new_tracker(),
        [frame_of(ball_at(20 + 25 * i, 100 - 6 * i + 0.3 * i * i)) for i in range(30)],
    )
    assert [(one.track_id, one.class_name, one.interpolated) for one in found] == [
        (1, "sports ball", False)
    ] * 30


def test_a_thrown_ball_is_looked_for_ahead() -> None:
    # 45 px a frame, hidden for two frames.
    found = run_tracker(
        new_tracker(),
        [frame_of() if i in (8, 9) else frame_of(ball_at(20 + 45 * i)) for i in range(20)],
    )
    assert [one.track_id for one in found] == [1] * 20


def test_a_frisbee_is_not_a_ball() -> None:
    frames = [frame_of(ball_at(100))] * 5 + [frame_of(box_at(100, 50, 10, 10, kind=FRISBEE))] * 5
    found = run_tracker(new_tracker(), frames)
    assert [(one.track_id, one.class_name) for one in found] == [(1, "sports ball")] * 5 + [
        (2, "frisbee")
    ] * 5


def test_a_bounce_keeps_the_id() -> None:
    found = run_tracker(
        new_tracker(), [frame_of(ball_at(20 + 12 * i, 200 - abs(15 - i) * 14)) for i in range(30)]
    )
    assert {one.track_id for one in found} == {1}


def test_a_gap_of_a_ball_is_filled_with_points_on_the_line() -> None:
    frames = [
        frame_of(ball_at(20 + 20 * i)) if not 9 < i < 14 else frame_of(box_at(300))
        for i in range(25)
    ]
    tracker = new_tracker()
    found = run_tracker(tracker, frames)
    balls = [one for one in found if one.class_name == "sports ball"]
    assert [one.frame for one in balls] == list(range(25))
    assert [one.frame for one in balls if one.interpolated] == [10, 11, 12, 13]
    for one in balls:
        assert one.bbox[0] == pytest.approx(15 + 20 * one.frame)
    assert not any(one.interpolated for one in found if one.class_name == "person")


def test_the_line_of_a_gap_follows_time_not_frames() -> None:
    times = [0.0, 0.04, 0.08, 0.20, 0.24]
    tracker = new_tracker()
    found: list[Observation] = []
    for i, t in enumerate(times):
        found += tracker.update(
            frame_of() if i in (2, 3) else frame_of(ball_at(100 + 500 * t)), i, t
        )
    assert [(one.frame, round(one.bbox[0], 3)) for one in found if one.interpolated] == [
        (2, 135.0),
        (3, 195.0),
    ]


@pytest.mark.parametrize("fps", [12.5, 25.0, 50.0])
def test_a_gap_longer_than_0_3_seconds_is_left_open(fps: float) -> None:
    def filled(seconds: float) -> int:
        missing = range(10, 10 + round(seconds * fps) - 1)
        frames = [
            frame_of() if i in missing else frame_of(ball_at(20 + 100 * i / fps)) for i in range(60)
        ]
        return sum(one.interpolated for one in run_tracker(new_tracker(fps=fps), frames, fps))

    assert filled(0.24) == round(0.24 * fps) - 1
    assert filled(0.4) == 0


def test_balls_do_not_jump_to_another_ball() -> None:
    # A second ball lies 300 px away while the first one is thrown and hidden for a while.
    frames = [
        frame_of(ball_at(400, 300), *([] if 8 < i < 12 else [ball_at(20 + 10 * i)]))
        for i in range(25)
    ]
    lying = {one.track_id for one in run_tracker(new_tracker(), frames) if one.bbox[1] == 295.0}
    thrown = {one.track_id for one in run_tracker(new_tracker(), frames) if one.bbox[1] != 295.0}
    assert len(lying) == len(thrown) == 1
    assert lying != thrown


def test_one_flicker_of_a_ball_is_no_track() -> None:
    frames = [frame_of(box_at(100), *([ball_at(300)] if i == 5 else [])) for i in range(20)]
    assert {one.class_name for one in run_tracker(new_tracker(), frames)} == {"person"}
