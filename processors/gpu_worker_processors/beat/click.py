"""The mix-down to listen to: the audio with a click on every beat, a higher one on downbeats.

Decoded and encoded block by block. The file's suffix chooses the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.beat import AUDIO_CONTAINERS
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.audio import AudioReader, AudioSource, Samples, find_audio

RATE_HZ = 48_000
"""A rate that every encoder below takes (Opus knows no 44,100)."""
_ENCODERS = {
    "wav": ("pcm_s16le", "s16"),
    "flac": ("flac", "s16"),
    "mp3": ("libmp3lame", "fltp"),
    "ogg": ("libopus", "flt"),
}
"""Container -> its encoder and the samples that this takes; any other container holds AAC."""
_AUDIO_GAIN, _CLICK_GAIN = 0.6, 0.4
"""Together they stay below full scale."""
_BEAT_HZ, _DOWNBEAT_HZ, _CLICK_SECONDS, _DECAY_PER_SECOND = 1000.0, 1500.0, 0.03, 120.0
_BLOCK = 1 << 15


def write_click_track(
    audio: AudioSource,
    beats: Sequence[float],
    downbeats: Sequence[float],
    path: Path,
    limits: Limits = Limits(),  # noqa: B008
) -> None:
    """Writes the mix-down and reads it back.

    Raises:
        TaskError: `output_invalid` when the file that was written does not hold the whole audio;
            `output_too_large`.
    """
    container_name = AUDIO_CONTAINERS.get(path.suffix.lower(), "mp4")
    codec, sample_format = _ENCODERS.get(container_name, ("aac", "fltp"))
    written = 0
    with av.open(str(path), "w", format=container_name) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=RATE_HZ, layout="mono"))
        for block in mixed(_blocks(AudioReader(audio, RATE_HZ, limits)), beats, downbeats):
            frame = _frame(block, sample_format)
            frame.pts, frame.time_base, frame.sample_rate = written, Fraction(1, RATE_HZ), RATE_HZ
            container.mux(stream.encode(frame))
            written += len(block)
            if path.stat().st_size > limits.max_output_bytes:
                raise TaskError(
                    ErrorCode.output_too_large,
                    f"the mix-down exceeds {limits.max_output_bytes} bytes",
                )
        container.mux(stream.encode(None))
    _check(path, written / RATE_HZ, limits)


def mixed(
    blocks: Iterator[Samples], beats: Sequence[float], downbeats: Sequence[float]
) -> Iterator[Samples]:
    """The blocks with clicks added, in -1..1."""
    first_of_bar = set(downbeats)
    clicks = [
        (round(time * RATE_HZ), click(_DOWNBEAT_HZ if time in first_of_bar else _BEAT_HZ))
        for time in beats
    ]
    start, next_click = 0, 0
    for block in blocks:
        out, end = block * np.float32(_AUDIO_GAIN), start + len(block)
        while (
            next_click < len(clicks)
            and sum((clicks[next_click][0], len(clicks[next_click][1]))) <= start
        ):
            next_click += 1
        for at, shape in clicks[next_click:]:
            if at >= end:
                break
            first, last = max(at, start), min(at + len(shape), end)
            out[first - start : last - start] += shape[first - at : last - at] * np.float32(
                _CLICK_GAIN
            )
        yield np.clip(out, -1, 1)
        start = end


def click(pitch_hz: float) -> Samples:
    """A short decaying tone, float32 of shape (samples,), 0..1 at its first sample on: it starts at
    full strength."""
    t = np.arange(round(_CLICK_SECONDS * RATE_HZ)) / RATE_HZ
    return (np.cos(2 * np.pi * pitch_hz * t) * np.exp(-_DECAY_PER_SECOND * t)).astype(np.float32)


def _blocks(reader: AudioReader) -> Iterator[Samples]:
    """Blocks of one size, as the encoders want them."""
    held = np.zeros(0, np.float32)
    for block in reader:
        held = np.concatenate([held, block])
        while len(held) >= _BLOCK:
            yield held[:_BLOCK]
            held = held[_BLOCK:]
    if len(held):
        yield held


def _frame(block: Samples, sample_format: str) -> AudioFrame:
    if sample_format == "s16":
        whole = np.round(block[None] * 32767).astype(np.int16)
        return AudioFrame.from_ndarray(whole, format=sample_format, layout="mono")
    return AudioFrame.from_ndarray(
        np.ascontiguousarray(block[None]), format=sample_format, layout="mono"
    )


def _check(path: Path, seconds: float, limits: Limits) -> None:
    rate = 8000
    try:
        measured = (
            sum(len(block) for block in AudioReader(find_audio(path, limits=limits), rate, limits))
            / rate
        )
    except TaskError as error:
        raise TaskError(
            ErrorCode.output_invalid, f"the mix-down cannot be read back: {error.message}"
        ) from error
    if abs(measured - seconds) > 0.1:  # encoders pad by a frame: 65 ms at most (Opus, MP3, AAC)
        raise TaskError(
            ErrorCode.output_invalid,
            f"the mix-down lasts {measured:.2f} s, the sound {seconds:.2f} s",
        )
