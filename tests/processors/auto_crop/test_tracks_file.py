"""Tracks that come along with an auto_crop task: every form of a track job's result is read,
anything else is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.crop_kit import WIDE, crop, track_result, walking, write_tracks

from gpu_worker_client.protocol import ErrorCode, TaskError, TrackResult
from gpu_worker_processors.auto_crop import analyse
from gpu_worker_processors.auto_crop.analyse import without_gaps
from gpu_worker_processors.auto_crop.candidates import Cast, SubjectTrack
from gpu_worker_processors.auto_crop.tracks_file import MAX_BYTES


def test_gzip_and_columns_are_read_the_same(tmp_path: Path) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    plain = write_tracks(tmp_path / "tracks.json", tracks)
    packed = write_tracks(tmp_path / "columns.json", tracks.packed())
    assert json.loads(packed.read_text())["tracks_columnar"]
    zipped = tmp_path / "tracks.json.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    answers = [crop(source, tracks=path).crop_keyframes for path in (plain, packed, zipped)]
    assert answers[0] == answers[1] == answers[2]


def test_tracks_from_elsewhere_are_read_the_same(tmp_path: Path) -> None:
    """As much of a result as a user writes by hand, and what other trackers write."""
    source, tracks = walking(tmp_path / "in.mp4")
    uncut = tracks.model_copy(update={"cuts": []})
    whole = write_tracks(tmp_path / "tracks.json", uncut)
    least = tmp_path / "least.json"
    fields = json.loads(whole.read_text())["tracks"]
    names = ("track_id", "class", "frames")
    least.write_text(
        json.dumps({"tracks": [{name: one[name] for name in names} for one in fields]})
    )
    mot = tmp_path / "mot.txt"
    boxes = [(one["track_id"], box) for one in fields for box in one["frames"]]
    lines = []
    for track_id, box in reversed(boxes):
        x1, y1, x2, y2 = box["bbox"]
        lines.append(f"{box['frame'] + 1},{track_id},{x1},{y1},{x2 - x1},{y2 - y1},1,-1,-1,-1\n")
    mot.write_text("".join(lines))
    without_more = tmp_path / "six.txt"
    without_more.write_text("".join(",".join(line.split(",")[:6]) + "\n" for line in lines))
    answers = [
        crop(source, tracks=path).crop_keyframes for path in (whole, least, mot, without_more)
    ]
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_gaps_are_closed_up_to_a_third_of_a_second_and_never_over_a_cut() -> None:
    frames = np.array([0, 1, 5, 20, 24, 26])
    boxes = np.repeat(10.0 * frames[:, None], 4, axis=1).astype(np.float32)
    track = SubjectTrack(1, "person", frames, boxes, np.ones(6, np.float32))
    (closed,) = without_gaps([track], [22], 25)
    assert closed.frames.tolist() == [0, 1, 2, 3, 4, 5, 20, 24, 25, 26]
    assert np.allclose(closed.boxes[:, 2], 10 * closed.frames)


def test_gaps_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two boxes 900 frames apart stand for 901; the limit, ten million, is lowered so that three
    such tracks exceed it."""
    monkeypatch.setattr(analyse, "MAX_BOXES", 2000)
    ends, boxes = np.array([0, 900]), np.zeros((2, 4), np.float32)
    tracks = [SubjectTrack(n, "person", ends, boxes, np.ones(2, np.float32)) for n in (1, 2, 3)]
    assert [len(track.frames) for track in without_gaps(tracks[:2], [], 25)] == [901, 901]
    with pytest.raises(TaskError) as caught:
        without_gaps(tracks, [], 25)
    assert caught.value.code is ErrorCode.media_limit


