"""How frames cross between the machine's memory and a device's while the device goes on computing.

Every thread that computes frames has a lane of its own: a CUDA stream on which a frame's way in,
its arithmetic and its way out follow each other. Lanes do not wait for each other: the copy engines
carry one lane's frames while the multiprocessors are at another's, and while one lane's thread
waits for an answer, another's hands out work. The host's side of every copy is page-locked memory
of torch's pool, which gives a block out again once the copies from or into it are over: a ring that
grows to what is in flight and no further. On a CPU all of it degenerates to plain calls.
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
class Landing:
    """Tensors on their way to the machine's memory."""

    tensors: tuple[Tensor, ...]
    arrived: torch.cuda.Event | None
    """None: they are there."""

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the CPU, when their copies are over."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.tensors


class Lanes:
    """The lanes of one device, one for each thread that asks.

    `with lanes.entered():` makes the calling thread's lane the one on which torch computes;
    `upload` and `download` belong inside it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own = threading.local()

    def entered(self) -> AbstractContextManager[object]:
        """The calling thread's lane, as the current stream within the block."""
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
        staging, places = packed(arrays, page_locked=True)
        return unpacked(staging.to(self._device, non_blocking=True), places)

    def download(self, tensors: Sequence[Tensor]) -> Landing:
        """Starts the tensors on their way to the machine's memory; on a CPU they are there
        already."""
        if self._device.type != "cuda":
            return Landing(tuple(tensors), None)
        landing = tuple(
            torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors
        )
        for target, tensor in zip(landing, tensors, strict=True):
            target.copy_(tensor, non_blocking=True)
        arrived = torch.cuda.Event(
            blocking=True
        )  # the thread that waits leaves its core to the decoder and the encoder
        arrived.record()
        return Landing(landing, arrived)


@dataclass(frozen=True)
class Place:
    """Where an array lies in a block of bytes."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def packed(arrays: Sequence[Array], *, page_locked: bool) -> tuple[Tensor, list[Place]]:
    """The arrays one behind the other in one uint8 tensor on the CPU, each aligned."""
    places: list[Place] = []
    end = 0
    for array in arrays:
        dtype = torch.from_numpy(array[:0]).dtype
        places.append(Place(end, array.shape, dtype))
        end += -(-array.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    block = torch.empty(end, dtype=torch.uint8, pin_memory=page_locked)
    for array, target in zip(arrays, unpacked(block, places), strict=True):
        np.copyto(target.numpy(), array)
    return block, places


def unpacked(block: Tensor, places: Sequence[Place]) -> list[Tensor]:
    """Views of the arrays in a block that `packed` made, wherever it has been copied to."""
    views: list[Tensor] = []
    for place in places:
        count = int(np.prod(place.shape)) * place.dtype.itemsize
        views.append(block[place.offset : place.offset + count].view(place.dtype).view(place.shape))
    return views
