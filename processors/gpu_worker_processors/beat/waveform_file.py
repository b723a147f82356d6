"""The decoded audio on disk: written once while decoding, read as often as an analysis needs it, a
window at a time.

One float32 per sample (317 MB an hour at 22,050 Hz) in the job's own directory, so memory does not
grow with the length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from gpu_worker_processors.media.downmix import Samples

_BYTES = 4


class Spool:
    """Mono samples in a file.

    Args:
        path: of the file; made by `Spool.write`.
        rate: Hz.
        samples: how many there are.
        peak: the largest magnitude.
    """

    def __init__(self, path: Path, rate: int, samples: int, peak: float) -> None:
        self.path = path
        self.rate = rate
        self.samples = samples
        self.peak = peak

    @property
    def seconds(self) -> float:
        return self.samples / self.rate

    @classmethod
    def write(cls, path: Path, rate: int, blocks: Iterable[Samples]) -> Spool:
        """Writes all blocks, float32 of any lengths."""
        samples, peak = 0, 0.0
        with path.open("wb") as file:
            for block in blocks:
                file.write(block.astype(np.float32, copy=False).tobytes())
                samples += len(block)
                peak = max(peak, float(np.abs(block).max(initial=0.0)))
        return cls(path, rate, samples, peak)

    def window(self, start: int, stop: int) -> Samples:
        """Samples start..stop, float32 of shape (stop - start,); zeros before the beginning and
        after the end."""
        first, last = max(0, start), max(0, min(stop, self.samples))
        out = np.zeros(stop - start, np.float32)
        if last > first:
            out[first - start : last - start] = np.fromfile(
                self.path, np.float32, last - first, offset=first * _BYTES
            )
        return out

    def blocks(self, size: int = 1 << 16) -> Iterator[Samples]:
        """The whole audio again."""
        for start in range(0, self.samples, size):
            yield self.window(start, min(start + size, self.samples))
