"""The wire of track: what a task may say, and that a result is the same one whether it came as JSON or as columns."""

from __future__ import annotations

import gzip
import json
import random
import struct
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

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
from gpu_worker_client.protocol.columnar import (
    BLOCK,
    MAX_BOXES,
    MAX_TRACKS,
    BoxColumns,
    ColumnarWriter,
    TrackHead,
    from_text,
    read_columnar,
    to_text,
)

URL = "https://host.example/in.mp4"
OUT = "https://host.example/out.mp4"
Tracks = list[tuple[TrackHead, BoxColumns]]


def task(**fields: Any) -> TrackTask:
    return TrackTask.model_validate_json(json.dumps({"task": "track", "input_url": URL, **fields}))


def columns_of(*boxes: tuple[int, tuple[float, float, float, float], float, bool]) -> BoxColumns:
    columns = BoxColumns()
    for box in boxes:
        columns.put(*box)
    return columns


def written(tracks: Tracks) -> bytes:
    out = BytesIO()
    writer = ColumnarWriter(out, [head for head, _ in tracks])
    for _, boxes in tracks:
        writer.add(boxes)
    writer.close()
    return out.getvalue()


def walking(tracks: int, boxes: int, seed: int = 1, noise: float = 0.5) -> Tracks:
    """People that walk with noise; gaps, interpolated boxes, two classes."""
    rng, made = random.Random(seed), list[tuple[TrackHead, BoxColumns]]()
    for number in range(tracks):
        columns, frame, x, y = BoxColumns(), rng.randrange(1000), rng.uniform(0, 1200), rng.uniform(0, 600)
        for _ in range(boxes):
            x, y = x + rng.gauss(1, 1), y + rng.gauss(0, 0.5)
            corners = [at + rng.gauss(0, noise) for at in (x, y, x + 50, y + 120)]
            columns.put(frame, corners, min(1.0, max(0.0, rng.gauss(0.8, 0.05))), rng.random() < 0.02)
            frame += 1 if rng.random() < 0.95 else rng.randrange(2, 9)
        made.append((TrackHead(number + 1, rng.choice(["person", "sports ball"]), number % 3, boxes), columns))
    return made


def result_of(tracks: Tracks) -> TrackResult:
    typed = [Track(track_id=h.track_id, class_name=h.class_name, shot=h.shot, frames=TrackFrames(b)) for h, b in tracks]
    return TrackResult(tracks=typed, stats=TrackStats(total_frames=100, unique_tracks=len(typed)))


# The task


def test_defaults_are_the_contracts() -> None:
    params = task().params
    assert params.model == "yolov8n" and params.classes == ["person", "sports ball"]
    assert (params.confidence_threshold, params.iou_threshold) == (0.5, 0.45)
    assert (params.track_algorithm, params.reset_at_cuts, params.frame_stride) == ("botsort", True, 1)
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
        ({"state_in": {"version": 2, "track_algorithm": "botsort", "frames": 1, "tracker": {}}}, "state_in"),
        ({"state_in": {"version": 1, "track_algorithm": "bytetrack", "frames": 1, "tracker": {}}}, ""),
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
    with pytest.raises(ValidationError, match="exactly one"):
        UpscaleTask(input_url=URL)


def test_a_state_fits_into_a_task_or_is_refused() -> None:
    state = TrackState(track_algorithm="botsort", frames=9, tracker={"next_id": 4, "lost": [[1.5, 2.0], {"a": None}]})
    again = task(params={"state_in": json.loads(state.model_dump_json())}).params.state_in
    assert again == state
    with pytest.raises(ValidationError, match="bytes"):
        TrackState(track_algorithm="botsort", frames=9, tracker={"lost": ["x" * 200_000]})


# A result in JSON


def test_json_says_class_and_python_class_name() -> None:
    track = Track(track_id=7, class_name="person", frames=TrackFrames(columns_of((3, (1, 2, 3, 4), 0.5, False))))
    for plain in (track.model_dump(mode="json"), json.loads(track.model_dump_json()), track.model_dump()):
        assert plain["class"] == "person" and "class_name" not in plain
    inside = json.loads(TrackResult(tracks=[track], stats=TrackStats(total_frames=4, unique_tracks=1)).model_dump_json())
    assert inside["tracks"][0]["class"] == "person"
    assert Track.model_validate(track.model_dump()).class_name == "person"


