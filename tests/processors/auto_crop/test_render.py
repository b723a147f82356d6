"""The window in the picture: that every output pixel shows the place it should, to a fraction of a
pixel, in every plane, from any kind of source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from support import clips
from support.crop_kit import BRIGHT, DARK, crop, luma, marker, marker_positions, windows_at

from gpu_worker_processors.auto_crop.canvas import Canvas, FrameCropper, square_size
from gpu_worker_processors.auto_crop.resample import Axis, band, resampled
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.frame import Frame
from gpu_worker_processors.media.probe import VideoInfo

# ---- one plane, beside Pillow

BOXES = {  # x, y, width, height -> size
    "a shift": ((10.37, 0, 60, 90), (60, 90)),
    "both ways": ((3.3, 4.44, 60, 70), (60, 70)),
    "larger": ((99, 0.5, 60, 80), (160, 214)),
    "smaller": ((0, 0, 160, 90), (32, 18)),
    "odd factors": ((33.3, 4.4, 55.5, 77.7), (40, 60)),
    "at the far corner": ((99.99, 29.5, 60, 60), (64, 64)),
}


@pytest.mark.parametrize("name", BOXES)
def test_samples_are_those_of_pillow(name: str) -> None:
    (x, y, width, height), (columns, rows) = BOXES[name]
    plane = np.random.default_rng(1).integers(0, 256, (90, 160)).astype(np.uint8)
    truth = Image.fromarray(plane.astype(np.float32)).resize(
        (columns, rows), Image.Resampling.LANCZOS, box=(x, y, x + width, y + height)
    )
    wanted = (
        Axis(rows, 0.5, 1).mapped(y, height / rows),
        Axis(columns, 0.5, 1).mapped(x, width / columns),
    )
    found = resampled(plane, Axis(90, 0.5, 1), Axis(160, 0.5, 1), *wanted)
    assert np.abs(found - np.asarray(truth)).max() < 0.01


def test_a_whole_shift_takes_the_samples_as_they_are() -> None:
    plane = np.random.default_rng(2).integers(0, 1024, (20, 30)).astype(np.uint16)
    found = resampled(plane, Axis(20, 0.5, 1), Axis(30, 0.5, 1), Axis(10, 5.5, 1), Axis(8, 7.5, 1))
    assert found.dtype == np.uint16
    assert np.array_equal(found, plane[5:15, 7:15])
    assert band(Axis(30, 0.5, 1), Axis(8, 25.5, 1)).blocks is not None, (
        "beyond the edge nothing is as it is"
    )


# ---- one picture, beside the function it was made from


def info(**changes: Any) -> VideoInfo:
    values: dict[str, Any] = {
        "index": 0,
        "codec": "h264",
        "width": 96,
        "height": 64,
        "coded_width": 96,
        "coded_height": 64,
        "rotation": 0,
        "mirrored": False,
        "sar": Fraction(1),
        "time_base": Fraction(1, 25),
        "fps": Fraction(25),
        "frame_count": 1,
        "duration_seconds": None,
        "pix_fmt": "yuv420p10le",
        "bit_depth": 10,
        "colorspace": 1,
        "primaries": 1,
        "transfer": 1,
        "color_range": 1,
        "interlaced": False,
    }
    return VideoInfo(**(values | changes))


def slope(x: Any, y: Any) -> Any:
    """What the test picture shows at a place of the upright picture with square pixels, in all
    planes: 10-bit code values."""
    return 300 + 4.0 * x + 3.0 * y


def coded_picture(video: VideoInfo, subsampling: tuple[int, int]) -> Frame:
    """The slope as a decoder hands it over: samples where H.264 puts them, lying as the stream
    says."""
    planes = []
    for across, down in ((1, 1), subsampling, subsampling):
        columns = 0.5 + across * np.arange(video.coded_width // across)
        rows = down / 2 + down * np.arange(video.coded_height // down)
        x, y = np.meshgrid(columns, rows)
        if video.rotation == 90:
            x, y = video.coded_height - y, x
        elif video.rotation == 180:
            x, y = video.coded_width - x, video.coded_height - y
        elif video.rotation == 270:
            x, y = y, video.coded_width - x
        if video.mirrored:
            x = video.width - x
        stretch = square_size(video)[0] / video.width
        planes.append(np.rint(slope(x * stretch, y)).astype(np.uint16))
    return Frame(tuple(planes), 10, is_rgb=False)


SOURCES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "4:2:0": ({}, (2, 2)),
    "4:2:2": ({}, (2, 1)),
    "4:4:4": ({}, (1, 1)),
    "turned 90": ({"rotation": 90, "width": 64, "height": 96}, (2, 2)),
    "turned 180": ({"rotation": 180}, (2, 2)),
    "turned 270": ({"rotation": 270, "width": 64, "height": 96}, (2, 2)),
    "mirrored": ({"mirrored": True}, (2, 2)),
    "turned and mirrored": ({"rotation": 270, "mirrored": True, "width": 64, "height": 96}, (2, 2)),
    "wide pixels": ({"sar": Fraction(4, 3)}, (2, 2)),
    "turned, tall pixels": (
        {"rotation": 90, "width": 64, "height": 96, "sar": Fraction(3, 4)},
        (2, 2),
    ),
}
WINDOWS = {
    "as it is": (8.0, 12.0, 32.0, 40.0, (32, 40)),
    "between": (8.37, 12.81, 32.0, 40.0, (32, 40)),
    "larger": (8.37, 12.81, 30.5, 38.125, (64, 80)),
    "smaller": (8.37, 12.2, 32.0, 40.0, (16, 20)),
}


@pytest.mark.parametrize("half_height", [True, False], ids=["to 4:2:0", "to 4:2:2"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_sample_shows_its_place(source: str, window: str, half_height: bool) -> None:
    changes, subsampling = SOURCES[source]
    video = info(**changes)
    x, y, width, height, size = WINDOWS[window]
    canvas = Canvas(*size, ColorTags(1, 1, 1, full_range=False), 10, half_height)
    planes = FrameCropper(video, canvas.tags, canvas)(
        coded_picture(video, subsampling), (x, y, width, height), "crop"
    )
    for index, plane in enumerate(planes):
        across, down = (1, 1) if index == 0 else (2, 2 if half_height else 1)
        assert plane.shape == (size[1] // down, size[0] // across)
        columns = x + (0.5 + across * np.arange(size[0] // across)) * width / size[0]
        rows = y + (down / 2 + down * np.arange(size[1] // down)) * height / size[1]
        expected = slope(*np.meshgrid(columns, rows))
        # One code value is 0.25 px across. Two roundings; and the edge of the smaller ones, where
        # the filter meets it.
        assert np.abs(plane.astype(float) - expected).max() < 1.3, (
            index,
            np.abs(plane - expected).max(),
        )


def test_ranges_and_depths_are_converted() -> None:
    """A full-range 8-bit grey as limited 10 bit: H.273's equations by hand."""
    video = info(bit_depth=8, pix_fmt="yuvj420p")
    planes = tuple(
        np.full(shape, value, np.uint8)
        for shape, value in (((64, 96), 200), ((32, 48), 90), ((32, 48), 160))
    )
    canvas = Canvas(32, 32, ColorTags(1, 1, 1, full_range=False), 10, half_height=False)
    found = FrameCropper(video, ColorTags(1, 1, 1, full_range=True), canvas)(
        Frame(planes, 8, is_rgb=False), (0, 0, 64, 64), "crop"
    )
    expected = [64 + 876 * 200 / 255, 512 + 896 * (90 - 128) / 255, 512 + 896 * (160 - 128) / 255]
    for plane, value in zip(found, expected, strict=True):
        assert np.abs(plane.astype(float) - value).max() <= 0.5


