"""Upscaling pictures of more than 8 bit, with alpha, in fields: kept, or left out and said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support import clips
from support.upscale_kit import Repeat, job, seen, upscaled

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.upscale.upscale import upscale_file


def codes(warnings: list[ResultWarning]) -> set[str]:
    return {warning.code for warning in warnings}


HDR10 = (9, 9, 16, 1)


def ramp10(path: Path, color: tuple[int, int, int, int]) -> Path:
    """A 10-bit ramp of single code values, which 8 bit cannot hold."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = color
        for index in range(3):
            frame = av.VideoFrame(128, 64, "yuv420p10le")
            luma = np.frombuffer(frame.planes[0], np.uint16).reshape(64, -1)
            luma[:, :128] = 400 + np.arange(128)
            for plane in frame.planes[1:]:
                np.frombuffer(plane, np.uint16)[:] = 512
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = color
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [
        ("hevc", "mp4", "yuv420p10le"),
        ("av1", "mkv", "yuv420p10le"),
        ("prores", "mov", "yuv422p10le"),
    ],
)
@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_keeps_its_bits_and_tags(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str, transfer: int
) -> None:
    color = (9, 9, transfer, 1)
    task = job(
        ramp10(tmp_path / "in.mkv", color), tmp_path / f"out.{suffix}", codec=codec, crf=4, scale=2
    )
    upscale_file(task, Repeat(scale=2))
    found = seen(tmp_path / f"out.{suffix}")
    assert found.pix_fmt == pix_fmt
    assert found.colors == color
    assert "hdr" in codes(task.warnings)
    with av.open(str(tmp_path / f"out.{suffix}")) as container:
        frame = next(container.decode(video=0))
        luma = np.frombuffer(frame.planes[0], np.uint16).reshape(128, -1)[:, :256].astype(float)
    # 8 bit would give steps of four codes: an error of 1 on average, after perfect rounding
    assert np.abs(luma - (400 + np.arange(128)).repeat(2)).mean() < 0.75


def test_hdr_in_8_bit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        upscaled(ramp10(tmp_path / "in.mkv", HDR10), tmp_path / "out.mp4")
    assert caught.value.code == ErrorCode.unsupported_media
    assert "hevc" in caught.value.message
    assert not (tmp_path / "out.mp4").exists()


def test_ten_bit_without_hdr_is_written_as_8_and_said(tmp_path: Path) -> None:
    task = job(ramp10(tmp_path / "in.mkv", (1, 1, 1, 1)), tmp_path / "out.mp4")
    upscale_file(task, Repeat())
    assert codes(task.warnings) == {"bit_depth_reduced"}
    assert seen(tmp_path / "out.mp4").pix_fmt == "yuv420p"


def test_transparency_is_left_out_and_said(tmp_path: Path) -> None:
    clip = clips.Clip(frames=3, codec="ffv1", options=(), pix_fmt="yuva420p")
    task = job(clips.make(tmp_path / "in.mkv", clip), tmp_path / "out.mp4", scale=2)
    upscale_file(task, Repeat(scale=2))
    assert codes(task.warnings) == {"alpha_dropped"}


def test_fields_are_joined_and_said(tmp_path: Path) -> None:
    """A white bar that has moved between the two fields of each frame: combed, unless the fields
    are taken apart."""

    def combed(index: int, width: int, height: int) -> NDArray[np.uint8]:
        picture = np.zeros((height, width, 3), np.uint8)
        picture[0::2, 16 * index : 16 * index + 32] = 255
        picture[1::2, 16 * index + 8 : 16 * index + 40] = 255
        return picture

    options = (("crf", "4"), ("preset", "ultrafast"), ("x264-params", "tff=1"))
    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(width=256, height=64, frames=12, options=options), combed
    )
    task = job(source, tmp_path / "out.mp4", scale=2, crf=4)
    upscale_file(task, Repeat(scale=2))
    found = seen(tmp_path / "out.mp4")
    assert found.pts_seconds == [Fraction(index, 25) for index in range(12)]
    assert codes(task.warnings) == {"deinterlaced"}

    def combing(path: Path, step: int) -> float:
        """Difference of neighbouring rows in the middle of the clip: high where fields
        interleave."""
        with av.open(str(path)) as container:
            pictures = [
                frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)
            ]
        return float(
            np.mean([np.abs(np.diff(picture[::step], axis=0)).mean() for picture in pictures[3:9]])
        )

    assert combing(tmp_path / "out.mp4", 2) < 0.35 * combing(source, 1)
