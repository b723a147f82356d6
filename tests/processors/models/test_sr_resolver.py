"""The resolver: size rules, tiles against the whole frame, the ladder down, NaN once in float32,
weight interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support.tiny_weights import WeightsFolder, compact, rrdb, rrdb_of_2018, swinir
from torch import Tensor

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.devices import (
    best_dtype,
    free_memory_bytes,
    is_out_of_memory,
    pick_device,
)
from gpu_worker_processors.models.sr.loader import forget_all, load

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> WeightsFolder:
    forget_all()
    made = WeightsFolder(tmp_path)
    made.put("compact", compact(convs=2, features=16), arch="srvgg_compact")
    made.put("rrdb", rrdb(1), arch="rrdbnet")
    made.put("swinir", swinir(), arch="swinir")
    return made


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny convolutions are faster on one thread, much faster on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def frame(height: int, width: int, count: int = 1, seed: int = 1) -> Tensor:
    """Smooth picture with edges: structure that a seam would show up in."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    noise = torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(seed))
    base = torch.stack([x, y, ((x * 9).floor() + (y * 7).floor()) % 2])
    return (0.7 * base + 0.3 * noise).clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    mse = float(((a - b) ** 2).mean())
    return math.inf if mse == 0 else -10 * math.log10(mse)


class Bounded:
    """A network whose device runs out of memory above so many pixels per call, with torch's own
    exception."""

    def __init__(
        self, net: Callable[[Tensor], Tensor], pixels: int, error: Callable[[], Exception]
    ) -> None:
        self.net, self.pixels, self.error = net, pixels, error
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.append((x.shape[0], x.shape[2], x.shape[3]))
        if x.shape[0] * x.shape[2] * x.shape[3] > self.pixels:
            raise self.error()
        return self.net(x)


def cuda_oom() -> Exception:
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def cpu_oom() -> Exception:
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory:"
        " you tried ..."
    )


@pytest.mark.parametrize("name", ["compact", "rrdb", "swinir"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (3, 2), (33, 47)])
def test_any_size_comes_back_four_times_as_large(
    folder: WeightsFolder, name: str, height: int, width: int
) -> None:
    out = load(name, store=folder.store(), device=CPU)(frame(height, width, count=2))
    assert out.shape == (2, 3, height * 4, width * 4)
    assert out.dtype == torch.float32
    assert out.min() >= 0 and out.max() <= 1
    out += 1  # a plain tensor: the caller may write into it


@pytest.mark.parametrize(("name", "height", "width"), [("compact", 150, 190), ("rrdb", 64, 90)])
def test_tiles_leave_no_seam(folder: WeightsFolder, name: str, height: int, width: int) -> None:
    rgb = frame(height, width)
    whole_net = load(name, store=folder.store(), device=CPU, tile=0, dtype=torch.float32)
    whole = whole_net(rgb)
    tiled = load(name, store=folder.store(), device=CPU, tile=64, dtype=torch.float32)
    assert tiled.tiles_for(height, width) >= 2
    assert psnr(tiled(rgb), whole) > 60
    # And the test can tell: cut hard, without overlap, the same network differs visibly at the cut.
    cut = width // 2
    hard = torch.cat([whole_net(rgb[..., :cut]), whole_net(rgb[..., cut:])], 3)
    assert psnr(hard[..., cut * 4 - 4 : cut * 4 + 4], whole[..., cut * 4 - 4 : cut * 4 + 4]) < 45


@pytest.mark.parametrize(
    ("error", "limit"), [(cuda_oom, 100 * 100), (cpu_oom, 20_000), (MemoryError, 40_000)]
)
def test_out_of_memory_steps_down_and_loses_no_frame(
    folder: WeightsFolder, error: Callable[[], Exception], limit: int
) -> None:
    rgb = frame(150, 300, count=2)
    whole = load("compact", store=folder.store(), device=CPU, tile=0, dtype=torch.float32)(rgb)
    resolver = load("compact", store=folder.store(), device=CPU, dtype=torch.float32)
    bounded = resolver.net = Bounded(resolver.net, limit, error)
    assert psnr(resolver(rgb), whole) > 60
    failed = [call for call in bounded.calls if math.prod(call) > limit]
    assert failed and failed[0] == (1, 150, 300)
    assert resolver.tiles_for(150, 300) > 1
    bounded.calls.clear()
    resolver(rgb)
    assert all(math.prod(call) <= limit for call in bounded.calls), (
        "the next frame does not fail again"
    )
    assert len({call[1:] for call in bounded.calls}) == 1, "one tile shape"


