"""What only a machine with an NVIDIA GPU can show. `REQUIRE_GPU=1` turns a missing one into a
failure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch
from support import clips
from support.tiny_weights import WeightsFolder, compact, rrdb

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.models.devices import free_memory_bytes
from gpu_worker_processors.models.sr.loader import load

pytestmark = pytest.mark.gpu

HALF_PSNR_DB = 50.0
"""float16 against float32 of the same network; measured by others at 45 dB and more for these
nets."""


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(torch.mean((a.double().cpu() - b.double().cpu()) ** 2)))


@pytest.mark.parametrize(
    ("name", "arch", "make"),
    [("tiny-rrdb", "rrdbnet", rrdb), ("tiny-compact", "srvgg_compact", compact)],
)
def test_half_precision_matches_the_float32_net(
    tmp_path: Path, name: str, arch: str, make: Callable[[], dict[str, torch.Tensor]]
) -> None:
    folder = WeightsFolder(tmp_path)
    folder.put(name, make(), arch=arch)
    frames = torch.rand(2, 3, 72, 96, generator=torch.Generator().manual_seed(3))
    on_gpu = load(
        name, store=folder.store(), device=torch.device("cuda", 0), denoise_strength=None, tile=0
    )
    on_cpu = load(
        name,
        store=folder.store(),
        device=torch.device("cpu"),
        denoise_strength=None,
        tile=0,
        dtype=torch.float32,
    )
    assert on_gpu.dtype is torch.float16
    assert psnr(on_gpu(frames.cuda()), on_cpu(frames)) >= HALF_PSNR_DB


def test_a_frame_that_does_not_fit_is_tiled_and_comes_back_whole(tmp_path: Path) -> None:
    """The real ladder on the real allocator: most of the card is taken away before the frame
    comes."""
    folder = WeightsFolder(tmp_path)
    folder.put("tiny-compact", compact(), arch="srvgg_compact")
    device = torch.device("cuda", 0)
    net = load("tiny-compact", store=folder.store(), device=device, denoise_strength=None, tile=0)
    whole = net(torch.rand(1, 3, 256, 256, device=device))
    ballast = torch.empty(
        max(1, free_memory_bytes(device) - (1 << 30)), dtype=torch.uint8, device=device
    )
    try:
        out = net(torch.rand(1, 3, 1440, 2560, device=device))
    finally:
        del ballast
        torch.cuda.empty_cache()
    assert out.shape == (1, 3, 5760, 10240)
    assert bool(torch.isfinite(out).all()) and bool(torch.isfinite(whole).all())


def test_a_job_runs_on_the_gpu_inside_the_sandbox(tmp_path: Path, weights_dir: Path) -> None:
    settings = Settings(
        work_root=tmp_path / "work", weights_dir=weights_dir, allow_local_files=True
    )
    engine = Engine(settings, os.environ)
    source = clips.make(tmp_path / "in.mp4", clips.Clip(width=320, height=240, frames=50))
    task = {
        "task": "upscale",
        "input_url": str(source),
        "output_url": str(tmp_path / "out.mp4"),
        "params": {"model": "realesr-animevideov3"},
    }
    try:
        answer = asyncio.run(Worker(settings, engine).handle({"id": "gpu", "input": task}))
    finally:
        engine.close()
    assert answer.get("status") == "completed", answer
    assert answer["worker"]["device"] == "cuda:0"
    assert answer["cost"]["gpu"]
    with av.open(str(tmp_path / "out.mp4")) as output:
        assert sum(1 for _ in output.decode(video=0)) == 50