@pytest.mark.parametrize("layout", ["blur", "pad"])
def test_a_window_of_another_aspect_is_shown_whole(layout: Any) -> None:
    """The whole picture, 96x64, on a canvas of 54x96: 36 pixels high, in the middle."""
    video = info()
    canvas = Canvas(54, 96, ColorTags(1, 1, 1, full_range=False), 10, half_height=True)
    planes = FrameCropper(video, canvas.tags, canvas)(
        coded_picture(video, (2, 2)), (0, 0, 96, 64), layout
    )
    x, y = (np.arange(54) + 0.5) * 96 / 54, (np.arange(36) + 0.5) * 96 / 54
    assert np.abs(planes[0][31:65, 1:-1] - slope(*np.meshgrid(x[1:-1], y[1:-1]))).max() < 2
    above = planes[0][:28]
    if layout == "pad":
        assert np.all(above == 64)
        assert np.all(planes[1][:14] == 512)
    else:
        assert 64 < above.mean() < planes[0][32:64].mean()
        assert np.abs(np.diff(above.astype(int), axis=0)).max() <= 3, "blurred"


def test_a_source_in_rgb_and_one_in_grey() -> None:
    video = info(pix_fmt="gbrp", bit_depth=8)
    tags = ColorTags(1, 1, 1, full_range=False)
    canvas = Canvas(32, 32, tags, 8, half_height=True)
    red = tuple(np.full((64, 96), value, np.uint8) for value in (255, 0, 0))
    found = FrameCropper(video, tags, canvas)(Frame(red, 8, is_rgb=True), (3.5, 0, 64, 64), "crop")
    assert [int(plane[5, 5]) for plane in found] == [63, 102, 240], "BT.709's red"
    grey = FrameCropper(video, tags, canvas)(
        Frame((red[0] // 2,), 8, is_rgb=False), (3.5, 0, 64, 64), "crop"
    )
    assert [int(plane[5, 5]) for plane in grey] == [127, 128, 128]


# ---- files

PAN = [{"frame": 0, "x": 40.0}, {"frame": 49, "x": 46.37}]
"""0.13 pixels a frame: a crop in whole pairs of pixels would stand for 15 frames and then jump by 2
(5.3 in the output)."""


def measured(path: Path, output: Path, **params: Any) -> tuple[Any, Any]:
    """Where the marker is in the output, and where it should be by the answer: each shape (frames,
    2)."""
    spot = (100.3, 91.7)
    spec = clips.Clip(
        width=320, height=180, frames=50, options=(("crf", "4"), ("preset", "ultrafast"))
    )
    clips.make(path, spec, marker(lambda _: spot))
    result = crop(path, output, keyframes=PAN, crf=4, **params)
    width, height = (int(side) for side in result.stats.output_resolution.split("x"))
    windows = windows_at(result, [index / 25 for index in range(50)])
    expected = (np.array(spot) - windows[:, :2]) * np.array([width, height]) / windows[:, 2:]
    return marker_positions(output), expected


@pytest.mark.parametrize(
    "params", [{}, {"output_width": 270, "output_height": 480}, {"output_height": 90}], ids=str
)
def test_a_marker_is_where_the_plan_says_and_moves_evenly(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    found, expected = measured(tmp_path / "in.mp4", tmp_path / "out.mp4", **params)
    off = found - expected
    rms = np.sqrt((off**2).sum(1).mean())
    steps = np.diff(found[:, 0])
    jerky = np.abs(np.diff(found[:, 0], 2)).max()
    print(
        f"{params}: off by {rms:.4f} px rms, steps {steps.mean():.3f} px, from {steps.min():.3f} to"
        f" {steps.max():.3f}"
    )
    assert rms < 0.25
    assert np.abs(off[:, 0] - off[:, 0].mean()).max() < 0.06, "no stairs"
    larger = max(1.0, params.get("output_width", 0) / 102)
    assert jerky < 0.08 * larger, "the encoder's noise; a crop in whole pairs makes 2"


def test_the_cut_is_at_its_frame(tmp_path: Path) -> None:
    """A step of the path at a cut of the picture: no frame before it shows the new place, none
    after it the old one."""
    spots = ((60.0, 90.0), (260.0, 90.0))
    paint = marker(lambda index: spots[index >= 25], (DARK, DARK + 60), every=25)
    source = clips.make(tmp_path / "in.mp4", clips.Clip(width=320, height=180, frames=50), paint)
    keys = [
        {"frame": 0, "x": 10.0},
        {"frame": 24, "x": 10.0},
        {"frame": 25, "x": 210.0},
        {"frame": 49, "x": 210.0},
    ]
    crop(source, tmp_path / "out.mp4", keyframes=keys)
    found = marker_positions(tmp_path / "out.mp4")
    assert np.abs(found[:, 0] - 50).max() < 0.25, "in the middle of every frame"
    brightness = [float(np.median(picture)) for picture in luma(tmp_path / "out.mp4")]
    assert np.diff(brightness).argmax() == 24


def test_growing_windows_zoom_evenly(tmp_path: Path) -> None:
    spot = (160.0, 90.0)
    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(width=320, height=180, frames=25), marker(lambda _: spot)
    )
    keys = [
        {"frame": 0, "x": 110.0, "y": 0.0, "width": 100.0, "height": 178.0},
        {"frame": 24, "x": 135.0, "y": 44.5, "width": 50.0, "height": 89.0},
    ]
    result = crop(source, tmp_path / "out.mp4", keyframes=keys, target_aspect="50:89", crf=4)
    windows = windows_at(result, [index / 25 for index in range(25)])
    width, height = (int(side) for side in result.stats.output_resolution.split("x"))
    expected = (np.array(spot) - windows[:, :2]) * np.array([width, height]) / windows[:, 2:]
    off = marker_positions(tmp_path / "out.mp4") - expected
    assert np.sqrt((off**2).sum(1).mean()) < 0.25


def test_square_pixels_come_out(tmp_path: Path) -> None:
    """A round spot on a screen whose pixels are 4:3 is stored narrow; it leaves round, at its place
    on the screen."""
    width, height, sar = 240, 180, Fraction(4, 3)

    def paint(index: int, width: int, height: int) -> Any:
        screen = marker(lambda _: (160.0, 90.0))(index, round(width * sar), height)
        return np.asarray(Image.fromarray(screen).resize((width, height), Image.Resampling.LANCZOS))

    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(width=width, height=height, frames=3, sar=sar), paint
    )
    result = crop(source, tmp_path / "out.mp4", keyframes=[{"frame": 0, "x": 110.0}], crf=4)
    assert (result.stats.input_resolution, result.stats.output_resolution) == ("320x180", "102x180")
    assert "square_pixels" in {warning.code for warning in result.warnings}
    assert np.abs(marker_positions(tmp_path / "out.mp4") - (50, 90)).max() < 0.25
    picture = luma(tmp_path / "out.mp4")[0] > (DARK + BRIGHT) / 2
    assert abs(int(picture.any(0).sum()) - int(picture.any(1).sum())) <= 1, "round"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)