def test_a_box_is_rounded_and_says_interpolated_only_when_it_is() -> None:
    boxes = columns_of((3, (1.26, -0.04, 1e5 + 0.14, 4.0), 0.12349, False), (9, (0, 0, 1, 1), 1, True))
    frames = Track(track_id=1, class_name="a", frames=TrackFrames(boxes)).model_dump(mode="json")["frames"]
    assert frames == [
        {"frame": 3, "bbox": [1.3, 0.0, 100000.1, 4.0], "confidence": 0.123},
        {"frame": 9, "bbox": [0.0, 0.0, 1.0, 1.0], "confidence": 1.0, "interpolated": True},
    ]
    assert '"bbox": [1.3, 0.0,' in json.dumps(frames), "minus zero is no number for a person"


def test_the_time_of_a_frame_is_read_off_evenly_or_between_pairs() -> None:
    even = TrackVideo(width=1, height=1, fps=25)
    assert [even.seconds_of(frame) for frame in (0, 1, 250)] == [0, 0.04, 10]
    uneven = TrackVideo(width=1, height=1, fps=20, is_vfr=True, times=[(0, 0.0), (10, 1.0), (30, 2.0)])
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
        "kept elsewhere, bytes, spaces": TrackResult.from_json(json.dumps(plain, indent=1).encode()),
        "kept elsewhere, columns": TrackResult.from_json("".join(packed.json_pieces())),
    }
    for way, found in ways.items():
        assert found == result, way
        assert found.tracks_columnar is None and isinstance(found.tracks[3].frames[5], TrackBox), way
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
    broken = broken.model_copy(update={"stats": TrackStats(total_frames=1, unique_tracks=1, fps=float("inf"))})
    with pytest.raises(ValueError, match="JSON compliant"):
        list(broken.json_pieces())


# Columns


