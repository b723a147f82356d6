"""Frames through a super-resolution network: tiles, batches, the ladder down when memory runs out,
and no NaN let through.

Accepts RGB frames on the network's device and answers frames enlarged by the network's own scale.
Guarantees that every frame comes back, computed by the network asked for: a lack of memory means
smaller batches, then smaller tiles, then a typed error; a non-finite number means the same pixels
once more in float32, then a typed error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from spandrel import ImageModelDescriptor, SizeRequirements
from torch import Tensor
from torch.nn import functional

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.devices import (
    free_memory_bytes,
    is_out_of_memory,
    out_of_memory,
    release_memory,
)
from gpu_worker_processors.models.sr.nets import TRAITS, Traits
from gpu_worker_processors.models.sr.tiles import Plan, plan_for_pixels, ramps

Network = Callable[[Tensor], Tensor]
Tile = int | Literal["auto"]

_CPU_ACTIVATION_BYTES = 512 << 20
"""On the CPU larger calls are no faster (per pixel 256x256 took 0.7 of the time of 1280x720 with
the 16-layer compact net)."""
_MEMORY_SHARE = {"cpu": 0.6, "cuda": 0.35}
"""One call gets this share of the free memory, by type of device; the rest is for frames in flight,
the decoder and cuDNN's workspace, and on CUDA for a second call beside it."""
_MAX_TENSOR_VALUES = 2**31 - 1
"""Some CUDA kernels index a tensor with 32 bits."""


