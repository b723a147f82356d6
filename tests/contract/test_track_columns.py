"""Columns of tracks: read by a second reader, small on real players, and nothing a stranger forges
gets through."""

from __future__ import annotations

import gzip
import random
import struct
import time
import tracemalloc
import zlib
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.walking import Tracks, walking, written

from gpu_worker_client.protocol.boxes import BoxColumns
from gpu_worker_client.protocol.columnar import (
    BLOCK,
    MAX_BOXES,
    MAX_TRACKS,
    TrackHead,
    read_columnar,
    write_columnar,
)


def read_with_numpy(data: bytes) -> list[tuple[int, str, int, list[list[int]]]]:
    """A second reader, written from the description of the layout alone: for each track id, class,
    shot and rows of frame, x1, y1, x2, y2, thousandths, interpolated."""
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
        parts.append(
            [column(count, planes) for planes in (4, 4, 4, 4, 4, 2)]
            + [np.frombuffer(take(count), np.uint8)]
        )
    assert at == len(raw)
    steps = (
        [np.concatenate([part[n] for part in parts]) for n in range(7)]
        if parts
        else [np.zeros(0, np.int64)] * 7
    )
    frames, confidences = np.cumsum(steps[0] + 1) - 1, np.cumsum(steps[5])
    first = {
        int(end - count) for end, count in zip(np.cumsum(counts), counts, strict=True) if count
    }
    corners = []
    for axis in range(1, 5):
        values: list[int] = []
        for position, step in enumerate(steps[axis].tolist()):
            before = values[-1] if values else 0
            earlier = before if position in first or position - 1 in first else values[-2]
            values.append(before + (before - earlier) // 2 + step)
        corners.append(values)
    rows = [
        list(map(int, row)) for row in zip(frames, *corners, confidences, steps[6], strict=True)
    ]
    ends = np.cumsum(counts).tolist()
    return [
        (int(ids[n]), names[classes[n]], int(shots[n]), rows[ends[n] - int(counts[n]) : ends[n]])
        for n in range(tracks)
    ]


def rows_of(boxes: BoxColumns) -> list[list[int]]:
    corners = np.array(boxes.corners).reshape(-1, 4).tolist()
    return [
        [frame, *corner, confidence, flag]
        for frame, corner, confidence, flag in zip(
            boxes.frames, corners, boxes.confidences, boxes.flags, strict=True
        )
    ]


@pytest.mark.parametrize(
    ("tracks", "boxes"), [(0, 0), (1, 1), (3, 1), (1, 2), (5, 33), (2, BLOCK // 2), (1, BLOCK + 2)]
)
def test_columns_are_what_their_description_says(tracks: int, boxes: int) -> None:
    made = walking(tracks, boxes)
    data = written(made)
    assert list(read_columnar(data)) == made
    assert read_with_numpy(data) == [
        (h.track_id, h.class_name, h.shot, rows_of(b)) for h, b in made
    ]


EXTREMES = st.one_of(
    st.integers(-10_000_000, 10_000_000), st.sampled_from([-10_000_000, 10_000_000, 0])
)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**31 - 1),
            st.text(max_size=60),
            st.integers(0, 2**31 - 1),
            st.lists(
                st.tuples(
                    st.integers(0, 2**30 - 1),
                    st.tuples(*[EXTREMES] * 4),
                    st.integers(0, 1000),
                    st.booleans(),
                ),
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
        assert rows_of(columns) == [[f, *c, p, flag] for f, c, p, flag in sorted(boxes)], (
            "0.1 px and 0.001 are exact"
        )
        made.append((TrackHead(track_id, name, shot, len(columns)), columns))
    assert list(read_columnar(written(made))) == made


def test_boxes_may_come_in_parts() -> None:
    made = walking(3, 100)
    out = BytesIO()
    parts = (boxes.part(at, at + 33) for _, boxes in made for at in range(0, 100, 33))
    write_columnar(out, [head for head, _ in made], parts)
    assert out.getvalue() == written(made)


@pytest.mark.parametrize("announced", [0, 4, 6])
def test_a_writer_holds_its_caller_to_what_was_announced(announced: int) -> None:
    _, boxes = walking(1, 5)[0]
    with pytest.raises(ValueError, match="announced"):
        written([(TrackHead(1, "a", 0, announced), boxes)])


def sports_boxes(media: Path) -> Tracks:
    """The published tracks of SportsMOT's training split, with 3 px of detector noise and 5 % of
    the boxes gone."""
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
                    columns.put(
                        int(frame) - 1, corners.tolist(), float(np.clip(0.83 + doubt, 0, 1))
                    )
                made.append((TrackHead(len(made) + 1, "person", shot, len(columns)), columns))
    return made


def test_real_players_take_under_six_bytes_a_box(media: Path) -> None:
    made = sports_boxes(media)
    data = written(made)
    boxes = sum(head.boxes for head, _ in made)
    print(
        f"{boxes} boxes, {len(data) / boxes:.2f} bytes a box as gzip,"
        f" {len(b64encode(data)) / boxes:.2f} as base64"
    )
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
    head = (
        b"GWT\x01"
        + names
        + struct.pack("<II", tracks, boxes)
        + b"".join(column([value]) for value in heads)
    )
    body = (
        column([frame]) + column([x1]) + column([0]) * 3 + column([confidence], 2) + bytes([flag])
    )
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
    head = (
        b"GWT\x01\x01\x00\x01a"
        + struct.pack("<II", 1, 2)
        + b"".join(column([value]) for value in (1, 0, 0, 2))
    )
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
    """256 MiB of zeros in one or two: in front, behind good columns, and as the boxes that a
    small head announces."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(1024**2)
    bomb = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    started = time.monotonic()
    refused_within(bomb, 8)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    good = (
        packer.compress(gzip.decompress(forged()))
        + b"".join(packer.compress(zeros) for _ in range(256))
        + packer.flush()
    )
    refused_within(good, 8)
    heads = b"".join(column([value]) for value in (1, 0, 0, MAX_BOXES))
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    head = packer.compress(b"GWT\x01\x01\x00\x01a" + struct.pack("<II", 1, MAX_BOXES) + heads)
    short = head + packer.compress(zeros) + packer.flush()
    refused_within(short, 24)
    print(f"three bombs in {time.monotonic() - started:.2f} s")
