"""Copies frames between the machine's memory and a device while the device computes.

Every thread that computes frames has a CUDA stream of its own: upload, arithmetic and download of a
frame follow each other on it. Streams do not wait for each other: the copy engines carry the frames
of one stream while the multiprocessors compute those of another. The host's side of every copy is
page-locked memory of torch's pool, which hands a block out again once the copies from or into it
are over, so the pool grows to what is in flight and no larger. On a CPU nothing is copied.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
_ALIGNMENT_BYTES = 256
"""Between arrays of one copy: what cudaMalloc itself aligns to, enough for any vector load."""


@dataclass(frozen=True)
class Download:
    """Tensors that are being copied to the machine's memory."""

    tensors: tuple[Tensor, ...]
    arrived: torch.cuda.Event | None
    """Passed when the copies are over; None when there was nothing to copy."""

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the CPU, once their copies are over."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.tensors


class DeviceStreams:
    """The CUDA streams of one device, one for each thread that asks.

    Inside `with streams.entered():` torch computes on the calling thread's stream; `upload` and
    `download` belong there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own = threading.local()

    def entered(self) -> AbstractContextManager[object]:
        """Makes the calling thread's stream the current one within the block."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._own.stream)

    def upload(self, arrays: Sequence[Array]) -> list[Tensor]:
        """The arrays, of any numbers and strides, as tensors of the same shapes on the device, in
        one copy. The arrays may change as soon as this returns; on a CPU the tensors share their
        memory."""
        if self._device.type != "cuda":
            return [torch.from_numpy(array) for array in arrays]
        block, slices = packed(arrays, page_locked=True)
        return unpacked(block.to(self._device, non_blocking=True), slices)

    def download(self, tensors: Sequence[Tensor]) -> Download:
        """Starts to copy the tensors to the machine's memory; on a CPU they are there already."""
        if self._device.type != "cuda":
            return Download(tuple(tensors), None)
        targets = tuple(
            torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors
        )
        for target, tensor in zip(targets, tensors, strict=True):
            target.copy_(tensor, non_blocking=True)
        arrived = torch.cuda.Event(
            blocking=True
        )  # the thread that waits leaves its core to the decoder and the encoder
        arrived.record()
        return Download(targets, arrived)


@dataclass(frozen=True)
class ArraySlice:
    """The bytes of a block that hold one array."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def packed(arrays: Sequence[Array], *, page_locked: bool) -> tuple[Tensor, list[ArraySlice]]:
    """The arrays one behind the other in one uint8 tensor on the CPU, each aligned."""
    slices: list[ArraySlice] = []
    end = 0
    for array in arrays:
        dtype = torch.from_numpy(array[:0]).dtype
        slices.append(ArraySlice(end, array.shape, dtype))
        end += -(-array.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    block = torch.empty(end, dtype=torch.uint8, pin_memory=page_locked)
    for array, target in zip(arrays, unpacked(block, slices), strict=True):
        np.copyto(target.numpy(), array)
    return block, slices


def unpacked(block: Tensor, slices: Sequence[ArraySlice]) -> list[Tensor]:
    """Views of the arrays in a block that `packed` made, wherever it has been copied to."""
    views: list[Tensor] = []
    for part in slices:
        count = int(np.prod(part.shape)) * part.dtype.itemsize
        views.append(block[part.offset : part.offset + count].view(part.dtype).view(part.shape))
    return views