def test_of_thousands_those_seen_longest_are_looked_at_and_whoever_is_asked_for() -> None:
    def seen(track_id: int, frames: int) -> SubjectTrack:
        return SubjectTrack(
            track_id,
            "person",
            np.arange(frames),
            np.zeros((frames, 4), np.float32),
            np.ones(frames, np.float32),
        )

    cast = Cast([*(seen(n, 2) for n in range(1, 3000)), *(seen(n, 9) for n in range(3000, 3100))])
    found = cast.seen(0, 10, "auto")
    assert len(found) == 500 and {one.track_id for one in found} >= set(range(3000, 3100))
    assert [one.track_id for one in cast.seen(0, 10, 7)] == [7] and cast.seen(2, 10, 7) == []
    assert len(cast.seen(0, 10, "person")) == 500 and cast.seen(0, 10, "dog") == []


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((5000.0, 5000.0, 5100.0, 5100.0), id="beyond the corner"),
        pytest.param((-900.0, 20.0, -100.0, 90.0), id="left of it"),
        pytest.param((100.0, 100.0, 100.0, 100.0), id="a point"),
    ],
)
def test_boxes_that_show_nothing_of_the_picture_are_nobody(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    source, _ = walking(tmp_path / "in.mp4", frames=26)
    there = {
        1: dict.fromkeys(range(5), (200.0, 40.0, 220.0, 90.0)),
        2: dict.fromkeys(range(5), box),
    }
    both, alone = (
        crop(
            source,
            tracks=write_tracks(tmp_path / "t.json", track_result(boxes, size=WIDE, frames=26)),
        )
        for boxes in (there, {2: there[2]})
    )
    assert both.subject.track_ids == [1] and both.stats.in_view == 1
    assert alone.subject.track_id is None and alone.stats.subject_frames == 0


def altered(tracks: TrackResult, **fields: Any) -> bytes:
    """The result with other fields in its first track."""
    first, *rest = tracks.tracks
    changed = tracks.model_copy(update={"tracks": [first.model_copy(update=fields), *rest]})
    return "".join(changed.json_pieces()).encode()


def reversed_boxes(tracks: TrackResult) -> bytes:
    fields = json.loads(tracks.model_dump_json())
    for box in fields["tracks"][0]["frames"]:
        x1, y1, x2, y2 = box["bbox"]
        box["bbox"] = [x2, y1, x1, y2]
    return json.dumps(fields).encode()


FOREIGN: dict[str, tuple[Any, str]] = {
    "not JSON": (lambda _: b"hello", "no tracks, and no MOTChallenge"),
    "another task's": (
        lambda _: b'{"task": "upscale", "status": "completed", "stats": {}}',
        "of another task",
    ),
    "deep": (lambda _: b"[" * 100_000, "no tracks"),
    "a list": (lambda _: b"[]", "no { at"),
    "an object of somebody else": (lambda _: b'{"frames": []}', "no `tracks`"),
    "a track without a class": (
        lambda _: b'{"tracks": [{"track_id": 1, "frames": []}]}',
        "class: Field required",
    ),
    "a box without a confidence": (
        lambda _: b'{"tracks": [{"track_id": 1, "class": "x", "frames": [{"frame": 1}]}]}',
        "a box has a frame",
    ),
    "MOTChallenge text with a word": (lambda _: b"1,1,2,3,4,5,1\n1,x,2,3,4,5,1\n", "line 2 is not"),
    "MOTChallenge text of a detector": (lambda _: b"1,-1,2,3,4,5,1\n", "ids count from 1"),
    "MOTChallenge text that ends early": (lambda _: b"1,1,2,3\n", "is not frame,id"),
    "MOTChallenge text with one id twice": (lambda _: b"1,1,2,3,4,5\n1,1,2,3,4,5\n", "twice"),
    "MOTChallenge text of a longer video": (lambda _: b"51,1,2,3,4,5,1\n", "not in the video"),
    "its summary": (
        lambda t: t.model_copy(update={"tracks": []}).model_dump_json().encode(),
        "without its tracks",
    ),
    "another size": (
        lambda t: (
            t.model_copy(update={"video": t.video.model_copy(update={"width": 640})})
            .model_dump_json()
            .encode()
        ),
        "640x180",
    ),
    "another length": (
        lambda t: (
            t.model_copy(update={"stats": t.stats.model_copy(update={"total_frames": 51})})
            .model_dump_json()
            .encode()
        ),
        "51 frames",
    ),
    "a cut outside": (
        lambda t: (
            t.model_copy(update={"cuts": [t.cuts[0].model_copy(update={"frame": 50})]})
            .model_dump_json()
            .encode()
        ),
        "not in the video",
    ),
    "broken gzip": (lambda _: b"\x1f\x8b" + b"x" * 100, "damaged"),
    "an id that is none": (lambda t: altered(t, track_id=0), "between 1 and"),
    "an id beyond what columns hold": (lambda t: altered(t, track_id=2**31), "between 1 and"),
    "one id twice": (lambda t: altered(t, track_id=2), "stands twice"),
    "a class that fills the answer": (lambda t: altered(t, class_name="x" * 65), "printable"),
    "a class for a terminal": (lambda t: altered(t, class_name="a\x1b[31m"), "printable"),
    "corners the other way round": (lambda t: reversed_boxes(t), "x1, y1, x2, y2"),
    "a cut twice": (
        lambda t: t.model_copy(update={"cuts": [t.cuts[0]] * 2}).model_dump_json().encode(),
        "in order",
    ),
    "a number that is none": (
        lambda t: t.model_dump_json().replace("0.9", "NaN", 1).encode(),
        "no tracks",
    ),
    "a frame before the first": (
        lambda t: t.model_dump_json().replace('"frame":0', '"frame":-1', 1).encode(),
        "no tracks",
    ),
    "a bomb": (lambda _: gzip.compress(bytes(MAX_BYTES + 10), compresslevel=1), "more than"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_tracks_are_refused(tmp_path: Path, name: str) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    make, words = FOREIGN[name]
    path = tmp_path / "tracks"
    path.write_bytes(make(tracks))
    with pytest.raises(TaskError, match=words) as caught:
        crop(source, tracks=path)
    assert caught.value.code == ErrorCode.invalid_task
    assert caught.value.details["errors"][0]["path"] == "tracks_url"
