"""Frames to a CUDA device and back, from several threads at once: each thread on a stream of its
own, no sample wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gpu_worker_processors.models.cuda_streams import DeviceStreams

pytestmark = pytest.mark.gpu


def planes(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    deep = rng.integers(0, 1 << 16, (270, 480), np.uint16)
    return [rng.integers(0, 256, (480, 720), np.uint8), deep, deep[::2, :77]]


def test_every_thread_has_its_own_stream_and_its_frames() -> None:
    streams = DeviceStreams(torch.device("cuda", 0))

    def there_and_back(seed: int) -> tuple[int, list[np.ndarray]]:
        with streams.entered():
            download = streams.download(streams.upload(planes(seed)))
            stream = torch.cuda.current_stream().cuda_stream
        return stream, [tensor.numpy() for tensor in download.wait()]

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(there_and_back, range(60)))
    assert len({stream for stream, _ in results}) in (1, 2, 3)
    assert torch.cuda.default_stream().cuda_stream not in {stream for stream, _ in results}
    for seed, (_, found) in enumerate(results):
        for plane, expected in zip(found, planes(seed), strict=True):
            np.testing.assert_array_equal(plane, expected)
