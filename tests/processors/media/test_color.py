"""Colour: the round trip YUV -> RGB -> YUV on photographs, checked against numbers written out
here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from support import clips
from support.upscale_kit import Repeat, seen, upscaled

from gpu_worker_processors.media.color import ColorTags, resolve_tags
from gpu_worker_processors.media.color_tensors import FromRgb, ToRgb
from gpu_worker_processors.media.frame import (
    PlaneReader,
    chroma_is_finer_than_420,
    has_alpha,
    plain_format,
)

CPU = torch.device("cpu")
PHOTOS = {name: getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea")}


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(
        10
        * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2), 1e-9))
    )


# ---- arithmetic

# matrix -> red from Cr, green from Cb, green from Cr, blue from Cb: the published decimal numbers
MATRICES = {
    1: (1.5748, -0.1873, -0.4681, 1.8556),
    6: (1.402, -0.344136, -0.714136, 1.772),
    9: (1.4746, -0.16455, -0.57135, 1.8814),
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_codes_become_the_published_colours(matrix: int, full: bool, bits: int) -> None:
    rng = np.random.default_rng(matrix)
    codes = rng.integers(60 << (bits - 8), 190 << (bits - 8), (3, 8, 8))
    unit = 1 << (bits - 8)
    peak = (1 << bits) - 1
    y = codes[0] / peak if full else (codes[0] - 16 * unit) / (219 * unit)
    cb, cr = ((codes[n] - 128 * unit) / (peak if full else 224 * unit) for n in (1, 2))
    to_red, cb_green, cr_green, to_blue = MATRICES[matrix]
    expected = np.stack(
        [y + to_red * cr, y + cb_green * cb + cr_green * cr, y + to_blue * cb]
    ).clip(0, 1)
    found = ToRgb(ColorTags(matrix, 1, 1, full), CPU)(
        [torch.from_numpy(plane) for plane in codes], bits
    )
    assert np.abs(found.numpy() - expected).max() < 2e-4


def test_chroma_is_centred_between_rows_and_on_the_left_column() -> None:
    """A chroma ramp along each axis: linear data is met exactly by the interpolation, away from the
    edges."""
    across = torch.arange(120, 136).expand(16, 16).contiguous()
    grey = torch.full((32, 32), 126)
    tags = ColorTags(6, 6, 6, True)
    to_rgb = ToRgb(tags, CPU)
    flat = torch.full((16, 16), 128)
    red = to_rgb([grey, flat, across], 8)[0] * 255
    wanted = 126 + 1.402 * (
        120 + np.arange(32) / 2 - 128
    )  # luma column x lies at chroma column x / 2
    assert np.abs(red[16, 4:-4].numpy() - wanted[4:-4]).max() < 0.01
    red = to_rgb([grey, flat, across.T.contiguous()], 8)[0] * 255
    wanted = 126 + 1.402 * (
        120 + (np.arange(32) - 0.5) / 2 - 128
    )  # luma row y lies at chroma row (y - 1/2) / 2
    assert np.abs(red[4:-4, 16].numpy() - wanted[4:-4]).max() < 0.01


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("bits", "half_height"), [(8, True), (10, True), (10, False)])
def test_photographs_survive_the_round_trip(
    photo: str, matrix: int, full: bool, bits: int, half_height: bool
) -> None:
    picture = PHOTOS[photo][:300, :450]
    tags = ColorTags(matrix, 1, 1, full)
    back = FromRgb(tags, bits=bits, half_height=half_height)
    forth = ToRgb(tags, CPU)
    rgb = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    first = back(rgb)
    again = back(forth([plane[0] for plane in first], bits)[None])
    peak = (1 << bits) - 1
    for before, after in zip(first, again, strict=True):
        assert psnr(before.numpy() * (255 / peak), after.numpy() * (255 / peak)) > 42
    assert (
        psnr(
            forth([p[0] for p in first], bits).numpy() * 255,
            forth([p[0] for p in again], bits).numpy() * 255,
        )
        > 50
    )


def test_greys_are_exact() -> None:
    """Every 8-bit luma code comes back as itself, in both ranges."""
    for full in (False, True):
        low, high = (0, 255) if full else (16, 235)
        y = torch.arange(low, high + 1, dtype=torch.uint8).repeat(2, 2)[
            :, : (high - low + 1) // 2 * 2
        ]
        chroma = torch.full((1, y.shape[1] // 2), 128, dtype=torch.uint8)
        tags = ColorTags(1, 1, 1, full)
        rgb = ToRgb(tags, CPU)([y, chroma, chroma], 8)
        found, cb, cr = FromRgb(tags, bits=8, half_height=True)(rgb[None])
        assert torch.equal(found[0], y)
        assert set(cb.unique().tolist()) == set(cr.unique().tolist()) == {128}


# ---- frames of every kind

FORMATS = [
    "yuv420p",
    "yuvj420p",
    "nv12",
    "nv21",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "yuyv422",
    "uyvy422",
    "yuva420p",
]
FORMATS += [
    "yuv420p10le",
    "p010le",
    "yuv422p10le",
    "yuv444p12le",
    "yuv420p16le",
    "gbrp",
    "rgb24",
    "bgr0",
    "rgba",
    "gbrp10le",
]
FORMATS += ["rgb48le", "yuv420p10be"]


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_every_pixel_format_gives_the_same_picture(pix_fmt: str) -> None:
    """One smooth photograph through libswscale into each format; our reading of it must agree with
    the photograph."""
    from scipy.ndimage import gaussian_filter

    photo = (
        gaussian_filter(PHOTOS["coffee"][:96, :128].astype(np.float64), (4, 4, 0))
        .round()
        .astype(np.uint8)
    )
    full = pix_fmt.startswith("yuvj")
    frame = av.VideoFrame.from_ndarray(photo, format="rgb24").reformat(
        format=pix_fmt,
        dst_colorspace="itu709",
        dst_color_range=2 if full else 1,
        interpolation="BICUBIC",
    )
    tags = resolve_tags(1, 1, 1, 2 if full else 1, height=96, pix_fmt=pix_fmt)
    picture = PlaneReader()(frame)
    planes = [torch.from_numpy(plane.astype(np.int32)) for plane in picture.planes]
    rgb = ToRgb(tags, CPU)(planes, picture.bits, is_rgb=picture.is_rgb)
    # libswscale's sites and rounding differ a little from ours; a wrong matrix, range or plane
    # order costs 10 dB and more
    assert psnr(rgb.permute(1, 2, 0).numpy() * 255, photo) > 38


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
def test_grey_formats_stay_grey(pix_fmt: str) -> None:
    frame = av.VideoFrame.from_ndarray(PHOTOS["coffee"][:96, :128], format="rgb24").reformat(
        format=pix_fmt
    )
    picture = PlaneReader()(frame)
    assert len(picture.planes) == 1
    planes = [torch.from_numpy(picture.planes[0].astype(np.int32))]
    red, green, blue = ToRgb(ColorTags(1, 1, 1, False), CPU)(planes, picture.bits)
    assert torch.equal(red, green)
    assert torch.equal(green, blue)


def test_formats_are_told_apart() -> None:
    assert plain_format(av.VideoFormat("yuyv422", 16, 16)) == "yuv422p"
    assert plain_format(av.VideoFormat("p010le", 16, 16)) == "yuv420p10le"
    assert plain_format(av.VideoFormat("rgba64le", 16, 16)) == "gbrp16le"
    assert plain_format(av.VideoFormat("pal8", 16, 16)) == "gbrp"
    assert has_alpha("yuva420p")
    assert not has_alpha("yuv420p")
    assert chroma_is_finer_than_420("yuv422p")
    assert chroma_is_finer_than_420("gbrp")
    assert not chroma_is_finer_than_420("yuv420p")
    assert not chroma_is_finer_than_420("gray")


# ---- through files

FILE_TAGS = {
    "709": (1, 1, 1, 1),
    "709 full": (1, 1, 1, 2),
    "601": (6, 6, 6, 1),
    "PAL": (5, 5, 6, 1),
    "601 full": (6, 6, 6, 2),
}


def photo_painter(photo: NDArray[np.uint8]) -> clips.Painter:
    def paint(index: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(photo[index : index + height, 3 * index : 3 * index + width])

    return paint


@pytest.mark.parametrize("name", FILE_TAGS)
@pytest.mark.parametrize("photo", ["astronaut", "coffee"])
def test_a_file_keeps_its_colours_and_tags(tmp_path: Path, name: str, photo: str) -> None:
    """Through the whole task with a network that changes nothing: bar 39 dB on RGB; one wrong
    matrix gives 26."""
    color = FILE_TAGS[name]
    clip = clips.Clip(
        width=320,
        height=240,
        frames=4,
        color=color,
        options=(("crf", "4"), ("preset", "ultrafast")),
    )
    source = clips.make(tmp_path / "in.mp4", clip, photo_painter(PHOTOS[photo]))
    upscaled(source, tmp_path / "out.mp4", Repeat(scale=1), scale=1.0001, crf=12)
    assert seen(tmp_path / "out.mp4").size == (320, 240)
    assert seen(tmp_path / "out.mp4").colors == color

    def pictures(path: Path) -> list[NDArray[np.uint8]]:
        with av.open(str(path)) as container:
            return [
                frame.to_ndarray(
                    format="rgb24",
                    src_colorspace="itu709" if color[0] == 1 else "itu601",
                    src_color_range=color[3],
                    dst_color_range=2,
                    interpolation="BICUBIC",
                )
                for frame in container.decode(video=0)
            ]

    for before, after in zip(pictures(source), pictures(tmp_path / "out.mp4"), strict=True):
        assert psnr(before, after) >= 39


@pytest.mark.parametrize(
    ("codec", "suffix", "annex_b"),
    [("h264", "mp4", "h264_mp4toannexb"), ("hevc", "mp4", "hevc_mp4toannexb")],
)
def test_the_bitstream_itself_carries_the_tags(
    tmp_path: Path, codec: str, suffix: str, annex_b: str
) -> None:
    """Without the container: the VUI of the elementary stream."""
    from av.bitstream import BitStreamFilterContext

    color = (5, 5, 6, 1)
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=4, color=color))
    upscaled(source, tmp_path / f"out.{suffix}", codec=codec)
    bare = tmp_path / f"bare.{codec}"
    with av.open(str(tmp_path / f"out.{suffix}")) as container, bare.open("wb") as file:
        stream = container.streams.video[0]
        unpack = BitStreamFilterContext(annex_b, stream)
        for packet in container.demux(stream):
            for plain in unpack.filter(packet if packet.size else None):
                file.write(bytes(plain))
    assert seen_bare(bare, codec) == color


def seen_bare(path: Path, codec: str) -> tuple[int, int, int, int]:
    with av.open(str(path), format=codec) as container:
        frame = next(container.decode(video=0))
        return (
            int(frame.colorspace),
            int(frame.color_primaries),
            int(frame.color_trc),
            int(frame.color_range),
        )


@pytest.mark.parametrize(("height", "expected"), [(48, (6, 6, 6, 1)), (720, (1, 1, 1, 1))])
def test_an_untagged_file_gets_explicit_tags(
    tmp_path: Path, height: int, expected: tuple[int, int, int, int]
) -> None:
    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(width=64, height=height, frames=2, color=(2, 2, 2, 0))
    )
    upscaled(source, tmp_path / "out.mp4", Repeat(scale=2), scale=2)
    assert seen(tmp_path / "out.mp4").colors == expected


def test_prores_is_written_in_limited_range(tmp_path: Path) -> None:
    source = clips.make(
        tmp_path / "in.mp4",
        clips.Clip(frames=2, color=(1, 1, 1, 2)),
        clips.flat((255, 255, 255), every=1),
    )
    result = upscaled(source, tmp_path / "out.mov", codec="prores")
    assert result.worker is not None
    assert seen(tmp_path / "out.mov").colors == (1, 1, 1, 1)
    with av.open(str(tmp_path / "out.mov")) as container:
        luma = np.frombuffer(next(container.decode(video=0)).planes[0], np.uint16)
    assert (
        abs(int(np.median(luma)) - round(64 + 876 * 235 / 255)) <= 1
    )  # the clip holds code 235 and calls it full range
