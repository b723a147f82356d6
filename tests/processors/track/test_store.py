"""Boxes on disk: nothing lost, in the order of tracks and in the order of frames, in bounded
memory."""

from __future__ import annotations

import random
import tracemalloc
from collections import defaultdict
from pathlib import Path

import pytest

from gpu_worker_client.protocol import TaskError, TrackCut, TrackResult, TrackVideo, columnar
from gpu_worker_client.protocol.columnar import read_columnar
from gpu_worker_processors.track import store as store_module
from gpu_worker_processors.track.store import PlacedBox, TrackStore, packed_result

VIDEO = TrackVideo(width=1280, height=720, fps=25)
Plain = list[tuple[int, PlacedBox]]


def scene(frames: int, seed: int = 1) -> Plain:
    """What a tracker hands over: people that come and go, now and then a box that is filled in a
    few frames late."""
    rng, made, live, late = (
        random.Random(seed),
        list[tuple[int, PlacedBox]](),
        dict[int, str](),
        dict[int, list[int]](),
    )
    last_id = 0
    for frame in range(frames):
        for gone in [track for track in live if rng.random() < 0.02]:
            del live[gone]
        while len(live) < 6:
            last_id += 1
            live[last_id] = rng.choice(["person", "sports ball"])
        for track, name in live.items():
            if rng.random() < 0.2 and frame < frames - 1:
                late.setdefault(track, []).append(frame)
                continue
            for missed in late.pop(track, []):
                made.append((missed, placed(track, name, rng, True)))
            made.append((frame, placed(track, name, rng, False)))
    return made


def placed(track: int, name: str, rng: random.Random, interpolated: bool) -> PlacedBox:
    x, y = rng.randrange(12000), rng.randrange(7000)
    corners = (x / 10, y / 10, (x + rng.randrange(900)) / 10, (y + rng.randrange(2000)) / 10)
    return PlacedBox(track, name, track % 3, corners, rng.randrange(1001) / 1000, interpolated)


def fill(store: TrackStore, boxes: Plain) -> None:
    for frame, box in boxes:
        store.add(
            box.track_id,
            box.class_name,
            box.shot,
            frame,
            box.bbox,
            box.confidence,
            box.interpolated,
        )


