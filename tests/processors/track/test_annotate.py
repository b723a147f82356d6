"""The annotated video: boxes where they belong, the rest of the picture and of the file as the
source had it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support import clips

from gpu_worker_client.protocol import Track, TrackBox, TrackFrames
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.track.annotate import boxes_by_frame, draw_tracks
from gpu_worker_processors.track.draw import Annotator, track_color

TAGS = ColorTags(1, 1, 1, full_range=False)


@dataclass(frozen=True)
class Drawn:
    track_id: int
    bbox: tuple[float, float, float, float]
    class_name: str = "person"
    interpolated: bool = False


def gray_planes(
    height: int, width: int, dtype: type = np.uint8, value: int = 120
) -> list[NDArray[np.uint8]]:
    return [
        np.full((h, w), value, dtype)
        for h, w in ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    ]


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (10, np.uint16)])
def test_a_box_is_drawn_on_its_edges_and_nowhere_else(bits: int, dtype: type) -> None:
    planes = gray_planes(200, 300, dtype)
    Annotator(TAGS, bits, 200)(planes, [Drawn(3, (100, 80, 180, 160))], 0.0)
    y, cb, cr = track_color(3, TAGS, bits)
    assert (planes[0][120, 100], planes[1][60, 50], planes[2][60, 50]) == (y, cb, cr)
    assert (planes[0][120, 180], planes[0][160, 140]) == (y, y)
    untouched = planes[0].copy()
    untouched[58:164, 97:184] = 120  # box, its line and the label above it
    assert (untouched == 120).all()
    assert (planes[0][90:150, 110:135] == 120).all()


def test_colors_differ_between_neighbours_and_are_the_matrix_s() -> None:
    colors = [track_color(number, TAGS, 8) for number in range(1, 30)]
    assert len(set(colors)) == 29
    assert all(16 <= y <= 235 and 16 <= cb <= 240 and 16 <= cr <= 240 for y, cb, cr in colors)
    # hue 0 is R'G'B' (1, .25, .25); by BT.709 sections 3.2 to 3.5 Y' .40945, Cb -.08593, Cr .37500
    assert track_color(0, TAGS, 8) == (106, 109, 212)


def test_trails_follow_and_end(tmp_path: Path) -> None:
    draw = Annotator(TAGS, 8, 200)
    for step in range(5):
        draw(
            gray_planes(200, 300), [Drawn(1, (20 + 30 * step, 50, 40 + 30 * step, 150))], step / 10
        )
    after = gray_planes(200, 300)
    draw(after, [], 0.5)
    assert after[0][150, 90] == track_color(1, TAGS, 8)[0]
    late = gray_planes(200, 300)
    draw(late, [], 2.0)
    assert (late[0] == 120).all()


def test_a_cut_ends_trails() -> None:
    draw = Annotator(TAGS, 8, 200)
    for step in range(3):
        draw(
            gray_planes(200, 300), [Drawn(1, (20 + 30 * step, 50, 40 + 30 * step, 150))], step / 10
        )
    draw.forget()
    after = gray_planes(200, 300)
    draw(after, [], 0.3)
    assert (after[0] == 120).all()


def luma(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def run(
    tmp_path: Path,
    clip: clips.Clip,
    entries: list[tuple[int, list[Drawn]]],
    stride: int = 1,
    suffix: str = "mp4",
) -> Path:
    source = clips.make(tmp_path / f"in.{suffix}", clip)
    output = tmp_path / f"out.{suffix}"
    draw_tracks(source, output, entries, hold_frames=stride, device="cpu")
    return output


@pytest.mark.parametrize(
    "clip",
    [
        clips.Clip(width=128, height=96, frames=12),
        clips.Clip(frames=12, width=161, height=91, pix_fmt="yuv444p"),
        clips.Clip(width=128, height=96, frames=8, rotation=-90),
    ],
    ids=["plain", "odd size, 4:4:4", "upright phone"],
)
def test_every_frame_comes_out_at_its_time_with_the_box_on_it(
    tmp_path: Path, clip: clips.Clip
) -> None:
    box = Drawn(2, (20, 30, 60, 70))
    output = run(tmp_path, clip, [(index, [box]) for index in range(clip.frames)])
    assert times(output) == times(tmp_path / "in.mp4")
    value = track_color(2, ColorTags(6, 6, 6, full_range=False), 8)[0]
    for picture in luma(output):
        edge = picture[40:60, 20:22].astype(int)
        assert abs(edge.mean() - (value - 16) * 255 / 219) < 25


def test_a_stride_holds_the_boxes_in_between(tmp_path: Path) -> None:
    clip = clips.Clip(width=128, height=96, frames=9)
    output = run(tmp_path, clip, [(0, [Drawn(2, (20, 30, 60, 70))]), (3, [])], stride=3)
    plain = luma(tmp_path / "in.mp4")
    seen = [
        np.abs(a[34:70, 18:24].astype(int) - b[34:70, 18:24]).mean() > 5
        for a, b in zip(luma(output), plain, strict=True)
    ]
    assert seen == [True] * 3 + [False] * 6


def test_a_results_tracks_by_frame() -> None:
    def track(number: int, *frames: int) -> Track:
        boxes = (TrackBox(frame=frame, bbox=(1, 2, 3, 4), confidence=0.5) for frame in frames)
        return Track(track_id=number, class_name="person", shot=0, frames=TrackFrames(boxes))

    entries = list(boxes_by_frame([track(1, 0, 2), track(2, 2, 9), track(3)]))
    assert [(frame, [box.track_id for box in boxes]) for frame, boxes in entries] == [
        (0, [1]),
        (2, [1, 2]),
        (9, [2]),
    ]
    assert entries[0][1][0].bbox == (1, 2, 3, 4)
