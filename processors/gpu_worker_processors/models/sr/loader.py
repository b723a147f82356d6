"""Networks held warm on their device between jobs: `load` answers a fresh `SuperResolver` around a
cached network."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import torch
from spandrel import ImageModelDescriptor

from gpu_worker_processors.models.devices import (
    best_dtype,
    is_out_of_memory,
    out_of_memory,
    release_memory,
)
from gpu_worker_processors.models.sr.nets import TRAITS, load_network
from gpu_worker_processors.models.sr.replay import ReplayedNetwork
from gpu_worker_processors.models.sr.resolver import Network, SuperResolver, Tile
from gpu_worker_processors.models.weights import WeightStore, upscale_weights

Execution = Literal["eager", "graphs", "compiled"]
"""How a network runs on CUDA: kernel by kernel; recorded once for each shape and replayed; fused by
`torch.compile` first, then recorded. On the CPU, and with a network that is not
`Traits.recordable`, all of them are kernel by kernel."""
MAX_WARM = 2
"""Networks held; the least recently used goes first. Each is 2 to 70 MB of device memory."""


@dataclass(frozen=True)
class _Key:
    """What makes two networks the same: the digests of their files, not their names."""

    digests: tuple[str, ...]
    denoise_strength: float | None
    device: torch.device
    dtype: torch.dtype | None
    execution: Execution


_warm: OrderedDict[_Key, tuple[ImageModelDescriptor[torch.nn.Module], Network, torch.dtype]] = (
    OrderedDict()
)


def load(
    name: str,
    *,
    store: WeightStore,
    device: torch.device,
    denoise_strength: float | None = None,
    tile: Tile = "auto",
    dtype: torch.dtype | None = None,
    execution: Execution = "eager",
) -> SuperResolver:
    """A network ready for frames. Verifies its files every time, builds it only when it is not
    warm.

    Args:
        name: manifest name of a super-resolution network.
        denoise_strength: 0..1, only with a network that has a weak-denoise partner; None is the
            network as trained.
        tile: see `SuperResolver`.
        dtype: number format; None picks the fastest that network and device bear.
        execution: how it runs on CUDA. "compiled" needs a C compiler and takes tens of seconds once
            per shape.

    Raises:
        TaskError: `weights_missing`, `weights_rejected`, `gpu_oom`.
    """
    files = [
        store.resolve(file) for file in upscale_weights(name, denoise_strength, face_enhance=False)
    ]
    key = _Key(
        tuple(file.spec.sha256 for file in files), denoise_strength, device, dtype, execution
    )
    if key not in _warm:
        while len(_warm) >= MAX_WARM:
            _warm.popitem(last=False)
            release_memory(device)
        _warm[key] = _prepare(load_network(name, store, denoise_strength), key)
    _warm.move_to_end(key)
    descriptor, net, used = _warm[key]

    def full_precision() -> Network:
        return load_network(name, store, denoise_strength).to(device, torch.float32).model

    resolver = SuperResolver(
        descriptor,
        device=device,
        dtype=used,
        tile=tile,
        full_precision=full_precision,
        fixed_batch=execution != "eager" and TRAITS[descriptor.architecture.id].recordable,
    )
    resolver.net = net
    return resolver


def forget_all() -> None:
    """Drops every warm network."""
    _warm.clear()


def _prepare(
    descriptor: ImageModelDescriptor[torch.nn.Module], key: _Key
) -> tuple[ImageModelDescriptor[torch.nn.Module], Network, torch.dtype]:
    halves = {
        "supports_half": descriptor.supports_half,
        "supports_bfloat16": descriptor.supports_bfloat16,
    }
    dtype = key.dtype or best_dtype(key.device, **halves)
    traits = TRAITS[descriptor.architecture.id]
    mixed = traits.autocast and dtype != torch.float32
    try:
        descriptor.to(key.device, torch.float32 if mixed else dtype)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory(key.device, "the network") from None
        raise
    if traits.channels_last:
        descriptor.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    recorded = key.device.type == "cuda" and key.execution != "eager" and traits.recordable
    if key.device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # every tile of a video has one shape
        torch.backends.cudnn.allow_tf32 = False  # the float32 retry is there to be exact
        torch.cuda.synchronize(
            key.device
        )  # frames are computed on other streams than the weights were converted on
        if key.execution == "compiled" and recorded:
            _compile(descriptor)
    net: Network = _autocast(descriptor.model, key.device, dtype) if mixed else descriptor.model
    return descriptor, ReplayedNetwork(net) if recorded else net, dtype


def _compile(descriptor: ImageModelDescriptor[torch.nn.Module]) -> None:
    """Lets torch fuse what lies between the convolutions. Of an RRDB network only its block, which
    all 23 have in common: that compiles in a twentieth of the time."""
    model: Any = descriptor.model
    parts = list(model.model[1].sub)[:-1] if descriptor.architecture.id == "ESRGAN" else [model]
    for part in parts:
        part.compile(dynamic=False)


def _autocast(net: Network, device: torch.device, dtype: torch.dtype) -> Network:
    def run(frames: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype):
            return net(frames)

    return run
