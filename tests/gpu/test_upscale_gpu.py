"""The upscale path with its arithmetic on a CUDA device: the pictures of the CPU, and an encoder
that says what it is."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from support import clips
from support.upscale_kit import Repeat, seen, upscaled

from gpu_worker_processors.media.encoders import working_encoders

pytestmark = pytest.mark.gpu


def luma(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack(
            [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
        )


@pytest.mark.parametrize("batch", [1, 4])
def test_the_device_gives_the_same_pictures(tmp_path: Path, batch: int) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=10, audio_seconds=0.4))
    upscaled(source, tmp_path / "cpu.mov", Repeat(), codec="prores")
    upscaled(
        source,
        tmp_path / "gpu.mov",
        Repeat(device=torch.device("cuda:0"), batch=batch),
        codec="prores",
    )
    assert seen(tmp_path / "gpu.mov").pts_seconds == seen(tmp_path / "cpu.mov").pts_seconds
    assert np.abs(luma(tmp_path / "gpu.mov") - luma(tmp_path / "cpu.mov")).max() <= 2


def test_ten_bits_arrive_as_ten_bits(tmp_path: Path) -> None:
    """Samples above 8 bit cross the bus as unsigned 16-bit numbers, which few of torch's operations
    know."""
    clip = clips.Clip(frames=4, codec="ffv1", options=(), pix_fmt="yuv420p10le")
    source = clips.make(tmp_path / "in.mkv", clip)
    upscaled(source, tmp_path / "cpu.mov", Repeat(), codec="prores")
    upscaled(source, tmp_path / "gpu.mov", Repeat(device=torch.device("cuda:0")), codec="prores")
    assert np.abs(luma(tmp_path / "gpu.mov") - luma(tmp_path / "cpu.mov")).max() <= 2


def test_the_encoder_is_hardware_or_says_why_not(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(width=320, height=240, frames=10))
    result = upscaled(source, tmp_path / "out.mp4", Repeat(device=torch.device("cuda:0")))
    assert result.worker is not None
    if "h264_nvenc" in working_encoders(True):
        assert (result.worker.encoder, result.worker.fallback_reason) == ("h264_nvenc", None)
    else:  # A100, H100 and H200 have no encoder
        assert result.worker.encoder == "libx264"
        assert result.worker.fallback_reason
    assert seen(tmp_path / "out.mp4").size == (1280, 960)
