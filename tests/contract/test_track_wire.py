"""The wire of track: what a task may say, and that a result is the same one whether it came as JSON
or as columns."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from pydantic import ValidationError
from support.walking import Tracks, walking

from gpu_worker_client import InvalidTask
from gpu_worker_client.protocol import (
    FileTask,
    Track,
    TrackBox,
    TrackFrames,
    TrackResult,
    TrackState,
    TrackStats,
    TrackTask,
    TrackVideo,
    UpscaleTask,
)
from gpu_worker_client.protocol.boxes import BoxColumns
from gpu_worker_client.protocol.columnar import read_columnar

URL = "https://host.example/in.mp4"
OUT = "https://host.example/out.mp4"


def task(**fields: Any) -> TrackTask:
    return TrackTask.model_validate_json(json.dumps({"task": "track", "input_url": URL, **fields}))


def columns_of(*boxes: tuple[int, tuple[float, float, float, float], float, bool]) -> BoxColumns:
    columns = BoxColumns()
    for box in boxes:
        columns.put(*box)
    return columns


def result_of(tracks: Tracks) -> TrackResult:
    typed = [
        Track(track_id=h.track_id, class_name=h.class_name, shot=h.shot, frames=TrackFrames(b))
        for h, b in tracks
    ]
    return TrackResult(tracks=typed, stats=TrackStats(total_frames=100, unique_tracks=len(typed)))


# The task


def test_defaults_are_the_contracts() -> None:
    params = task().params
    assert params.model == "yolov8n" and params.classes == ["person", "sports ball"]
    assert (params.confidence_threshold, params.iou_threshold) == (0.5, 0.45)
    assert (params.track_algorithm, params.reset_at_cuts, params.frame_stride) == (
        "botsort",
        True,
        1,
    )
    assert params.state_in is None and params.return_state is False


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"model": "../etc/passwd"}, "model"),
        ({"model": ""}, "model"),
        ({"classes": []}, "classes"),
        ({"classes": ["person", "person"]}, "classes"),
        ({"classes": ["per\nson"]}, "classes"),
        ({"classes": [f"c{n}" for n in range(81)]}, "classes"),
        ({"confidence_threshold": 1.1}, "confidence_threshold"),
        ({"iou_threshold": 0}, "iou_threshold"),
        ({"track_algorithm": "sort"}, "track_algorithm"),
        ({"frame_stride": 0}, "frame_stride"),
        ({"frame_stride": 1.0}, "frame_stride"),
        ({"reset_at_cuts": 1}, "reset_at_cuts"),
        ({"conf": 0.5}, "conf"),
        (
            {"state_in": {"version": 2, "track_algorithm": "botsort", "frames": 1, "tracker": {}}},
            "state_in",
        ),
        (
            {
                "state_in": {
                    "version": 1,
                    "track_algorithm": "bytetrack",
                    "frames": 1,
                    "tracker": {},
                }
            },
            "",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_its_place(params: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        task(params=params)
    assert any(place in map(str, entry["loc"]) or not place for entry in caught.value.errors())


def test_the_output_is_optional_and_checked_when_it_is_there() -> None:
    assert task().makes_a_file is False
    assert task(output_url=OUT).makes_a_file is True
    parts = {"part_size": 5 * 1024**2, "parts": [{"n": 1, "url": OUT}]}
    assert task(output_multipart=parts).makes_a_file is True
    for wrong in (
        {"output_url": OUT, "output_multipart": parts},
        {"output_url": URL + "?X-Amz-Signature=1"},
        {"output_url": OUT, "result_url": OUT},
    ):
        with pytest.raises(ValidationError):
            task(**wrong)
    assert not issubclass(TrackTask, FileTask)
    with pytest.raises(InvalidTask, match="exactly one"):
        UpscaleTask(input_url=URL)


def test_a_state_fits_into_a_task_or_is_refused() -> None:
    state = TrackState(
        track_algorithm="botsort",
        frames=9,
        tracker={"next_id": 4, "lost": [[1.5, 2.0], {"a": None}]},
    )
    again = task(params={"state_in": json.loads(state.model_dump_json())}).params.state_in
    assert again == state
    with pytest.raises(InvalidTask, match="bytes"):
        TrackState(track_algorithm="botsort", frames=9, tracker={"lost": ["x" * 200_000]})


# A result in JSON


def test_json_says_class_and_python_class_name() -> None:
    track = Track(
        track_id=7,
        class_name="person",
        frames=TrackFrames(columns_of((3, (1, 2, 3, 4), 0.5, False))),
    )
    for plain in (
        track.model_dump(mode="json"),
        json.loads(track.model_dump_json()),
        track.model_dump(),
    ):
        assert plain["class"] == "person" and "class_name" not in plain
    inside = json.loads(
        TrackResult(
            tracks=[track], stats=TrackStats(total_frames=4, unique_tracks=1)
        ).model_dump_json()
    )
    assert inside["tracks"][0]["class"] == "person"
    assert Track.model_validate(track.model_dump()).class_name == "person"


def test_a_box_is_rounded_and_says_interpolated_only_when_it_is() -> None:
    boxes = columns_of(
        (3, (1.26, -0.04, 1e5 + 0.14, 4.0), 0.12349, False), (9, (0, 0, 1, 1), 1, True)
    )
    frames = Track(track_id=1, class_name="a", frames=TrackFrames(boxes)).model_dump(mode="json")[
        "frames"
    ]
    assert frames == [
        {"frame": 3, "bbox": [1.3, 0.0, 100000.1, 4.0], "confidence": 0.123},
        {"frame": 9, "bbox": [0.0, 0.0, 1.0, 1.0], "confidence": 1.0, "interpolated": True},
    ]
    assert '"bbox": [1.3, 0.0,' in json.dumps(frames), "minus zero is no number for a person"


def test_the_time_of_a_frame_is_read_off_evenly_or_between_pairs() -> None:
    even = TrackVideo(width=1, height=1, fps=25)
    assert [even.seconds_of(frame) for frame in (0, 1, 250)] == [0, 0.04, 10]
    uneven = TrackVideo(
        width=1, height=1, fps=20, is_vfr=True, times=[(0, 0.0), (10, 1.0), (30, 2.0)]
    )
    frames = {0: 0.0, 5: 0.5, 10: 1.0, 11: 1.05, 29: 1.95, 30: 2.0, 40: 2.5}
    assert {frame: uneven.seconds_of(frame) for frame in frames} == pytest.approx(frames)
    assert TrackVideo.model_validate_json(uneven.model_dump_json()) == uneven


def test_frames_are_a_sequence_of_boxes() -> None:
    frames = TrackFrames(walking(1, 50)[0][1])
    assert len(frames) == 50 and len(list(frames)) == 50
    assert isinstance(frames[0], TrackBox) and frames[-1] == frames[49] and frames[49] in frames
    assert list(frames[10:20]) == [frames[n] for n in range(10, 20)]
    assert list(frames[::7]) == [frames[n] for n in range(0, 50, 7)]
    assert len(frames[20:10]) == 0
    assert TrackFrames(list(frames)) == frames and frames != TrackFrames()
    with pytest.raises(IndexError):
        frames[50]
    with pytest.raises(ValueError, match="rise"):
        TrackFrames([frames[1], frames[0]])


@pytest.mark.parametrize(
    "frames",
    [
        "frames",
        {"frame": 1},
        [1],
        [{"frame": 1, "bbox": [1, 2, 3], "confidence": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, "4"], "confidence": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, True], "confidence": 1}],
        [{"frame": 1.0, "bbox": [1, 2, 3, 4], "confidence": 1}],
        [{"frame": -1, "bbox": [1, 2, 3, 4], "confidence": 1}],
        [{"frame": 2**40, "bbox": [1, 2, 3, 4], "confidence": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, float("nan")], "confidence": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, float("inf")], "confidence": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, 1e300], "confidence": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, 4], "confidence": 1.1}],
        [{"frame": 1, "bbox": [1, 2, 3, 4], "confidence": float("nan")}],
        [{"frame": 1, "bbox": [1, 2, 3, 4], "confidence": 1, "interpolated": 1}],
        [{"frame": 1, "bbox": [1, 2, 3, 4]}],
        [{"frame": 1, "bbox": [1, 2, 3, 4], "confidence": 1}] * 2,
    ],
)
def test_what_is_no_box_is_refused(frames: Any) -> None:
    with pytest.raises(ValidationError):
        Track.model_validate({"track_id": 1, "class": "a", "frames": frames})


def test_all_ways_of_a_result_lead_to_the_same_types() -> None:
    result = result_of(walking(7, 40))
    plain = result.model_dump(mode="json")
    packed = result.packed()
    assert packed.tracks == [] and packed.tracks_columnar
    ways = {
        "inline": TrackResult.model_validate(plain),
        "inline, text": TrackResult.model_validate_json(json.dumps(plain)),
        "columns": TrackResult.model_validate(packed.model_dump(mode="json")),
        "columns, text": TrackResult.model_validate_json(packed.model_dump_json()),
        "columns, unpacked here": packed.unpacked(),
        "kept elsewhere": TrackResult.from_json("".join(result.json_pieces())),
        "kept elsewhere, bytes, spaces": TrackResult.from_json(
            json.dumps(plain, indent=1).encode()
        ),
        "kept elsewhere, columns": TrackResult.from_json("".join(packed.json_pieces())),
    }
    for way, found in ways.items():
        assert found == result, way
        assert found.tracks_columnar is None and isinstance(found.tracks[3].frames[5], TrackBox), (
            way
        )
    assert json.loads("".join(result.json_pieces())) == plain
    assert json.loads("".join(result_of([]).json_pieces()))["tracks"] == []
    assert result_of([]).packed() == result_of([])


def test_tracks_may_not_stand_twice() -> None:
    result = result_of(walking(1, 3))
    both = result.model_dump(mode="json") | {"tracks_columnar": result.packed().tracks_columnar}
    with pytest.raises(ValidationError, match="twice"):
        TrackResult.model_validate(both)


def test_a_newer_workers_fields_are_kept_but_for_those_of_a_box() -> None:
    plain = result_of(walking(2, 3)).model_dump(mode="json") | {"later": [1]}
    plain["tracks"][0]["jersey"] = 23
    plain["tracks"][0]["frames"][0]["speed"] = 1.0
    for found in (TrackResult.model_validate(plain), TrackResult.from_json(json.dumps(plain))):
        assert found.model_extra == {"later": [1]} and found.tracks[0].model_extra == {"jersey": 23}
        assert json.loads("".join(found.json_pieces()))["tracks"][0]["jersey"] == 23


GOOD = json.dumps(result_of(walking(1, 2)).model_dump(mode="json") | {"later": 1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 200_000,
        '{"tracks":' + "[" * 200_000,
        '{"x":' + "[" * 200_000,
        GOOD + "x",
        GOOD[:-1],
        GOOD.replace('"frame":', '"frame" ', 1),
        GOOD.replace('"tracks": [', '"tracks": {', 1),
        GOOD.replace('"fps": 0.0', '"fps": NaN'),
        GOOD.replace('"later": 1', '"later": Infinity'),
        GOOD[:-1] + ', "tracks": []}',
        GOOD.replace('"class"', '"klass"'),
        GOOD.encode("utf-16"),
        b"\xff",
    ],
)
def test_what_is_no_result_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - a ValidationError is one, and that is all that is promised
        TrackResult.from_json(text)


def test_a_number_that_is_not_finite_never_leaves() -> None:
    broken = result_of(walking(1, 2)).model_copy(update={"later": float("nan")})
    broken = broken.model_copy(
        update={"stats": TrackStats(total_frames=1, unique_tracks=1, fps=float("inf"))}
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        list(broken.json_pieces())


@pytest.mark.parametrize("text", ["", "????", "aGk", "aGk=\n", "\u0430", "aGk="])
def test_text_that_holds_no_columns_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        list(read_columnar(b64decode(text, validate=True)))
    with pytest.raises(ValidationError):
        TrackResult.model_validate(
            {"stats": {"total_frames": 1, "unique_tracks": 0}, "tracks_columnar": text}
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        '{"x": [' + "[]," * 3_000_000,
        '{"tracks": [{"track_id": 1, "class": "person", "x": [' + "[]," * 3_000_000,
        '{"tracks": [{"track_id": 1, "class": "person", "frames": [{"x": [' + "[]," * 10_000,
        '{"a": [' + "0," * 3_000_000 + '0], "b": [' + "0," * 3_000_000 + "0]}",
    ],
    ids=["a field", "of a track", "of a box", "two fields"],
)
def test_what_stands_beside_the_boxes_has_a_limit(text: str) -> None:
    """Read by `json` whole, it would take 25 times the memory of its text."""
    with pytest.raises(ValueError, match="more than .* characters"):
        TrackResult.from_json(text)
