"""The tracker on motion whose truth is known by construction."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from support.tracker_kit import (
    BALL,
    DOG,
    NAMES,
    Row,
    ball_at,
    box_at,
    frame_of,
    new_tracker,
    resumed,
    run_tracker,
)

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.track.association import Algorithm, Observation, Tracker
from gpu_worker_processors.track.detections import Detections

# Identity


def test_two_people_who_cross_keep_their_ids() -> None:
    # 4 px a frame, towards each other, on top of each other in frame 25.
    found = run_tracker(
        new_tracker(),
        [frame_of(box_at(100 + 4 * i), box_at(300 - 4 * i, 110.0)) for i in range(50)],
    )
    assert len(found) == 100
    assert {(one.track_id, one.bbox[1]) for one in found} == {(1, 50.0), (2, 60.0)}


def test_a_class_never_takes_over_a_track() -> None:
    # A dog appears exactly where the person was, and the person is not found any more.
    found = run_tracker(
        new_tracker(), [frame_of(box_at(100))] * 5 + [frame_of(box_at(100, kind=DOG))] * 5
    )
    assert [(one.track_id, one.class_name) for one in found] == [(1, "person")] * 5 + [
        (2, "dog")
    ] * 5


def test_the_box_is_the_detections_own() -> None:
    rng = np.random.default_rng(1)
    frames = [frame_of(box_at(100 + 5 * i + float(rng.normal(0, 4)))) for i in range(30)]
    for one, frame in zip(run_tracker(new_tracker(), frames), frames, strict=True):
        assert one.bbox == tuple(frame.boxes[0].tolist())


def test_ids_count_from_one_without_a_hole_and_anew_in_each_tracker() -> None:
    # A flicker of one frame is no track, and a weak one is never reported: neither uses up an id.
    frames = [
        frame_of(box_at(100), *([box_at(500)] if i == 3 else []), *([box_at(700)] if i > 6 else []))
        for i in range(12)
    ]
    frames = [frame_of(*_rows(frame), box_at(900, score=0.4)) for frame in frames]
    for _ in range(2):
        assert sorted({one.track_id for one in run_tracker(new_tracker(), frames)}) == [1, 2]


def _rows(frame: Detections) -> list[Row]:
    return [
        (*box, score, kind)
        for box, score, kind in zip(frame.boxes.tolist(), frame.scores, frame.classes, strict=True)
    ]


def test_the_first_box_comes_once_the_second_confirms_it() -> None:
    tracker = new_tracker()
    tracker.update(frame_of(box_at(100)), 0, 0.0)
    assert [one.frame for one in tracker.update(frame_of(box_at(100), box_at(500)), 1, 0.04)] == [1]
    later = [
        one
        for one in tracker.update(frame_of(box_at(100), box_at(502)), 2, 0.08)
        if one.track_id == 2
    ]
    assert [(one.frame, one.bbox[0]) for one in later] == [(1, 480.0), (2, 482.0)]


# Scores


def test_weak_boxes_hold_a_track_and_are_not_reported() -> None:
    # Hidden for two seconds, longer than a lost track is kept, but faintly seen, and walking on.
    faint = [0.9] * 10 + [0.15] * 60 + [0.9] * 10
    found = run_tracker(
        new_tracker(), [frame_of(box_at(100 + 3 * i, score=score)) for i, score in enumerate(faint)]
    )
    assert {one.track_id for one in found} == {1}
    assert [one.frame for one in found] == [*range(10), *range(70, 80)]
    without = [
        frame_of(box_at(100 + 3 * i, score=score)) if score > 0.2 else frame_of()
        for i, score in enumerate(faint)
    ]
    assert {one.track_id for one in run_tracker(new_tracker(), without)} == {1, 2}


@pytest.mark.parametrize(("threshold", "count"), [(0.25, 10), (0.5, 5), (0.7, 0)])
def test_the_threshold_filters_what_is_reported(threshold: float, count: int) -> None:
    frames = [frame_of(box_at(100, score=0.6 if i % 2 else 0.3)) for i in range(10)]
    found = run_tracker(new_tracker(threshold=threshold), frames)
    assert len(found) == count
    assert all(one.confidence >= threshold for one in found)


# Time


def _crossing(seconds: list[float]) -> list[Detections]:
    """A runner who speeds up, hidden for 0.3 s, and a walker who crosses his way."""
    frames: list[Detections] = []
    for t in seconds:
        runner = box_at(100 + 80 * t + 60 * t * t, 100)
        walker = box_at(420 - 60 * t, 125, 36, 90)
        frames.append(frame_of(walker) if 1.0 < t < 1.3 else frame_of(runner, walker))
    return frames


def _identities(times: list[float]) -> set[tuple[int, float]]:
    """Identity and lower edge of everything that was found: one identity per edge when none is lost
    or mixed up."""
    tracker = new_tracker(fps=25)
    found: list[Observation] = []
    for i, (t, frame) in enumerate(zip(times, _crossing(times), strict=True)):
        found += tracker.update(frame, i, t)
    return {(one.track_id, one.bbox[3]) for one in found}


@pytest.mark.parametrize("fps", [12.5, 25.0, 50.0])
def test_the_same_motion_at_any_rate_gives_the_same_identities(fps: float) -> None:
    assert _identities([i / fps for i in range(int(2.4 * fps))]) == {(1, 150.0), (2, 170.0)}


def test_a_varying_rate_gives_the_same_identities() -> None:
    steps = np.random.default_rng(5).choice([0.02, 0.04, 0.08], 60)
    times = [t for t in np.cumsum(steps).tolist() if t < 2.4]
    assert _identities(times) == {(1, 150.0), (2, 170.0)}


def test_a_column_of_runners_at_a_varying_rate() -> None:
    # 50 px apart and 600 px/s: in 0.08 s each comes to where the one before him was.
    times = [
        0.0,
        0.02,
        0.04,
        0.06,
        0.08,
        0.10,
        0.12,
        0.20,
        0.28,
        0.30,
        0.38,
        0.40,
        0.42,
        0.50,
        0.58,
    ]
    tracker = new_tracker(fps=25)
    found: list[Observation] = []
    for i, t in enumerate(times):
        found += tracker.update(
            frame_of(*(box_at(600 * t + 50 * k, 100 + k) for k in range(6))), i, t
        )
    assert {(one.track_id, one.bbox[1]) for one in found} == {(k + 1, 50.0 + k) for k in range(6)}


def test_who_stopped_out_of_sight_is_found_where_he_was_last_seen() -> None:
    # 12 px a frame to the right, then hidden for 0.8 s; a prediction alone would look 150 px
    # farther.
    frames = (
        [frame_of(box_at(100 + 12 * i)) for i in range(12)]
        + [frame_of()] * 20
        + [frame_of(box_at(240))] * 5
    )
    assert {one.track_id for one in run_tracker(new_tracker(), frames)} == {1}


@pytest.mark.parametrize("fps", [5.0, 25.0, 120.0])
def test_a_lost_track_is_kept_for_seconds_not_frames(fps: float) -> None:
    def gap(seconds: float) -> int:
        shown = [frame_of(box_at(100))] * 5
        return len(
            {
                one.track_id
                for one in run_tracker(
                    new_tracker(fps=fps), shown + [frame_of()] * round(seconds * fps) + shown, fps
                )
            }
        )

    assert (gap(0.8), gap(6.0)) == (1, 2)


def test_a_clock_that_stands_still_or_jumps() -> None:
    tracker = new_tracker()
    times = [0.0, 0.0, 0.04, 0.04, 1e6, 1e6 + 0.04]
    found = [
        one for i, t in enumerate(times) for one in tracker.update(frame_of(box_at(100)), i, t)
    ]
    assert [one.track_id for one in found] == [1, 1, 1, 1, 2, 2]


# Cuts and chunks


def test_nothing_matches_across_a_cut_and_ids_go_on() -> None:
    tracker = new_tracker()
    before = run_tracker(tracker, [frame_of(box_at(100), ball_at(50))] * 5)
    tracker.reset()
    after = tracker.update(frame_of(box_at(100), ball_at(50)), 5, 0.2)
    assert {one.track_id for one in before} == {1, 2}
    assert [one.track_id for one in after] == [3, 4]


def _busy(seed: int, count: int) -> list[Detections]:
    rng = np.random.default_rng(seed)
    return [
        frame_of(
            *(
                box_at(60 * k + 3 * i, 100 + 7 * k, score=float(rng.uniform(0.1, 1)))
                for k in range(8)
                if rng.random() > 0.2
            ),
            *(
                [ball_at(20 + 9.0 * i, 60 + 2 * i, float(rng.uniform(0.1, 1)))]
                if rng.random() > 0.3
                else []
            ),
        )
        for i in range(count)
    ]


def _textures(seed: int, count: int) -> list[Any]:
    """Gray pictures of a camera that pans over a random texture, 3 px a picture."""
    wide = np.random.default_rng(seed).integers(0, 256, (90, 160 + 3 * count)).astype(np.uint8)
    wide = (
        wide.astype(np.float32)
        + np.roll(wide, 1, 0)
        + np.roll(wide, 1, 1)
        + np.roll(wide, (1, 1), (0, 1))
    ) / 4
    return [
        np.ascontiguousarray(wide[:, 3 * i : 3 * i + 160]).astype(np.uint8) for i in range(count)
    ]


@pytest.mark.parametrize("algorithm", ["bytetrack", "botsort"])
def test_a_feed_in_chunks_gives_what_it_gives_in_one_go(algorithm: Algorithm) -> None:
    frames, pictures = _busy(3, 60), _textures(4, 60)
    whole, parted = new_tracker(algorithm), new_tracker(algorithm)
    found = 0
    for i, (frame, gray) in enumerate(zip(frames, pictures, strict=True)):
        parted = resumed(parted, algorithm)
        one = whole.update(frame, i, i / 25, gray, 4.0)
        assert parted.update(frame, i, i / 25, gray, 4.0) == one
        found += len(one)
    assert found > 200
    assert (parted.last_frame, parted.last_time_seconds) == (59, 59 / 25)


def test_a_state_of_fifty_tracks_is_small() -> None:
    tracker = new_tracker("botsort")
    noise = np.random.default_rng(0).integers(0, 256, (270, 480)).astype(np.uint8)
    for i in range(20):
        rows = [box_at(37.7 * k + 1.3 * i, 100 + 11.1 * k, 33.3, 77.7) for k in range(50)]
        tracker.update(frame_of(*rows, ball_at(9.0 * i)), i, i / 25, noise, 4.0)
    assert len(json.dumps(tracker.state())) < 100_000


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"algorithm": "botsort"},
        {"class_names": ["person"]},
        {"tracks": {}},
        {"tracks": None},
        {"next_id": -1},
        {"next_id": "x"},
        {"last_time_seconds": float("inf")},
        {"points": [[0]]},
        {"points": {"a": 1}},
        {"camera": {"shape": [100000, 100000], "gray": "", "corners": []}},
        {"camera": {"shape": [4, 4], "gray": "eJwDAAAAAAE=", "corners": []}},
        {"camera": {"shape": [4, 4], "gray": "not base64", "corners": []}},
    ],
)
def test_a_foreign_state_is_refused(damage: dict[str, Any]) -> None:
    tracker = new_tracker()
    run_tracker(tracker, _busy(1, 10))
    with pytest.raises(TaskError) as caught:
        Tracker.from_state({**tracker.state(), **damage}, "bytetrack", NAMES, 25)
    assert caught.value.code is ErrorCode.invalid_task


def test_arrays_of_a_foreign_state_are_refused_when_they_do_not_fit() -> None:
    tracker = new_tracker()
    run_tracker(tracker, _busy(1, 10))
    for name, value in {
        "ids": [1],
        "place": [[0.0] * 4],
        "classes": [7] * 99,
        "held": [],
        "last": "x",
    }.items():
        state = json.loads(json.dumps(tracker.state()))
        state["tracks"][name] = value
        with pytest.raises(TaskError):
            Tracker.from_state(state, "bytetrack", NAMES, 25)


def test_twice_in_a_row_is_identical() -> None:
    assert run_tracker(new_tracker(), _busy(8, 80)) == run_tracker(new_tracker(), _busy(8, 80))


# Camera


def _panned(algorithm: Algorithm, in_chunks: bool = False) -> set[tuple[int, float]]:
    """A camera that swings 15 % of the picture a frame over people who stand still: 24 px a step,
    boxes 40 px wide."""
    rng = np.random.default_rng(6)
    wide = np.repeat(np.repeat(rng.integers(0, 256, (23, 100)).astype(np.uint8), 4, 0), 4, 1)[:90]
    swing = [0, 0, 0, 6, 12, 18, 12, 6, 0, 6, 0, 12, 0, 6, 12]
    tracker, found = new_tracker(algorithm), list[Observation]()
    for i, x in enumerate(swing):
        tracker = resumed(tracker, algorithm) if in_chunks else tracker
        rows = [box_at(200 + 44 * k - 4 * x, 100 + k) for k in range(6)]
        found += tracker.update(
            frame_of(*rows), i, i / 25, np.ascontiguousarray(wide[:, 40 + x : 200 + x]), 4.0
        )
    return {(one.track_id, one.bbox[1]) for one in found}


def test_botsort_takes_the_cameras_motion_out() -> None:
    assert len(_panned("botsort")) == 6
    assert len(_panned("bytetrack")) > 6


def test_the_last_picture_is_part_of_the_state() -> None:
    assert _panned("botsort", in_chunks=True) == _panned("botsort")


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (90, 160)])
def test_pictures_without_texture_are_no_camera_motion(shape: tuple[int, int]) -> None:
    tracker = new_tracker("botsort")
    found = [
        one
        for i in range(10)
        for one in tracker.update(
            frame_of(box_at(100 + 4 * i)), i, i / 25, np.full(shape, 30 * (i % 2), np.uint8), 4.0
        )
    ]
    assert [one.track_id for one in found] == [1] * 10


# Sizes


def test_nothing_at_all_and_one_detection() -> None:
    tracker = new_tracker()
    assert run_tracker(tracker, [frame_of()] * 5) == []
    (only,) = tracker.update(frame_of(box_at(50)), 5, 0.2)
    assert (only.track_id, only.frame, only.bbox) == (1, 5, (30.0, 50.0, 70.0, 150.0))


def test_five_hundred_detections_a_frame() -> None:
    frames = [
        frame_of(*(box_at(60 * (k % 25) + 2 * i, 120 * (k // 25)) for k in range(500)))
        for i in range(5)
    ]
    found = run_tracker(new_tracker(), frames)
    assert len(found) == 2500
    assert {one.track_id for one in found} == set(range(1, 501))


def test_boxes_without_a_size() -> None:
    frames = [
        frame_of(box_at(100, width=0, height=0), box_at(100, width=0, height=0, kind=BALL))
        for _ in range(5)
    ]
    assert all(np.isfinite(one.bbox).all() for one in run_tracker(new_tracker(), frames))


def test_memory_does_not_grow_with_the_feed() -> None:
    rng = np.random.default_rng(0)
    tracker = new_tracker()
    sizes: list[int] = []
    for i in range(900):
        rows = [box_at(float(x), float(y)) for x, y in rng.uniform(0, 2000, (4, 2))]
        balls = [ball_at(float(x), float(y)) for x, y in rng.uniform(0, 2000, (2, 2))]
        tracker.update(frame_of(*rows, *balls), i, i / 25)
        sizes.append(len(json.dumps(tracker.state())))
    assert max(sizes[600:]) < 1.2 * max(sizes[200:400])
