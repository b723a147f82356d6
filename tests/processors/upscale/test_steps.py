"""The steps around the network: the denoising filter, the resize, and faces that are forgotten at a
cut."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data
import torch
from support import clips
from support.upscale_kit import Repeat, job, seen, upscaled
from torch import Tensor

from gpu_worker_processors.upscale.denoise import denoise
from gpu_worker_processors.upscale.faces import FollowedFaces
from gpu_worker_processors.upscale.upscale import upscale_file


def photo() -> Tensor:
    picture = skimage.data.astronaut()[40:168, 150:278]
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


def noisy(sigma: float) -> Tensor:
    clean = photo()
    return (
        clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)) * sigma / 255
    )


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


# ---- denoising filter


@pytest.mark.parametrize(("sigma", "strength", "gain_db"), [(8, 0.5, 2.0), (16, 1.0, 4.0)])
def test_noise_of_the_stated_strength_is_removed(
    sigma: float, strength: float, gain_db: float
) -> None:
    grain = noisy(sigma)
    assert psnr(denoise(grain, strength), photo()) > psnr(grain, photo()) + gain_db


def test_strength_is_a_scale() -> None:
    """More strength leaves less of the noise, and zero leaves all of it."""
    grain = noisy(10)
    assert torch.equal(denoise(grain, 0), grain)
    rough = [
        float((denoise(grain, s)[..., 1:] - denoise(grain, s)[..., :-1]).abs().mean())
        for s in (0, 0.25, 0.5, 1)
    ]
    assert rough == sorted(rough, reverse=True)
    assert len(set(rough)) == 4


def test_flat_areas_and_edges_keep_their_values() -> None:
    step = torch.zeros(1, 3, 32, 32)
    step[..., 16:] = 0.8
    assert torch.allclose(denoise(step, 1.0), step, atol=1e-3)


def test_the_filter_runs_before_a_network_without_such_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def grain(index: int, width: int, height: int) -> np.ndarray:
        return rng.normal(128, 12, (height, width, 3)).clip(0, 255).astype(np.uint8)

    source = clips.make(
        tmp_path / "in.mkv",
        clips.Clip(frames=2, codec="ffv1", options=(), pix_fmt="yuv444p"),
        grain,
    )

    seen: list[float] = []

    class Watch(Repeat):
        def __call__(self, rgb: Tensor) -> Tensor:
            seen.append(float(rgb.std()))
            return super().__call__(rgb)

    spreads: dict[float | None, float] = {}
    for strength, method in ((None, "none"), (0.0, "none"), (1.0, "filter")):
        seen.clear()
        assert (
            upscaled(source, tmp_path / "out.mp4", Watch(), denoise_strength=strength).stats.denoise
            == method
        )
        spreads[strength] = max(seen)  # frames are computed side by side, in any order
    assert spreads[None] == spreads[0.0]
    assert spreads[1.0] < 0.5 * spreads[None]


# ---- another scale than the network's


class Checkerboard(Repeat):
    """Answers single black and white pixels, which no smaller picture can hold."""

    def __call__(self, rgb: Tensor) -> Tensor:
        large = super().__call__(rgb)
        y, x = torch.meshgrid(
            torch.arange(large.shape[2]), torch.arange(large.shape[3]), indexing="ij"
        )
        return ((x + y) % 2).float().expand_as(large).contiguous()


def test_a_smaller_scale_is_resized_without_aliasing(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(width=64, height=64, frames=2))
    upscaled(source, tmp_path / "out.mp4", Checkerboard(), scale=1.1, crf=0)
    assert seen(tmp_path / "out.mp4").size == (70, 70)
    with av.open(str(tmp_path / "out.mp4")) as container:
        luma = next(container.decode(video=0)).to_ndarray()[:70].astype(float)
    assert abs(luma.mean() - (16 + 219 / 2)) < 2
    assert luma[4:-4, 4:-4].std() < 5


# ---- faces


class FakeEnhancer:
    """Stands where GFPGAN would, to see when it is called: the real one is tested in test_faces."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def reset(self) -> None:
        self.log.append("reset")

    def enhance(self, original_rgb: Tensor, upscaled_rgb: Tensor) -> tuple[Tensor, int]:
        self.log.append("enhance")
        assert upscaled_rgb.shape[1:] == (192, 256)
        assert original_rgb.shape[1:] == (48, 64)
        marked = upscaled_rgb.clone()
        marked[:, :16, :16] = 1.0
        return marked, 2


def test_faces_are_restored_on_the_final_size_and_forgotten_at_a_cut(tmp_path: Path) -> None:
    enhancer = FakeEnhancer()
    paint = clips.flat((10, 10, 10), (120, 120, 120), every=3)
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=6), paint)
    task = job(source, tmp_path / "out.mp4", reuse_identical_frames=False)
    result = upscale_file(task, Repeat(), FollowedFaces(enhancer))
    assert enhancer.log == ["enhance"] * 3 + ["reset"] + ["enhance"] * 3
    assert result.stats.faces_enhanced == 12
    with av.open(str(tmp_path / "out.mp4")) as container:
        for frame in container.decode(video=0):
            luma = frame.to_ndarray()
            assert luma[2:14, 2:14].mean() > 220
            assert luma[30:60, 30:60].mean() < 140


@dataclass
class InPairs(Repeat):
    """Answers no frame before the next one has come, as long as there is one: only a pipe with two
    threads gets through it."""

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=60))

    def __call__(self, rgb: Tensor) -> Tensor:
        self.meeting.wait()
        return super().__call__(rgb)


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one core has one lane")
def test_on_a_cpu_two_frames_are_computed_side_by_side_and_stay_in_order(tmp_path: Path) -> None:
    source = clips.make(
        tmp_path / "in.mp4",
        clips.Clip(frames=12),
        clips.flat((20, 20, 20), (230, 230, 230), every=1),
    )
    threads = torch.get_num_threads()
    result = upscaled(source, tmp_path / "out.mp4", InPairs())
    assert result.stats.frames_processed == 12
    with av.open(str(tmp_path / "out.mp4")) as output:
        bright = [frame.to_ndarray(format="gray").mean() > 128 for frame in output.decode(video=0)]
    assert bright == [False, True] * 6
    assert torch.get_num_threads() == threads
