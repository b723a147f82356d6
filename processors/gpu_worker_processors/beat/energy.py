"""How loud a recording is, window by window."""

from __future__ import annotations

import numpy as np

from gpu_worker_client.protocol.beat import Energy
from gpu_worker_processors.beat.waveform_file import Spool

_WINDOWS_AT_ONCE = 256


def energy(audio: Spool, windows_per_second: float) -> Energy:
    """Root mean square of windows of 1 / `windows_per_second` that touch and do not overlap; the
    last may be shorter."""
    edges = [0]
    while edges[-1] < audio.samples:
        edges.append(min(audio.samples, round(len(edges) * audio.rate / windows_per_second)))
    times, rms = list[float](), list[float]()
    for first in range(0, len(edges) - 1, _WINDOWS_AT_ONCE):
        part = np.array(edges[first : first + _WINDOWS_AT_ONCE + 1])
        samples = audio.window(int(part[0]), int(part[-1])).astype(np.float64)
        sums = np.add.reduceat(np.square(samples), part[:-1] - part[0])
        rms += np.round(np.sqrt(sums / np.diff(part)), 6).tolist()
        times += np.round((part[:-1] + part[1:]) / 2 / audio.rate, 4).tolist()
    return Energy(times=times, rms=rms)
