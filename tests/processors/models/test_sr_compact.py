"""The compact network that adds its repeated input before the shuffle: spandrel's own forward is
the truth, bit for bit in float32 and no farther from it than spandrel's own in bfloat16."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from spandrel import MAIN_REGISTRY
from support.paths import TESTS
from support.tiny_weights import compact
from torch import nn

from gpu_worker_processors.models.sr.compact import add_before_shuffle


def network(scale: int) -> nn.Module:
    """spandrel's SRVGGNetCompact as it comes, seeded."""
    descriptor = MAIN_REGISTRY["Compact"].architecture.load(compact(1, scale=scale))
    assert descriptor.scale == scale
    descriptor.eval()
    return descriptor.model.requires_grad_(False)


SIZES = ((1, 3, 33, 20), (2, 3, 8, 51))
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)


def noise(size: tuple[int, ...], layout: torch.memory_format) -> torch.Tensor:
    """That bfloat16 holds as it is, so that both formats see the same picture."""
    return (
        torch.rand(size, generator=torch.Generator().manual_seed(2))
        .bfloat16()
        .float()
        .contiguous(memory_format=layout)
    )


@pytest.mark.parametrize("scale", [1, 2, 4])
@LAYOUTS
def test_not_one_bit_differs(scale: int, layout: torch.memory_format) -> None:
    plain = network(scale)
    changed = copy.deepcopy(plain)
    add_before_shuffle(changed)
    for size in SIZES:
        x = noise(size, layout)
        expected = plain(x)
        assert expected.shape == (size[0], 3, size[2] * scale, size[3] * scale)
        assert torch.equal(changed(x), expected)


@pytest.mark.parametrize("scale", [1, 2, 4])
@LAYOUTS
def test_bfloat16_is_as_near_to_float32_as_the_original(
    scale: int, layout: torch.memory_format
) -> None:
    exact = network(scale)
    plain = copy.deepcopy(exact).bfloat16()
    changed = copy.deepcopy(exact)
    add_before_shuffle(changed)
    changed.bfloat16()
    for size in SIZES:
        x = noise(size, layout)
        truth, theirs, ours = exact(x), plain(x.bfloat16()), changed(x.bfloat16())
        assert ours.dtype == torch.bfloat16 and ours.shape == truth.shape
        assert rms(ours - truth) <= 1.05 * rms(theirs - truth)
        assert rms(truth) > 20 * rms(theirs - truth) > 0


@pytest.mark.slow
def test_bfloat16_where_onednn_has_no_kernels_for_it() -> None:
    """On an older CPU, or one that oneDNN is told to take for such: torch computes, and not one bit
    differs."""
    script = (
        "import torch, test_sr_compact as t\n"
        "assert not torch.ops.mkldnn._is_mkldnn_bf16_supported()\n"
        "plain, changed = t.network(4).bfloat16(), t.network(4).bfloat16()\n"
        "t.add_before_shuffle(changed)\n"
        "x = t.noise((1, 3, 9, 12), torch.channels_last).bfloat16()\n"
        "assert torch.equal(changed(x), plain(x))"
    )
    here = Path(__file__).parent
    env = {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "PYTHONPATH": f"{here}{os.pathsep}{TESTS}",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def rms(difference: torch.Tensor) -> float:
    return difference.float().square().mean().sqrt().item()


def test_the_change_follows_the_network_to_another_format() -> None:
    plain, changed = network(4), network(4)
    add_before_shuffle(changed)
    assert set(changed.state_dict()) == set(
        plain.state_dict()
    )  # nothing that a file of weights would lack
    x = torch.rand(1, 3, 9, 12).double()
    assert torch.equal(changed.double()(x), plain.double()(x))