@pytest.fixture(params=[7, 1000, 10**6])
def buffered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many boxes are held before they go to disk: always, a few times, never."""
    monkeypatch.setattr(store_module, "BUFFERED_BOXES", request.param)
    return request.param


def test_boxes_come_back_in_the_order_of_frames(tmp_path: Path, buffered: int) -> None:
    boxes = scene(400)
    expected: dict[int, list[PlacedBox]] = defaultdict(list)
    for frame, box in boxes:
        expected[frame].append(box)
    with TrackStore(tmp_path) as store:
        fill(store, boxes)
        for _ in range(2):
            found = list(store.by_frame())
            assert [frame for frame, _ in found] == sorted(expected)
            assert all(row == sorted(expected[frame]) for frame, row in found)


def test_boxes_come_back_by_track_and_as_columns(tmp_path: Path, buffered: int) -> None:
    boxes = scene(400)
    with TrackStore(tmp_path) as store:
        fill(store, boxes)
        tracks = list(store.by_track())
        assert list(read_columnar(store.finish().read_bytes())) == tracks
    assert [head.track_id for head, _ in tracks] == sorted({box.track_id for _, box in boxes})
    for head, columns in tracks:
        mine = [(frame, box) for frame, box in boxes if box.track_id == head.track_id]
        assert (head.class_name, head.shot, head.boxes) == (
            mine[0][1].class_name,
            mine[0][1].shot,
            len(mine),
        )
        assert list(columns.frames) == [frame for frame, _ in mine]
        assert [corner / 10 for corner in columns.corners] == [
            corner for _, box in mine for corner in box.bbox
        ]
        assert [thousandths / 1000 for thousandths in columns.confidences] == [
            box.confidence for _, box in mine
        ]
        assert list(map(bool, columns.flags)) == [box.interpolated for _, box in mine]


def test_the_result_says_what_is_in_it(tmp_path: Path, buffered: int) -> None:
    boxes, cuts = scene(200), [TrackCut(frame=50, time=2.0), TrackCut(frame=150, time=6.0)]
    with TrackStore(tmp_path) as store:
        fill(store, boxes)
        result = packed_result(store, total_frames=200, seconds=4.0, cuts=cuts, video=VIDEO)
    assert result.tracks == [] and result.tracks_columnar
    tracks = result.unpacked().tracks
    assert tracks == TrackResult.model_validate_json(result.model_dump_json()).tracks
    assert result.stats.unique_tracks == len(tracks) == len({box.track_id for _, box in boxes})
    assert result.stats.boxes == sum(len(track.frames) for track in tracks) == len(boxes)
    assert (result.stats.total_frames, result.stats.fps, result.stats.shots) == (200, 50.0, 3)
    assert (result.cuts, result.video) == (cuts, VIDEO)


def test_nobody_in_the_picture_is_a_result(tmp_path: Path) -> None:
    with TrackStore(tmp_path) as store:
        result = packed_result(store, total_frames=9, seconds=0.0, cuts=[], video=VIDEO)
        assert list(store.by_frame()) == list(store.by_track()) == []
    assert result.unpacked().tracks == []
    assert (result.stats.unique_tracks, result.stats.boxes, result.stats.shots) == (0, 0, 1)


def test_files_are_gone_in_the_end(tmp_path: Path) -> None:
    with TrackStore(tmp_path) as store:
        fill(store, scene(20))
        store.finish()
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"frame": 4}, "rise"),
        ({"frame": 3}, "rise"),
        ({"class_name": "sports ball"}, "one class"),
        ({"shot": 1}, "one shot"),
        ({"bbox": (0, 0, 1)}, "unpack"),
        ({"bbox": (0, 0, 1, float("nan"))}, "NaN"),
        ({"bbox": (0, 0, 1, float("inf"))}, "finite"),
        ({"confidence": 1.2}, "confidence"),
    ],
)
def test_what_no_tracker_says_is_refused_on_disk_or_not(
    tmp_path: Path, buffered: int, change: dict, why: str
) -> None:
    good = {
        "track_id": 1,
        "class_name": "person",
        "shot": 0,
        "frame": 4,
        "bbox": (0, 0, 1, 1),
        "confidence": 0.5,
    }
    with TrackStore(tmp_path) as store:
        store.add(**good)
        fill(store, [(frame, box._replace(track_id=box.track_id + 1)) for frame, box in scene(10)])
        with pytest.raises(ValueError, match=why):
            store.add(**(good | {"frame": 5} | change))


def test_more_than_a_result_can_hold_ends_the_job_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_BOXES", 100)
    monkeypatch.setattr(store_module, "BUFFERED_BOXES", 10)
    with TrackStore(tmp_path) as store, pytest.raises(TaskError, match="split the input") as caught:
        fill(store, scene(100))
    assert caught.value.code == "result_too_large"
    assert store.boxes <= 110


@pytest.mark.slow
def test_memory_does_not_grow_with_the_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five times the frames of the same number of people: the peak stays."""
    monkeypatch.setattr(store_module, "BUFFERED_BOXES", 2000)
    monkeypatch.setattr(columnar, "BLOCK", 2000)
    rng = random.Random(1)
    box = placed(1, "person", rng, False)

    def peak(frames: int) -> int:
        folder = tmp_path / str(frames)
        folder.mkdir()
        tracemalloc.start()
        with TrackStore(folder) as store:
            for frame in range(frames):
                for person in range(10):
                    track = person + 10 * (frame // (frames // 3 + 1)) + 1
                    store.add(track, "person", 0, frame, box.bbox, box.confidence)
            store.finish()
            assert sum(len(row) for _, row in store.by_frame()) == 10 * frames
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(1000), peak(5000)
    assert large < small * 1.25
