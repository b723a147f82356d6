"""Frames of any sample format, channel layout and rate to mono at one rate.

Mono is the mean of the channels, with one exception: where a channel is the opposite of another,
as of a microphone or a cable with its poles swapped, their mean would be silence. Frequency by
frequency and moment by moment, a channel that opposes the ones before it is turned over first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio, shape (samples,), full scale -1..1."""
Channels = NDArray[np.float32]
"""Shape (samples, channels), full scale -1..1."""

_LOUDEST = 100.0
"""40 dB over full scale, where float files are clipped: no recording is louder, and the squares of
a hostile one overflow."""
_WINDOW_SECONDS = 0.023
"""Long enough for bass notes to have frequencies of their own, and half of an analysis window."""
_OPPOSED = -0.5
"""Cosine of the angle, 120 degrees, from which on a sum is weaker than the stronger part of it."""
_BATCH = 1 << 14


class Downmix:
    """Mono blocks from frames.

    Args:
        rate: Hz of what comes out.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._shape: tuple[str, str, int] | None = None
        self._to_float: AudioResampler | None = None
        self._to_rate: AudioResampler | None = None
        self._mean = PolarityMean(1, rate)

    def add(self, frame: AudioFrame) -> Iterator[Samples]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self.flush()
            self._shape = shape
        if self._to_float is None:
            self._to_float = AudioResampler("flt", frame.layout, frame.sample_rate)
            self._to_rate = AudioResampler("flt", frame.layout, self._rate)
            self._mean = PolarityMean(frame.layout.nb_channels, self._rate)
        for floats in self._to_float.resample(frame):
            yield from self._resample(floats)

    def flush(self) -> Iterator[Samples]:
        """What the filters still hold."""
        to_rate, self._to_float, self._to_rate = self._to_rate, None, None
        if to_rate is not None:
            for out in to_rate.resample(None):
                yield self._mean.add(_channels(out))
            yield self._mean.flush()

    def _resample(self, floats: AudioFrame) -> Iterator[Samples]:
        # Stray NaN and infinities of float files would spread through every filter behind.
        values = np.nan_to_num(_channels(floats), nan=0.0, posinf=1.0, neginf=-1.0)
        clean = AudioFrame.from_ndarray(
            values.clip(-_LOUDEST, _LOUDEST).reshape(1, -1), format="flt", layout=floats.layout
        )
        clean.sample_rate = floats.sample_rate
        assert self._to_rate is not None
        for out in self._to_rate.resample(clean):
            yield self._mean.add(_channels(out))


class PolarityMean:
    """The mean of channels, none of which takes away what another one has.

    Args:
        channels: how many.
        rate: Hz.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._size = 1 << round(np.log2(_WINDOW_SECONDS * rate))
        self._hop = self._size // 2
        turns = np.arange(self._size) / self._size
        self._window = np.sin(np.pi * turns).astype(np.float32)  # its squares sum to 1 at this hop
        self._held = np.zeros((self._hop if channels > 1 else 0, channels), np.float32)
        self._tail = np.zeros(self._hop, np.float32)
        self._taken = self._given = 0

    def add(self, block: Channels) -> Samples:
        """What is ready of the mean, up to a batch late."""
        self._taken += len(block)
        if block.shape[1] == 1:
            self._given += len(block)
            return block[:, 0]
        self._held = np.concatenate([self._held, block])
        return self._ready() if len(self._held) >= _BATCH else np.zeros(0, np.float32)

    def flush(self) -> Samples:
        """The rest: as many samples as went in have then come out."""
        left = self._taken - self._given
        if not left:
            return np.zeros(0, np.float32)
        behind = np.zeros((2 * self._size, self._held.shape[1]), np.float32)
        self._held = np.concatenate([self._held, behind])
        return self._ready()[:left]

    def _ready(self) -> Samples:
        views = np.lib.stride_tricks.sliding_window_view(self._held, self._size, axis=0)
        spectra = np.fft.rfft(views[:: self._hop] * self._window, axis=2)
        mixed = aligned_sum(spectra) / spectra.shape[1]
        frames = np.fft.irfft(mixed, self._size, axis=1).astype(np.float32) * self._window
        out = np.zeros((len(frames) + 1, self._hop), np.float32)
        out[:-1] += frames[:, : self._hop]
        out[1:] += frames[:, self._hop :]
        out[0] += self._tail
        self._tail = out[-1]
        self._held = self._held[len(frames) * self._hop :]
        # What stands before the first sample is half a window of nothing.
        ready = out[:-1].reshape(-1)[self._hop if not self._given else 0 :]
        self._given += len(ready)
        return ready


def aligned_sum(spectra: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The sum over axis 1 of complex (frames, channels, bins), with channels that oppose the sum of
    those before them turned over, bin by bin."""
    total = spectra[:, 0]
    for number in range(1, spectra.shape[1]):
        channel = spectra[:, number]
        toward = (total * channel.conj()).real
        opposes = toward < _OPPOSED * np.abs(total) * np.abs(channel)
        total = total + np.where(opposes, -channel, channel)
    return total


def _channels(frame: AudioFrame) -> Channels:
    # Interleaved, for PyAV's planes of more than seven channels point nowhere.
    values = cast("Samples", frame.to_ndarray())
    return values.reshape(-1, frame.layout.nb_channels)
