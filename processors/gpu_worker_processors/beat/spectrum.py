"""Mel spectra of a spooled recording, a batch of frames at a time: NumPy only, no compilation,
memory independent of the length.

The mel scale, the triangles and their area normalisation are Slaney's (Auditory Toolbox, 1998), as
librosa's and Beat This!'s default; the tests hold both equal to librosa's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.beat.waveform_file import Spool

Floats = NDArray[np.float32]

_BATCH_SAMPLES = 1 << 18
"""Samples transformed at once: 4 MB of frames at an overlap of four."""

_LINEAR_HZ = 200.0 / 3
"""Hz per mel below 1 kHz."""
_LOG_FROM_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0
"""27 mels per factor 6.4 above 1 kHz."""


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    above = np.maximum(hz, _LOG_FROM_HZ)
    return np.where(
        hz < _LOG_FROM_HZ,
        hz / _LINEAR_HZ,
        _LOG_FROM_HZ / _LINEAR_HZ + np.log(above / _LOG_FROM_HZ) / _LOG_STEP,
    )


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _LOG_FROM_HZ / _LINEAR_HZ
    return np.where(
        mel < knee,
        mel * _LINEAR_HZ,
        _LOG_FROM_HZ * np.exp(_LOG_STEP * (np.maximum(mel, knee) - knee)),
    )


def mel_edges(bands: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Where the triangles start, peak and end, Hz, float64 of shape (bands + 2,): band k has edges
    k, k + 1 and k + 2."""
    low, high = hz_to_mel(np.array([low_hz, high_hz])).tolist()
    return mel_to_hz(np.linspace(low, high, bands + 2))


@lru_cache(maxsize=8)
def mel_filters(
    rate: int, n_fft: int, bands: int, low_hz: float, high_hz: float, area: bool = True
) -> Floats:
    """Triangles over the bins of a real FFT, float32 of shape (bands, n_fft // 2 + 1). `area`: each
    has the same area (Slaney's normalisation); otherwise the same height."""
    edges = mel_edges(bands, low_hz, high_hz)
    bins = np.fft.rfftfreq(n_fft, 1 / rate)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    if area:
        triangles *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return triangles.astype(np.float32)


def hann(length: int) -> Floats:
    """The periodic Hann window, float32 of shape (length,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def frame_count(samples: int, hop: int) -> int:
    """Frames centred on samples 0, hop, 2 hop, ... of a recording."""
    return 1 + samples // hop


def magnitudes(audio: Spool, n_fft: int, hop: int) -> Iterator[Floats]:
    """|STFT| in batches: float32 of shape (frames, n_fft // 2 + 1). Frame k is centred on sample k
    * hop; zeros lie outside."""
    window, total = hann(n_fft), frame_count(audio.samples, hop)
    batch = max(1, _BATCH_SAMPLES // n_fft)
    for first in range(0, total, batch):
        count = min(batch, total - first)
        start = first * hop - n_fft // 2
        samples = audio.window(start, start + (count - 1) * hop + n_fft)
        frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop]
        yield np.abs(np.fft.rfft(frames * window, axis=1)).astype(np.float32, copy=False)
