"""The banded tail of RRDB networks: spandrel's own module is the truth, for its numbers and for the
memory it takes."""

from __future__ import annotations

import warnings

import pytest
import torch
from spandrel import MAIN_REGISTRY
from support.tiny_weights import rrdb
from torch import Tensor, nn

from gpu_worker_processors.models.sr import banded
from gpu_worker_processors.models.sr.nets import TRAITS


def network() -> nn.Module:
    """spandrel's RRDBNet x4 as it comes, seeded."""
    descriptor = MAIN_REGISTRY["ESRGAN"].architecture.load(rrdb(1))
    descriptor.eval()
    descriptor.model.requires_grad_(False)
    return descriptor.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def frames(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("count", "height", "width", "band"), [(1, 40, 24, 24 * 7), (2, 33, 20, 20 * 9), (1, 9, 16, 1)]
)
def test_bands_give_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, count: int, height: int, width: int, band: int
) -> None:
    x = frames(count, height, width)
    plain, net = network(), network()
    banded.band_tail(net)
    monkeypatch.setattr(banded, "BAND_PIXELS", band)
    # Values up to 1; the order of float32 sums, which differs from processor to processor, is worth
    # up to 2.3e-6 (measured).
    assert torch.allclose(net(x), plain(x), rtol=0, atol=1e-5)


def test_a_band_that_saw_less_of_its_neighbours_would_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = frames(1, 40, 24)
    plain, net = network(), network()
    banded.band_tail(net)
    monkeypatch.setattr(banded, "BAND_PIXELS", 24 * 7)
    monkeypatch.setattr(banded, "HALO_ROWS", 1)
    assert not torch.allclose(net(x), plain(x), rtol=0, atol=1e-3)


def peak_values_per_pixel(net: nn.Module, size: int) -> float:
    """float32 numbers alive at once, per input pixel, by torch's memory profiler."""
    x = frames(1, size, size).to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler warns of its own defaults
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            net(x)
    assert profile.profiler is not None
    now = peak = 0
    for event in sorted(
        profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()
    ):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak / 4 / size**2


def test_the_memory_is_what_the_planner_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    traits = TRAITS["ESRGAN"]
    net = network()
    whole = peak_values_per_pixel(net, 96)
    banded.band_tail(net)
    monkeypatch.setattr(banded, "BAND_PIXELS", 1024)
    in_bands = peak_values_per_pixel(net, 96)
    assert traits.banded_values_per_pixel is not None
    assert in_bands < whole / 2
    assert in_bands < traits.banded_values_per_pixel < whole < traits.values_per_pixel


def test_what_a_budget_affords() -> None:
    traits = TRAITS["ESRGAN"]
    assert traits.banded_values_per_pixel is not None
    below = (banded.BAND_PIXELS - 1) * traits.values_per_pixel
    assert traits.affordable_pixels(below) == banded.BAND_PIXELS - 1
    beyond = banded.BAND_PIXELS * traits.values_per_pixel + 1000 * traits.banded_values_per_pixel
    assert traits.affordable_pixels(beyond) == banded.BAND_PIXELS + 1000
