"""Bars around the image stay outside of the window, judged on the written file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import clips
from support.barred import SIZE, barred
from support.crop_kit import crop, luma, track_result, windows_at, write_tracks

Box = tuple[float, float, float, float]
PHONE, LETTERBOX, WHOLE = (109, 0, 211, 180), (0, 24, 320, 156), (0, 0, *SIZE)
FRAMES = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phone's video in a wide frame, and after a cut a letterboxed one."""
    paint, folder = barred(PHONE, LETTERBOX, every=FRAMES // 2), tmp_path_factory.mktemp("bars")
    return clips.make(folder / "in.mp4", clips.Clip(*SIZE, frames=FRAMES), paint)


def tracks(folder: Path, first: Box, second: Box) -> Path:
    boxes = {1: dict.fromkeys(range(20), first), 2: dict.fromkeys(range(20, 40), second)}
    result = track_result(boxes, size=SIZE, frames=FRAMES, cuts=(20,))
    return write_tracks(folder / "tracks.json", result)


def black_lines(path: Path) -> tuple[int, int]:
    """The most columns and rows of a frame that show nothing but black."""
    frames = luma(path)
    return tuple(max(int(np.sum(frame.max(axis) < 40)) for frame in frames) for axis in (0, 1))  # type: ignore[return-value]


BESIDE_BARS = (112.0, 60.0, 142.0, 170.0), (4.0, 40.0, 60.0, 154.0)


def test_the_window_keeps_out_of_the_bars(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.mp4"
    result = crop(source, output, tracks=tracks(tmp_path, *BESIDE_BARS))
    assert black_lines(output) == (0, 0)
    assert result.stats.output_resolution == "102x180" and result.stats.in_view == 1
    windows = windows_at(result, [n / 25 for n in range(FRAMES)])
    width, height = map(int, result.stats.window.split("x"))
    assert (windows[:, 2:] == (width, height)).all(1).sum() >= FRAMES / 2
    for segment, (x1, y1, x2, y2) in zip(result.segments, (PHONE, LETTERBOX), strict=True):
        assert segment.image is not None
        x, y, width, height = segment.image
        bars = np.array([x - x1, y - y1, x2 - x - width, y2 - y - height])
        assert (bars >= 0).all() and (bars <= 4).all(), "pixels of the source"
        shown = windows[segment.start_frame : segment.end_frame + 1]
        assert _inside(shown, (x, y, x + width, y + height)).all()
    for frames, box in zip((range(20), range(20, 40)), BESIDE_BARS, strict=True):
        assert (windows[frames, 0] <= box[0]).all() and (windows[frames, 1] <= box[1]).all()


def _inside(windows: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    near, far = windows[:, :2], windows[:, :2] + windows[:, 2:]
    return np.asarray(
        ((near >= np.array(box[:2]) - 0.02) & (far <= np.array(box[2:]) + 0.02)).all(1)
    )


def test_bars_are_kept_on_request(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.mp4"
    result = crop(source, output, tracks=tracks(tmp_path, *BESIDE_BARS), keep_bars=True)
    assert {segment.image for segment in result.segments} == {None}
    columns, rows = black_lines(output)
    assert columns >= 20 and rows >= 40


def test_where_somebody_is_tracked_is_no_bar(tmp_path: Path, source: Path) -> None:
    """Black to the eye, but the detector sees someone there: a dark part of a scene."""
    in_the_dark, beside = (20.0, 60.0, 50.0, 170.0), BESIDE_BARS[1]
    result = crop(source, tracks=tracks(tmp_path, in_the_dark, beside))
    assert result.segments[0].image is None and result.segments[1].image is not None
    assert result.stats.in_view == 1


def test_all_of_a_barred_image_is_shown_whole(tmp_path: Path, source: Path) -> None:
    """`blur` shows the image, not its bars, over a background that is made of it."""
    wish = {"start_time": 0.8, "end_time": 1.6, "layout": "blur"}
    output = tmp_path / "out.mp4"
    result = crop(
        source, output, tracks=tracks(tmp_path, *BESIDE_BARS), overrides=[wish], normalised=True
    )
    segment, key = result.segments[1], result.crop_keyframes[-1]
    assert segment.image == pytest.approx((key.x, key.y, key.width, key.height), abs=1e-6)
    assert key.height < 140 / 180 and black_lines(output) == (0, 0)
