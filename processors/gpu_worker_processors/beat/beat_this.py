"""The engine `beat_this`: beats and downbeats by the network of Foscarin, Schlueter and Widmer
(ISMIR 2024, arXiv 2407.21658).

Runs an ONNX file of it: input `spectrogram` or any one name, float32 (1, frames, 128); outputs the
logits of beats and of downbeats, each float32 (1, frames), beats first. What surrounds the network
follows the authors' description: the log mel spectrogram, pieces of 1500 frames that overlap by
twelve, peaks above even odds. ONNX Runtime comes with the extra `beat_this`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.beat.spectrum import Floats, frame_count, hann, mel_filters
from gpu_worker_processors.beat.waveform_file import Spool

FPS = 50
"""Frames of spectrogram and logits per second."""
_RATE_HZ, _N_FFT, _HOP, _BANDS, _LOW_HZ, _HIGH_HZ, _GAIN = (
    22_050,
    1024,
    441,
    128,
    30.0,
    11_000.0,
    1000.0,
)
_PIECE, _BORDER = 1500, 6
_PEAK_REACH = 3
"""A peak is the largest of its frame and three on either side: 70 ms. All from the authors'
published settings."""
WEIGHTS = {"small": "beat_this_small", "final": "beat_this_final"}

Network = Callable[[Floats], "tuple[Floats, Floats]"]
"""Log mel spectrogram, float32 (frames, 128) -> logits of beat and downbeat, float32 (frames,)
each."""


def log_mel(audio: Spool, first: int, count: int) -> Floats:
    """Frames first..first + count of the spectrogram, float32 of shape (count, 128). Frames outside
    the audio are zeros.

    Magnitudes over the square root of the window's length, triangles of equal height, log(1 + 1000
    x); the audio is mirrored at its ends.
    """
    total = frame_count(audio.samples, _HOP)
    out = np.zeros((count, _BANDS), np.float32)
    low, end = max(0, first), min(first + count, total)
    if end <= low:
        return out
    start = low * _HOP - _N_FFT // 2
    samples = _mirrored(audio, start, start + (end - low - 1) * _HOP + _N_FFT)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _N_FFT)[::_HOP]
    spectrum = np.abs(np.fft.rfft(frames * hann(_N_FFT), axis=1)) / np.sqrt(_N_FFT)
    filters = mel_filters(_RATE_HZ, _N_FFT, _BANDS, _LOW_HZ, _HIGH_HZ, area=False)
    out[low - first : end - first] = np.log1p(_GAIN * (spectrum @ filters.T))
    return out


def _mirrored(audio: Spool, start: int, stop: int) -> Floats:
    """Samples start..stop with the audio reflected about its first and its last sample."""
    if start >= 0 and stop <= audio.samples:
        return audio.window(start, stop)
    if audio.samples < 2:
        return audio.window(start, stop)
    index = np.arange(start, stop)
    period = 2 * (audio.samples - 1)
    index = np.abs((index + audio.samples - 1) % period - (audio.samples - 1))
    low, high = int(index.min()), int(index.max()) + 1
    return audio.window(low, high)[index - low]


def pieces(total: int) -> list[tuple[int, int]]:
    """(first frame, frames) of the pieces that the network sees; the outer six frames of each are
    not used. The last one ends six frames after the audio, so it is a full piece when the audio is
    long enough."""
    starts = list(range(-_BORDER, total - _BORDER, _PIECE - 2 * _BORDER))
    if total > _PIECE - 2 * _BORDER:
        starts[-1] = total - (_PIECE - _BORDER)
    return [(start, min(_PIECE, total + _BORDER - start)) for start in starts]


def logits(
    audio: Spool, network: Network, progress: Callable[[int, int], None]
) -> tuple[Floats, Floats]:
    """Logits of beat and downbeat for the whole audio, float32 of shape (frames,) each. Where
    pieces overlap the earlier one counts.

    Raises:
        TaskError: `nan_output` when the network's answer is not finite.
    """
    total = frame_count(audio.samples, _HOP)
    beats, downs = np.full(total, -1000, np.float32), np.full(total, -1000, np.float32)
    done = 0
    for start, count in pieces(total):
        answers = network(log_mel(audio, start, count))
        end = min(start + count - _BORDER, total)
        for whole, answer in zip((beats, downs), answers, strict=True):
            if not np.isfinite(answer).all():
                raise TaskError(
                    ErrorCode.nan_output,
                    "the beat network's answer is not finite; use engine librosa",
                )
            whole[done:end] = answer[done - start : end - start]
        done = end
        progress(done, total)
    return beats, downs


def peaks(values: Floats) -> NDArray[np.float64]:
    """Frames at which a beat is likelier than none: largest within 70 ms and above 0; neighbouring
    equals become their mean."""
    padded = np.pad(values, _PEAK_REACH, constant_values=-np.inf)
    largest = np.lib.stride_tricks.sliding_window_view(padded, 2 * _PEAK_REACH + 1).max(axis=1)
    frames = np.flatnonzero((values == largest) & (values > 0))
    if not len(frames):
        return np.zeros(0)
    groups = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    return np.array([group.mean() for group in groups])


def beats_and_downbeats(beat: Floats, down: Floats) -> tuple[list[float], list[float], list[float]]:
    """Times of beats, their confidence (the network's probability), times of downbeats, each moved
    to the nearest beat."""
    frames = peaks(beat)
    times = frames / FPS
    confidence = 1 / (1 + np.exp(-beat[np.round(frames).astype(int)].astype(np.float64)))
    first = peaks(down) / FPS
    near = sorted({int(np.abs(times - time).argmin()) for time in first}) if len(times) else []
    return times.tolist(), confidence.tolist(), times[near].tolist()


@lru_cache(maxsize=1)
def load(path: Path, gpu: bool) -> Network:
    """The network of a verified ONNX file, on the GPU where ONNX Runtime has one.

    Raises:
        TaskError: `weights_rejected` when the file is no such network; `unsupported_task` without
            ONNX Runtime.
    """
    runtime = _runtime()
    usable = set(runtime.get_available_providers())
    wanted = (["CUDAExecutionProvider"] if gpu else []) + ["CPUExecutionProvider"]
    try:
        session = runtime.InferenceSession(
            str(path), providers=[name for name in wanted if name in usable]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise TaskError(
            ErrorCode.weights_rejected, f"{path.name} cannot be opened as an ONNX network"
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (
        len(inputs) != 1
        or len(outputs) < 2
        or len(inputs[0].shape) != 3
        or inputs[0].shape[-1] != _BANDS
    ):
        raise TaskError(
            ErrorCode.weights_rejected,
            f"{path.name} is no Beat This! network: it must take (1, frames, {_BANDS}) and give"
            " beats and downbeats",
        )
    names = _output_names([output.name for output in outputs])

    def network(spectrogram: Floats) -> tuple[Floats, Floats]:
        beat, down = session.run(names, {inputs[0].name: spectrogram[None]})
        return np.asarray(beat, np.float32).reshape(-1), np.asarray(down, np.float32).reshape(-1)

    return network


def _output_names(names: list[str]) -> list[str]:
    """Beats first: by name where the names say so, else by order."""
    down = next((name for name in names if "down" in name.lower()), names[1])
    return [next(name for name in names if name != down), down]


def _runtime() -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError:
        raise TaskError(
            ErrorCode.unsupported_task,
            "engine beat_this needs ONNX Runtime: install gpu-worker-processors[beat_this], or use"
            " engine librosa",
        ) from None