def read_with_numpy(data: bytes) -> list[tuple[int, str, int, list[list[int]]]]:
    """A second reader, written from the description of the layout alone: for each track id, class, shot and rows of
    frame, x1, y1, x2, y2, thousandths, interpolated."""
    raw, at = gzip.decompress(data), 0

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return raw[at - count : at]

    def column(count: int, planes: int) -> Any:
        bytes_ = np.zeros((count, 4), np.uint8)
        for plane in range(planes):
            bytes_[:, plane] = np.frombuffer(take(count), np.uint8)
        zigzag = bytes_.view("<u4").reshape(-1).astype(np.int64)
        return np.where(zigzag % 2, -(zigzag + 1) // 2, zigzag // 2)

    assert take(4) == b"GWT\x01"
    names = [take(take(1)[0]).decode() for _ in range(struct.unpack("<H", take(2))[0])]
    tracks, boxes = struct.unpack("<II", take(8))
    ids, classes, shots, counts = (np.cumsum(column(tracks, 4)) for _ in range(4))
    parts = []
    for start in range(0, boxes, BLOCK):
        count = min(BLOCK, boxes - start)
        parts.append([column(count, planes) for planes in (4, 4, 4, 4, 4, 2)] + [np.frombuffer(take(count), np.uint8)])
    assert at == len(raw)
    steps = [np.concatenate([part[n] for part in parts]) for n in range(7)] if parts else [np.zeros(0, np.int64)] * 7
    frames, confidences = np.cumsum(steps[0] + 1) - 1, np.cumsum(steps[5])
    first = {int(end - count) for end, count in zip(np.cumsum(counts), counts, strict=True) if count}
    corners = []
    for axis in range(1, 5):
        values: list[int] = []
        for position, step in enumerate(steps[axis].tolist()):
            before = values[-1] if values else 0
            earlier = before if position in first or position - 1 in first else values[-2]
            values.append(before + (before - earlier) // 2 + step)
        corners.append(values)
    rows = [list(map(int, row)) for row in zip(frames, *corners, confidences, steps[6], strict=True)]
    ends = np.cumsum(counts).tolist()
    return [(int(ids[n]), names[classes[n]], int(shots[n]), rows[ends[n] - int(counts[n]) : ends[n]]) for n in range(tracks)]


def rows_of(boxes: BoxColumns) -> list[list[int]]:
    corners = np.array(boxes.corners).reshape(-1, 4).tolist()
    return [
        [frame, *corner, confidence, flag]
        for frame, corner, confidence, flag in zip(boxes.frames, corners, boxes.confidences, boxes.flags, strict=True)
    ]


@pytest.mark.parametrize(("tracks", "boxes"), [(0, 0), (1, 1), (3, 1), (1, 2), (5, 33), (2, BLOCK // 2), (1, BLOCK + 2)])
def test_columns_are_what_their_description_says(tracks: int, boxes: int) -> None:
    made = walking(tracks, boxes)
    data = written(made)
    assert list(read_columnar(data)) == made
    assert read_with_numpy(data) == [(h.track_id, h.class_name, h.shot, rows_of(b)) for h, b in made]


EXTREMES = st.one_of(st.integers(-10_000_000, 10_000_000), st.sampled_from([-10_000_000, 10_000_000, 0]))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**31 - 1),
            st.text(max_size=60),
            st.integers(0, 2**31 - 1),
            st.lists(
                st.tuples(st.integers(0, 2**30 - 1), st.tuples(*[EXTREMES] * 4), st.integers(0, 1000), st.booleans()),
                max_size=6,
                unique_by=lambda box: box[0],
            ),
        ),
        max_size=5,
    )
)
def test_whatever_is_allowed_comes_back(plain: list[Any]) -> None:
    made: Tracks = []
    for track_id, name, shot, boxes in plain:
        columns = BoxColumns()
        for frame, corners, confidence, flag in sorted(boxes):
            columns.put(frame, [corner / 10 for corner in corners], confidence / 1000, flag)
        assert rows_of(columns) == [[f, *c, p, flag] for f, c, p, flag in sorted(boxes)], "0.1 px and 0.001 are exact"
        made.append((TrackHead(track_id, name, shot, len(columns)), columns))
    assert list(read_columnar(written(made))) == made


def test_boxes_may_be_added_in_parts() -> None:
    made = walking(3, 100)
    out = BytesIO()
    writer = ColumnarWriter(out, [head for head, _ in made])
    for _, boxes in made:
        for start in range(0, 100, 33):
            writer.add(boxes.part(start, start + 33))
    writer.close()
    assert out.getvalue() == written(made)


@pytest.mark.parametrize("announced", [0, 4, 6])
def test_a_writer_holds_its_caller_to_what_was_announced(announced: int) -> None:
    _, boxes = walking(1, 5)[0]
    with pytest.raises(ValueError, match="announced"):
        written([(TrackHead(1, "a", 0, announced), boxes)])


def sports_boxes(media: Path) -> Tracks:
    """The published tracks of SportsMOT's training split, with 3 px of detector noise and 5 % of the boxes gone."""
    import tarfile

    rng, made = np.random.default_rng(0), list[tuple[TrackHead, BoxColumns]]()
    with tarfile.open(media / "crop" / "sportsmot_train_gt.tar.xz") as archive:
        names = sorted(name for name in archive.getnames() if name.endswith("gt.txt"))[:6]
        for shot, name in enumerate(names):
            file = archive.extractfile(name)
            assert file is not None
            table = np.loadtxt(file, delimiter=",", usecols=range(6))
            table = table[rng.random(len(table)) > 0.05]
            for player in np.unique(table[:, 1]):
                rows, columns, doubt = table[table[:, 1] == player], BoxColumns(), 0.0
                for frame, _, left, top, width, height in rows[np.argsort(rows[:, 0])].tolist():
                    noise = rng.normal(0, 3, 4)
                    doubt = 0.8 * doubt + rng.normal(0, 0.042)
                    corners = np.array([left, top, left + width, top + height]) + noise
                    columns.put(int(frame) - 1, corners.tolist(), float(np.clip(0.83 + doubt, 0, 1)))
                made.append((TrackHead(len(made) + 1, "person", shot, len(columns)), columns))
    return made


def test_real_players_take_under_six_bytes_a_box(media: Path) -> None:
    made = sports_boxes(media)
    data = written(made)
    boxes = sum(head.boxes for head, _ in made)
    print(f"{boxes} boxes, {len(data) / boxes:.2f} bytes a box as gzip, {len(to_text(data)) / boxes:.2f} as base64")
    assert boxes > 25_000
    assert len(data) / boxes < 6
    assert list(read_columnar(data)) == made


# Columns from a stranger


def test_cut_off_or_damaged_columns_are_refused() -> None:
    made = walking(2, 30)
    data = written(made)
    for end in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011
            list(read_columnar(data[:end]))
    rng, refused = random.Random(1), 0
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.randrange(10, len(data))] ^= 1 << rng.randrange(8)
        try:
            assert list(read_columnar(bytes(broken))) == made  # a bit of padding
        except ValueError:
            refused += 1
    assert refused > 290
    for more in (b"x", data, b"\0" * 8):
        with pytest.raises(ValueError, match="follows"):
            list(read_columnar(data + more))


