"""Tempo from an onset envelope as librosa estimates it, and how much speaks for every other
tempo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.beat.spectrum import Floats

Doubles = NDArray[np.float64]

WINDOW_SECONDS = 8.0
START_BPM = 120.0
_STD_OCTAVES = 1.0
_MAX_BPM = 320.0
"""librosa.feature.tempo's defaults: ac_size, start_bpm, std_bpm, max_tempo."""
_BATCH = 1024


def tempogram_mean(envelope: Floats, rate: float) -> Doubles:
    """librosa.feature.tempogram, averaged over time: autocorrelation per lag, float64 of shape
    (lags,), 0..1 or so.

    Args:
        envelope: onset strength, float32 of shape (frames,).
        rate: frames per second.
    """
    width = int(WINDOW_SECONDS * rate)
    half = width // 2
    padded = np.pad(envelope.astype(np.float64), half, mode="linear_ramp", end_values=0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    views = np.lib.stride_tricks.sliding_window_view(padded, width)[: len(envelope)]
    size = 1 << (2 * width - 1).bit_length()
    total = np.zeros(width)
    for start in range(0, len(views), _BATCH):
        spectrum = np.fft.rfft(views[start : start + _BATCH] * window, size, axis=1)
        correlation = np.fft.irfft(np.square(np.abs(spectrum)), size, axis=1)[:, :width]
        peak = np.abs(correlation).max(axis=1, keepdims=True)
        total += (correlation / np.where(peak > np.finfo(np.float64).tiny, peak, 1)).sum(axis=0)
    return total / max(1, len(views))


def lag_bpm(lags: int, rate: float) -> Doubles:
    """The tempo that each lag in frames means; infinite at 0."""
    bpm = np.full(lags, np.inf)
    bpm[1:] = 60 * rate / np.arange(1, lags)
    return bpm


def tempo_evidence(mean: Doubles, rate: float, start_bpm: float = START_BPM) -> Doubles:
    """log(evidence) per lag: librosa.feature.tempo's, whose argmax is its tempo. -inf above 320
    bpm."""
    bpm = lag_bpm(len(mean), rate)
    with np.errstate(divide="ignore", invalid="ignore"):
        prior = -0.5 * ((np.log2(bpm) - np.log2(start_bpm)) / _STD_OCTAVES) ** 2
        prior[: int(np.argmax(bpm < _MAX_BPM))] = -np.inf
        return np.log1p(1e6 * np.maximum(mean, 0)) + prior


PREFERRED_BPM, PREFERENCE_OCTAVES = 115.0, 0.75
"""Where listeners tap when they may choose: a log-normal around two beats a second (van Noorden and
Moelants, 1999)."""
_LIBROSA_WEIGHT, _LIBROSA_OCTAVES = 1.0, 0.2
"""What the global estimate counts, in units of log evidence, and how far from it that is lost.
Found with the other weights of this package by random search over synthetic music in nine styles
and four annotated pieces, then rounded."""
_TINY_SHARE = 0.1
_RELATED = (1 / 2, 2, 1 / 3, 3, 2 / 3, 3 / 2, 1 / 4, 4, 3 / 4, 4 / 3)
"""Levels of one metre, straight, triplet or dotted, between which listeners differ and trackers err
(Gouyon et al., An Experimental Comparison of Audio Tempo Induction Algorithms, 2006)."""
_MOST_PEAKS = 5
_SAME_OCTAVES = 0.06
"""Four percent, the usual tolerance of a correct tempo."""


def local_salience(
    strength: Doubles, rate: float, intervals: NDArray[np.int64], step: int
) -> Doubles:
    """How strongly the audio repeats after each interval, around every `step`-th frame: log,
    float64 of shape (frames // step + 1, intervals), -2.3 to 0.1.

    Args:
        strength: normalised onset strength, float64 of shape (frames,).
        rate: frames per second.
        intervals: frames, int64 of shape (intervals,).
        step: frames.
    """
    width = max(int(WINDOW_SECONDS * rate), int(intervals[-1]) + 1)
    window = np.hanning(width)
    size = 1 << (2 * width - 1).bit_length()
    spread = np.maximum(_autocorrelation(window[None], size)[0], 0)
    overlap = np.maximum(spread, 1e-3 * spread[0]) / spread[0]
    padded = np.pad(strength, (width // 2, width // 2 + step))
    views = np.lib.stride_tricks.sliding_window_view(padded, width)[: len(strength) + 1 : step]
    rows = list[Doubles]()
    for start in range(0, len(views), 64):
        correlation = (
            _autocorrelation(views[start : start + 64] * window, size)[:, intervals]
            / overlap[intervals]
        )
        above = np.maximum(0, correlation - np.median(correlation, axis=1, keepdims=True))
        rows.append(above / (above.max(axis=1, keepdims=True) + 1e-9))
    return np.log(np.concatenate(rows) + _TINY_SHARE)


def _autocorrelation(frames: Doubles, size: int) -> Doubles:
    return np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, size, axis=1))), size, axis=1)


def preference(bpm: Doubles, global_bpm: float) -> Doubles:
    """log(prior) of each tempo: listeners' preference, and the closeness to the global estimate."""
    octaves = np.log2(bpm / PREFERRED_BPM) / PREFERENCE_OCTAVES
    near = np.minimum(1, np.abs(np.log2(bpm / global_bpm)) / _LIBROSA_OCTAVES)
    return -0.5 * np.square(octaves) - _LIBROSA_WEIGHT * near


def candidates(
    evidence: Doubles, bpm: Doubles, chosen: float, bounds: tuple[float, float]
) -> list[tuple[float, float]]:
    """(tempo, share of the evidence) of the chosen tempo, of all that a listener may count
    instead, and of other peaks of the evidence; best first.

    Args:
        evidence: log, float64 of shape (tempos,).
        bpm: float64 of shape (tempos,), rising.
        chosen: the answer.
        bounds: slowest and fastest tempo to name.
    """
    slowest, fastest = bounds[0] * 2**-_SAME_OCTAVES, bounds[1] * 2**_SAME_OCTAVES
    inner = range(1, len(bpm) - 1)
    peaks = [i for i in inner if evidence[i - 1] <= evidence[i] > evidence[i + 1]]
    strongest = [float(bpm[i]) for i in sorted(peaks, key=lambda i: -evidence[i])[:_MOST_PEAKS]]
    found: list[float] = []
    for tempo in [chosen, *(ratio * chosen for ratio in _RELATED), *strongest]:
        allowed = tempo == chosen or slowest <= tempo <= fastest
        if allowed and all(abs(np.log2(tempo / other)) > _SAME_OCTAVES for other in found):
            found.append(tempo)
    weights = np.exp([_evidence_at(tempo, evidence, bpm) - evidence.max() for tempo in found])
    # The beats were chosen by more than the tempo's evidence: none stands above the answer.
    weights[0] = weights.max()
    shares = weights / weights.sum()
    return sorted(
        ((tempo, float(share)) for tempo, share in zip(found, shares, strict=True)),
        key=lambda pair: -pair[1],
    )


def _evidence_at(tempo: float, evidence: Doubles, bpm: Doubles) -> float:
    """The most within two steps of it; the least of all where nothing so fast or slow was tried."""
    if not bpm[0] * 0.97 <= tempo <= bpm[-1] * 1.03:
        return float(evidence.min())
    near = int(np.abs(np.log2(bpm / tempo)).argmin())
    return float(evidence[max(0, near - 2) : near + 3].max())
