"""Samples with known beats, and files that hold them: what a test asserts was chosen here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 22_050
Samples = NDArray[np.float32]


def tick(pitch_hz: float = 1000.0, decay: float = 100.0, rate: int = RATE) -> Samples:
    """A click of 30 ms that begins at full strength."""
    t = np.arange(round(0.03 * rate)) / rate
    return (np.sin(2 * np.pi * pitch_hz * t + 0.5) * np.exp(-decay * t)).astype(np.float32)


def put(
    audio: Samples,
    times: Sequence[float] | NDArray[np.float64],
    shape: Samples,
    gain: float,
    rate: int = RATE,
) -> None:
    """Adds a shape at each time, in seconds."""
    for time in times:
        start = round(time * rate)
        end = min(len(audio), start + len(shape))
        audio[start:end] += gain * shape[: end - start]


def clicks(
    times: Sequence[float] | NDArray[np.float64], seconds: float, rate: int = RATE
) -> Samples:
    audio = np.zeros(round(seconds * rate), np.float32)
    put(audio, times, tick(rate=rate), 0.6, rate)
    return audio


def steady(bpm: float, start: float, end: float) -> NDArray[np.float64]:
    return np.arange(start, end, 60 / bpm)


def ramp(first_bpm: float, last_bpm: float, seconds: float) -> NDArray[np.float64]:
    """Beats whose tempo changes evenly in octaves over the length."""
    times = [0.5]
    while times[-1] < seconds:
        times.append(times[-1] + 60 / (first_bpm * (last_bpm / first_bpm) ** (times[-1] / seconds)))
    return np.array(times[:-1])


def kick() -> Samples:
    """A drum that falls from 110 to 50 Hz within some 50 ms."""
    t = np.arange(round(0.25 * RATE)) / RATE
    return (np.sin(2 * np.pi * (50 * t + 1.5 * (1 - np.exp(-40 * t)))) * np.exp(-t / 0.09)).astype(
        np.float32
    )


def hat(rng: np.random.Generator) -> Samples:
    """Noise that rises with the frequency, as of a closed hi-hat."""
    t = np.arange(round(0.08 * RATE)) / RATE
    return (0.2 * np.diff(rng.normal(size=len(t) + 2), 2) * np.exp(-t / 0.02)).astype(np.float32)


FORMATS: dict[str, tuple[str, str]] = {
    ".wav": ("pcm_s16le", "s16"),
    ".aiff": ("pcm_s16be", "s16"),
    ".flac": ("flac", "s16"),
    ".mp3": ("libmp3lame", "fltp"),
    ".m4a": ("aac", "fltp"),
    ".aac": ("aac", "fltp"),
    ".ogg": ("libopus", "flt"),
    ".mkv": ("aac", "fltp"),
    ".mp4": ("aac", "fltp"),
}
"""Suffix -> codec and sample format."""

NAMES = {".m4a": "ipod", ".aac": "adts", ".mkv": "matroska"}
"""Suffix -> FFmpeg's name of the container, where it differs."""


def save(
    path: Path,
    audio: Samples,
    *,
    rate: int = RATE,
    layout: str = "mono",
    gap: tuple[int, int] | None = None,
) -> Path:
    """Writes an audio, float32 (samples,) or (channels, samples), in the format of the path's
    suffix.

    Args:
        gap: (sample, samples): from that sample on, timestamps are later by so many.
    """
    codec, kind = FORMATS[path.suffix]
    channels = np.atleast_2d(audio)
    with av.open(str(path), "w", format=NAMES.get(path.suffix, path.suffix[1:])) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        for start in range(0, channels.shape[1], 1024):
            frame = _frame(channels[:, start : start + 1024], kind, layout)
            late = gap[1] if gap and start >= gap[0] else 0
            frame.sample_rate, frame.pts, frame.time_base = rate, start + late, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _frame(block: Samples, kind: str, layout: str) -> av.AudioFrame:
    if kind.startswith("s16"):
        block = np.round(np.clip(block, -1, 1) * 32767).astype(np.int16)
    if not kind.endswith("p"):
        block = block.T.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format=kind, layout=layout)
