"""Recorded and compiled networks answer what the same network answers kernel by kernel, from
several threads too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support.tiny_weights import WeightsFolder, compact, rrdb, swinir
from torch import Tensor

from gpu_worker_processors.models.devices import free_memory_bytes
from gpu_worker_processors.models.sr.loader import Execution, forget_all, load

pytestmark = pytest.mark.gpu
NETS: dict[str, tuple[str, Callable[[], dict[str, Tensor]]]] = {
    "compact": ("srvgg_compact", compact),
    "rrdb": ("rrdbnet", rrdb),
    "swinir": ("swinir", swinir),
}
SAME_PSNR_DB = 60.0
"""Of the same arithmetic in another order, both in half precision."""


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10(torch.mean((a.double() - b.double()) ** 2)))


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        ("compact", "graphs"),
        ("rrdb", "graphs"),
        ("swinir", "graphs"),
        ("compact", "compiled"),
        ("rrdb", "compiled"),
    ],
    # SwinIR cannot be recorded: asking for it must leave it as it is.
)
def test_the_pictures_are_those_of_the_plain_network(
    tmp_path: Path, name: str, execution: Execution
) -> None:
    forget_all()
    arch, make = NETS[name]
    folder = WeightsFolder(tmp_path)
    folder.put(name, make(), arch=arch)
    device = torch.device("cuda", 0)
    nets = [
        load(name, store=folder.store(), device=device, tile=0, execution=mode)
        for mode in ("eager", execution)
    ]
    for height, width in (
        (72, 96),
        (48, 64),
        (40, 56),
        (72, 96),
    ):  # one more than recordings are kept
        for seed in range(3):
            frames = torch.rand(
                1,
                3,
                height,
                width,
                device=device,
                generator=torch.Generator(device).manual_seed(seed),
            )
            plain, other = (net(frames) for net in nets)
            assert psnr(other, plain) >= SAME_PSNR_DB


def test_memory_that_runs_out_while_recording_leads_to_smaller_calls(tmp_path: Path) -> None:
    forget_all()
    folder = WeightsFolder(tmp_path)
    folder.put("compact", compact(), arch="srvgg_compact")
    device = torch.device("cuda", 0)
    net = load("compact", store=folder.store(), device=device, tile=0, execution="graphs")
    frame = torch.rand(1, 3, 1080, 1920, device=device)
    ballast = torch.empty(
        max(1, free_memory_bytes(device) - (1 << 30)), dtype=torch.uint8, device=device
    )
    try:
        out = net(frame)
    finally:
        del ballast
        torch.cuda.empty_cache()
    assert out.shape == (1, 3, 4320, 7680)
    assert net.tiles_for(1080, 1920) > 1


def test_threads_do_not_mix_their_frames(tmp_path: Path) -> None:
    forget_all()
    folder = WeightsFolder(tmp_path)
    folder.put("compact", compact(), arch="srvgg_compact")
    device = torch.device("cuda", 0)
    net = load("compact", store=folder.store(), device=device, tile=0, execution="graphs")
    exact = load("compact", store=folder.store(), device=device, tile=0)
    frames = [torch.rand(1, 3, 120, 160, device=device) for _ in range(40)]
    expected = [exact(frame) for frame in frames]
    torch.cuda.synchronize()

    def on_a_stream(frame: Tensor) -> Tensor:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            answer = net(frame)
        stream.synchronize()
        return answer

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(on_a_stream, frames))
    assert all(psnr(a, b) >= SAME_PSNR_DB for a, b in zip(found, expected, strict=True))