@pytest.mark.parametrize(
    "name", ["compact", "rrdb", pytest.param("swinir", marks=pytest.mark.slow)]
)
def test_the_fast_format_is_close_to_float32(folder: WeightsFolder, name: str) -> None:
    rgb = frame(24, 40)
    exact = load(name, store=folder.store(), device=CPU, dtype=torch.float32)(rgb)
    fast = load(name, store=folder.store(), device=CPU, dtype=torch.bfloat16)(rgb)
    assert 40 < psnr(fast, exact) < 100
    assert exact.std() > 0.01


def test_weights_of_the_papers_layout_are_the_same_network(folder: WeightsFolder) -> None:
    folder.put("old", rrdb_of_2018(rrdb(1)), arch="rrdbnet", wrap="")
    rgb = frame(20, 24)
    new, old = (
        load(name, store=folder.store(), device=CPU, dtype=torch.float32)(rgb)
        for name in ("rrdb", "old")
    )
    assert torch.equal(new, old)


def test_a_batch_shrinks_before_tiles_do(
    folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = load("compact", store=folder.store(), device=CPU, dtype=torch.float32)
    monkeypatch.setattr(resolver, "device", torch.device("cuda"))  # only the planner looks at it
    monkeypatch.setattr(resolver, "_measure_budget", lambda: 10**9)
    assert resolver.batch_for(40, 50) == 1000
    monkeypatch.setattr(
        "gpu_worker_processors.models.sr.resolver.release_memory", lambda device: None
    )
    bounded = resolver.net = Bounded(resolver.net, 2 * 40 * 50, cuda_oom)
    assert resolver(frame(40, 50, count=8)).shape[0] == 8
    assert [call[0] for call in bounded.calls] == [8, 4, 2, 2, 2, 2]
    assert resolver.tiles_for(40, 50) == 1


@pytest.mark.parametrize(
    ("device", "code"),
    [("cuda", ErrorCode.gpu_oom), ("cpu", ErrorCode.resource_exhausted)],
    ids=["cuda", "cpu"],
)
def test_when_the_smallest_tile_does_not_fit_it_is_a_typed_error(
    folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch, device: str, code: ErrorCode
) -> None:
    resolver = load("compact", store=folder.store(), device=CPU, tile=0)
    bounded = resolver.net = Bounded(resolver.net, 0, cuda_oom)
    monkeypatch.setattr(resolver, "device", torch.device(device))
    monkeypatch.setattr(
        "gpu_worker_processors.models.sr.resolver.release_memory", lambda device: None
    )
    with pytest.raises(TaskError) as caught:
        resolver(frame(300, 400))
    assert caught.value.code is code and code.retryable
    assert len(bounded.calls) < 20


def test_a_fixed_batch_shows_the_network_one_shape(
    folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded or compiled for a shape must not meet another one at the end of a video or
    of a frame's tiles."""
    rgb = frame(40, 50, count=7)
    expected = load("compact", store=folder.store(), device=CPU, dtype=torch.float32, tile=0)(rgb)
    for tile, batch_pixels in ((0, 3 * 40 * 50), (32, 5 * 32 * 32)):
        resolver = load(
            "compact",
            store=folder.store(),
            device=CPU,
            dtype=torch.float32,
            tile=tile,
            execution="graphs",
        )
        monkeypatch.setattr(
            resolver, "_batch", lambda plan, pixels, room=batch_pixels: room // plan.pixels
        )
        bounded = resolver.net = Bounded(resolver.net, 10**9, cuda_oom)
        assert psnr(resolver(rgb), expected) > 60
        assert len(bounded.calls) > 2 and len(set(bounded.calls)) == 1, bounded.calls


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory(
    folder: WeightsFolder,
) -> None:
    resolver = load("compact", store=folder.store(), device=CPU)
    bounded = resolver.net = Bounded(
        resolver.net,
        0,
        lambda: RuntimeError("CUDA error: an illegal memory access was encountered"),
    )
    with pytest.raises(RuntimeError, match="illegal memory access"):
        resolver(frame(16, 16))
    assert len(bounded.calls) == 1


def test_a_new_job_starts_without_the_old_limit(folder: WeightsFolder) -> None:
    first = load("compact", store=folder.store(), device=CPU)
    first.net = Bounded(first.net, 120 * 120, cuda_oom)
    first(frame(150, 150))
    second = load("compact", store=folder.store(), device=CPU)
    assert first.tiles_for(150, 150) > 1 == second.tiles_for(150, 150)


def test_not_a_number_is_computed_again_in_float32(folder: WeightsFolder) -> None:
    rgb = frame(20, 24)
    exact = load("compact", store=folder.store(), device=CPU, dtype=torch.float32)(rgb)
    resolver = load("compact", store=folder.store(), device=CPU, dtype=torch.bfloat16)
    net = resolver.net
    assert psnr(resolver(rgb), exact) < 80, "bfloat16 and float32 can be told apart"

    def overflowing(x: Tensor) -> Tensor:
        out = net(x)
        out[0, 0, 3, 3] = math.inf
        return out

    resolver.net = overflowing
    assert psnr(resolver(rgb), exact) > 120
    assert resolver.full_precision_frames == 1


def test_interpolated_weights_are_exactly_the_weighted_sum(tmp_path: Path) -> None:
    forget_all()
    folder = WeightsFolder(tmp_path)
    strong, weak = compact(seed=1), compact(seed=2)
    folder.put("realesr-general-x4v3", strong, arch="srvgg_compact", wrap="params")
    folder.put("realesr-general-wdn-x4v3", weak, arch="srvgg_compact", wrap="params")
    rgb = frame(20, 24)

    def at(strength: float | None) -> Tensor:
        return load(
            "realesr-general-x4v3",
            store=folder.store(),
            device=CPU,
            denoise_strength=strength,
            dtype=torch.float32,
        )(rgb)

    # The oracle: a file that holds the sum, loaded as a network of its own.
    for strength in (0.0, 0.25, 0.5, 1.0):
        mixed = {
            key: strength * value + (1 - strength) * weak[key] for key, value in strong.items()
        }
        folder.put(f"mixed{strength}", mixed, arch="srvgg_compact")
        expected = load(f"mixed{strength}", store=folder.store(), device=CPU, dtype=torch.float32)(
            rgb
        )
        assert torch.equal(at(strength), expected)
    assert torch.equal(at(None), at(1.0))
    assert psnr(at(0.0), at(1.0)) < 40


def test_strength_without_a_partner_network_is_refused(folder: WeightsFolder) -> None:
    with pytest.raises(TaskError) as caught:
        load("rrdb", store=folder.store(), device=CPU, denoise_strength=0.5)
    assert caught.value.code is ErrorCode.invalid_task


def test_a_warm_network_is_not_built_again(folder: WeightsFolder) -> None:
    first = load("compact", store=folder.store(), device=CPU)
    assert load("compact", store=folder.store(), device=CPU, tile=64).net is first.net
    for seed in (5, 6):
        folder.put(f"other{seed}", compact(seed=seed), arch="srvgg_compact")
        load(f"other{seed}", store=folder.store(), device=CPU)
    assert load("compact", store=folder.store(), device=CPU).net is not first.net


def test_devices_and_formats() -> None:
    assert pick_device("cpu") == CPU
    for name in ("cuda:99", "tpu", "cuda:-1", ""):
        with pytest.raises(TaskError, match="GPU_WORKER_DEVICE"):
            pick_device(name)
    assert best_dtype(CPU, supports_bfloat16=False) == torch.float32
    assert 0 < free_memory_bytes(CPU) < 1 << 50
    assert (
        is_out_of_memory(cuda_oom())
        and is_out_of_memory(cpu_oom())
        and is_out_of_memory(MemoryError())
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch")) and not is_out_of_memory(
        ValueError("out of memory")
    )
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46)
    assert is_out_of_memory(caught.value), "torch's own message on this machine"