class SuperResolver:
    """One network on one device, ready for frames.

    Args:
        descriptor: spandrel's wrapper around the module, in float32 or already in `dtype`, on
            `device`.
        dtype: number format of the module.
        tile: longest edge of a tile in input pixels; 0 is the whole frame at once; "auto" fits the
            memory.
        full_precision: makes the same network in float32 on `device`; asked for once, at the first
            non-finite number.
        fixed_batch: fills every call up to the batch of its frame size, for a network that is
            recorded or compiled per shape.

    `net` is the bare callable, float tensor [N, 3, H, W] in `dtype` -> [N, 3, H * scale, W *
    scale].
    """

    def __init__(
        self,
        descriptor: ImageModelDescriptor[torch.nn.Module],
        *,
        device: torch.device,
        dtype: torch.dtype,
        tile: Tile,
        full_precision: Callable[[], Network],
        fixed_batch: bool = False,
    ) -> None:
        self.scale: int = descriptor.scale
        self.device = device
        self.dtype = dtype
        self.net: Network = descriptor.model
        self.full_precision_frames = 0
        """Calls that had to be repeated in float32."""
        self._traits: Traits = TRAITS[descriptor.architecture.id]
        self._size: SizeRequirements = descriptor.size_requirements
        self._tile: Tile = tile
        self._full_precision = full_precision
        self._full_precision_net: Network | None = None
        self._fixed_batch = fixed_batch
        self._limit_pixels: int | None = None
        self._budgets: dict[tuple[int, int], int] = {}

    def plan_for(self, height: int, width: int) -> Plan:
        """The tiles of a frame of this size; the same for every frame until memory runs out."""
        pixels = self._pixels_per_call(height, width)
        longest = self._tile if isinstance(self._tile, int) else 0
        return plan_for_pixels(height, width, pixels, self._traits.overlap_px, longest)

    def tiles_for(self, height: int, width: int) -> int:
        """Tiles per frame; 1 is the whole frame at once."""
        return self.plan_for(height, width).count

    def batch_for(self, height: int, width: int) -> int:
        """Frames worth handing over at once: more than 1 only for whole frames of a small network
        on a GPU."""
        plan = self.plan_for(height, width)
        return self._batch(plan, self._pixels_per_call(height, width)) if plan.count == 1 else 1

    def warm_up(self, height: int = 64, width: int = 64) -> None:
        """Runs the network once on noise, in the shape that frames of this size will have, so that
        libraries are loaded and kernels chosen, compiled or recorded before a frame waits for
        them."""
        self(torch.rand(self.batch_for(height, width), 3, height, width, device=self.device))

    def __call__(self, rgb: Tensor) -> Tensor:
        """Enlarges frames.

        Args:
            rgb: float32 [N, 3, H, W] on `device`, red first, 0..1.

        Returns:
            float32 [N, 3, H * scale, W * scale] on `device`, 0..1, finite.

        Raises:
            TaskError: `gpu_oom` / `resource_exhausted` when the smallest tile does not fit,
                `nan_output` when float32 has NaN too.
        """
        height, width = rgb.shape[-2:]
        while True:
            plan = self.plan_for(height, width)
            batch = self._batch(plan, self._pixels_per_call(height, width))
            try:
                with torch.no_grad():
                    return (
                        self._whole(rgb, batch)
                        if plan.count == 1
                        else self._tiled(rgb, plan, batch)
                    )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            release_memory(self.device)
            called = batch if self._fixed_batch else min(batch, plan.count * rgb.shape[0])
            self._step_down(plan, called, height, width)

    def _step_down(self, plan: Plan, batch: int, height: int, width: int) -> None:
        """Halves what one call may hold: fewer tiles at once first, then smaller tiles. Another
        thread may have stepped down already, from the same call or a later one: the limit only
        falls."""
        limit = max(1, batch * plan.pixels // 2)
        self._limit_pixels = limit if self._limit_pixels is None else min(limit, self._limit_pixels)
        if batch == 1 and self.plan_for(height, width).pixels >= plan.pixels:
            raise out_of_memory(self.device, f"even a tile of {plan.width}x{plan.height} px")

    def _pixels_per_call(self, height: int, width: int) -> int:
        key = (height, width)
        if key not in self._budgets:
            self._budgets[key] = (
                self._measure_budget() if self._tile == "auto" else _MAX_TENSOR_VALUES
            )
        index_limit = _MAX_TENSOR_VALUES // (64 * self.scale**2)
        limit = index_limit if self._limit_pixels is None else min(index_limit, self._limit_pixels)
        return min(limit, self._budgets[key])

    def _measure_budget(self) -> int:
        available = int(free_memory_bytes(self.device) * _MEMORY_SHARE[self.device.type])
        if self.device.type == "cpu":
            available = min(available, _CPU_ACTIVATION_BYTES)
        return self._traits.affordable_pixels(available // self.dtype.itemsize)

    def _batch(self, plan: Plan, pixels: int) -> int:
        useful = self._traits.batch_pixels if self.device.type == "cuda" else 0
        return max(1, min(pixels, useful) // plan.pixels)

    def _whole(self, rgb: Tensor, batch: int) -> Tensor:
        parts = [self._forward(chunk, batch) for chunk in rgb.split(batch)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _tiled(self, rgb: Tensor, plan: Plan, batch: int) -> Tensor:
        count, channels, height, width = rgb.shape
        scale = self.scale
        down = self._ramps(plan.tops, plan.height, height, rgb.device)
        across = self._ramps(plan.lefts, plan.width, width, rgb.device)
        out = rgb.new_zeros((count, channels, height * scale, width * scale))
        jobs = itertools.product(range(count), plan.boxes())
        for group in _groups(jobs, batch):
            crops = [
                rgb[n, :, top : top + plan.height, left : left + plan.width]
                for n, (_, _, top, left) in group
            ]
            for (n, (row, column, top, left)), tile in zip(
                group, self._forward(torch.stack(crops), batch), strict=True
            ):
                bottom, right = (top + plan.height) * scale, (left + plan.width) * scale
                out[n, :, top * scale : bottom, left * scale : right] += (
                    tile * down[row][:, None] * across[column]
                )
        return out.clamp_(0, 1)

    def _ramps(
        self, starts: tuple[int, ...], tile: int, length: int, device: torch.device
    ) -> list[Tensor]:
        s = self.scale
        weights = ramps(
            tuple(start * s for start in starts), tile * s, length * s, self._traits.overlap_px * s
        )
        return [torch.tensor(row, dtype=torch.float32, device=device) for row in weights]

    def _forward(self, rgb: Tensor, batch: int) -> Tensor:
        """One call of the network on float32 frames or tiles of any size it may have, finite and
        clamped."""
        count, _, height, width = rgb.shape
        padded = _pad(rgb, self._size)
        if self._fixed_batch and count < batch:
            padded = torch.cat([padded, padded[-1:].expand(batch - count, -1, -1, -1)])
        layout = torch.channels_last if self._traits.channels_last else torch.contiguous_format
        out = self.net(padded.to(self.dtype, memory_format=layout))
        if not _finite(out):
            out = self._retry(padded)
        return out[:count, :, : height * self.scale, : width * self.scale].float().clamp_(0, 1)

    def _retry(self, padded: Tensor) -> Tensor:
        if self.dtype != torch.float32:
            if self._full_precision_net is None:
                self._full_precision_net = self._full_precision()
            self.full_precision_frames += 1
            out = self._full_precision_net(padded)
            if _finite(out):
                return out
        raise TaskError(
            ErrorCode.nan_output,
            "the network answered NaN or infinity in float32 too; its weights are damaged",
        )


def _finite(frames: Tensor) -> bool:
    """Both extremes are finite; NaN makes them NaN. One pass, no copy."""
    low, high = torch.aminmax(frames)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _pad(rgb: Tensor, size: SizeRequirements) -> Tensor:
    """Reflects the right and lower border until the network accepts the size; replicates beyond
    what can be reflected."""
    height, width = rgb.shape[-2:]
    right, below = size.get_padding(width, height)
    if not (right or below):
        return rgb
    mirrored_right, mirrored_below = min(right, width - 1), min(below, height - 1)
    rgb = functional.pad(rgb, (0, mirrored_right, 0, mirrored_below), "reflect")
    return functional.pad(rgb, (0, right - mirrored_right, 0, below - mirrored_below), "replicate")


def _groups(
    jobs: Iterator[tuple[int, tuple[int, int, int, int]]], size: int
) -> Iterator[list[tuple[int, tuple[int, int, int, int]]]]:
    while group := list(itertools.islice(jobs, size)):
        yield group
