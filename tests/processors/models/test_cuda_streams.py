"""Frames between host and device: what is packed for one copy comes out as it went in; on a CPU
nothing is copied."""

from __future__ import annotations

import numpy as np
import torch

from gpu_worker_processors.models.cuda_streams import DeviceStreams, packed, unpacked

CPU = torch.device("cpu")


def planes() -> list[np.ndarray]:
    """Planes of odd sizes: whole, a view of every second sample, 16 bit with the highest bit set,
    rows apart in memory."""
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (5, 14), np.uint8)
    deep = rng.integers(0, 1 << 16, (6, 10), np.uint16)
    return [rng.integers(0, 256, (7, 13), np.uint8), pair[:, 1::2], deep, deep[::2, :7]]


@torch.inference_mode()  # as in a job
def test_one_block_holds_them_all() -> None:
    block, slices = packed(planes(), page_locked=False)
    assert block.dtype == torch.uint8 and block.is_contiguous()
    for view, plane in zip(unpacked(block.clone(), slices), planes(), strict=True):
        assert view.shape == plane.shape
        np.testing.assert_array_equal(view.numpy(), plane)


def test_a_copy_is_no_larger_than_the_samples() -> None:
    """1.5 bytes a pixel of yuv420p, but for the alignment."""
    frame = [
        np.zeros((480, 720), np.uint8),
        np.zeros((240, 360), np.uint8),
        np.zeros((240, 360), np.uint8),
    ]
    block, _ = packed(frame, page_locked=False)
    assert 1.5 * 720 * 480 <= block.numel() < 1.5 * 720 * 480 + 3 * 256


def test_a_cpu_copies_nothing() -> None:
    streams = DeviceStreams(CPU)
    with streams.entered():
        (tensor,) = streams.upload([array := np.arange(6, dtype=np.uint16).reshape(2, 3)])
        download = streams.download([tensor])
    array[0, 0] = 65_535
    assert download.arrived is None
    assert download.wait()[0].float()[0, 0] == 65_535