def column(values: list[int], planes: int = 4) -> bytes:
    zigzag = [value * 2 if value >= 0 else -value * 2 - 1 for value in values]
    return b"".join(bytes(value >> 8 * plane & 255 for value in zigzag) for plane in range(planes))


def forged(
    *,
    names: bytes = b"\x01\x00\x01a",
    tracks: int = 1,
    boxes: int = 1,
    heads: tuple[int, int, int, int] = (1, 0, 0, 1),
    frame: int = 0,
    x1: int = 0,
    confidence: int = 0,
    flag: int = 0,
    more: bytes = b"",
) -> bytes:
    head = b"GWT\x01" + names + struct.pack("<II", tracks, boxes) + b"".join(column([value]) for value in heads)
    body = column([frame]) + column([x1]) + column([0]) * 3 + column([confidence], 2) + bytes([flag])
    return gzip.compress(head + body + more)


def test_the_forger_can_make_good_ones() -> None:
    (head, boxes), *_ = read_columnar(forged(frame=5, x1=-30, confidence=900, flag=1))
    assert head == TrackHead(1, "a", 0, 1) and rows_of(boxes) == [[5, -30, 0, 0, 0, 900, 1]]


@pytest.mark.parametrize(
    "lie",
    [
        {"tracks": MAX_TRACKS + 1},
        {"boxes": MAX_BOXES + 1},
        {"boxes": 2},
        {"boxes": 0},
        {"tracks": 0},
        {"heads": (-1, 0, 0, 1)},
        {"heads": (1, 1, 0, 1)},
        {"heads": (1, -1, 0, 1)},
        {"heads": (1, 0, -1, 1)},
        {"heads": (1, 0, 0, -1)},
        {"heads": (1, 0, 0, 2)},
        {"heads": (1, 0, 0, 0)},
        {"names": b"\x01\x00\x01\xff"},
        {"names": b"\xff\xff\x01a"},
        {"frame": -1},
        {"frame": 2**30},
        {"x1": 10_000_001},
        {"x1": -10_000_001},
        {"x1": 2**31 - 1},
        {"confidence": 1001},
        {"confidence": -1},
        {"flag": 2},
        {"more": b"\0"},
    ],
    ids=str,
)
def test_lies_are_refused(lie: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        list(read_columnar(forged(**lie)))


def test_frames_of_a_track_must_rise() -> None:
    head = b"GWT\x01\x01\x00\x01a" + struct.pack("<II", 1, 2) + b"".join(column([value]) for value in (1, 0, 0, 2))
    body = column([5, -1]) + column([0, 0]) * 4 + column([0, 0], 2) + bytes(2)
    with pytest.raises(ValueError, match="rise"):
        list(read_columnar(gzip.compress(head + body)))


def refused_within(data: bytes, mib: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):  # noqa: PT011
            for _ in read_columnar(data):
                pass
        assert tracemalloc.get_traced_memory()[1] < mib * 1024**2
    finally:
        tracemalloc.stop()


def test_a_bomb_is_never_unpacked() -> None:
    """256 MiB of zeros in a quarter of one: in front, behind good columns, and as the boxes that a small head announces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1024**2)
    bomb = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    started = time.monotonic()
    refused_within(bomb, 8)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    good = packer.compress(gzip.decompress(forged())) + b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    refused_within(good, 8)
    heads = b"".join(column([value]) for value in (1, 0, 0, MAX_BOXES))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"GWT\x01\x01\x00\x01a" + struct.pack("<II", 1, MAX_BOXES) + heads)
    short = head + packer.compress(zeros) + packer.flush()
    refused_within(short, 24)
    print(f"three bombs in {time.monotonic() - started:.2f} s")


@pytest.mark.parametrize("text", ["", "????", "aGk", "aGk=\n", "\u0430", "aGk="])
def test_text_that_holds_no_columns_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        list(read_columnar(from_text(text)))
    with pytest.raises(ValidationError):
        TrackResult.model_validate({"stats": {"total_frames": 1, "unique_tracks": 0}, "tracks_columnar": text})
