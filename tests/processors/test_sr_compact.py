"""The compact network that adds its repeated input before the shuffle: spandrel's own forward is the truth, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from spandrel import MAIN_REGISTRY
from tiny_weights import compact
from torch import nn

from gpu_worker_processors.models.sr.compact import add_before_shuffle


def network(scale: int) -> nn.Module:
    """spandrel's SRVGGNetCompact as it comes, seeded."""
    descriptor = MAIN_REGISTRY["Compact"].architecture.load(compact(1, scale=scale))
    assert descriptor.scale == scale
    descriptor.eval()
    return descriptor.model.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_not_one_bit_differs(scale: int, dtype: torch.dtype, layout: torch.memory_format) -> None:
    plain = network(scale).to(dtype)
    changed = copy.deepcopy(plain)
    add_before_shuffle(changed)
    for size in ((1, 3, 33, 20), (2, 3, 8, 51)):
        x = torch.rand(size, generator=torch.Generator().manual_seed(2)).to(dtype, memory_format=layout)
        expected = plain(x)
        assert expected.shape == (size[0], 3, size[2] * scale, size[3] * scale)
        assert torch.equal(changed(x), expected)


def test_the_change_follows_the_network_to_another_format() -> None:
    plain, changed = network(4), network(4)
    add_before_shuffle(changed)
    assert set(changed.state_dict()) == set(plain.state_dict())  # nothing that a file of weights would lack
    x = torch.rand(1, 3, 9, 12).bfloat16()
    assert torch.equal(changed.to(torch.bfloat16)(x), plain.to(torch.bfloat16)(x))
