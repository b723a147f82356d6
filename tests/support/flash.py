"""Clips by plain FFmpeg in which a white frame and a beep come at the same moments, and readers of
when they come: what is out of step shows, whatever the container says of itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
RATE = 25
_FLASH = (
    "color=black:s=64x48:r=25:d={0},drawbox=t=fill:c=white:enable='between(mod(t,1),0.48,0.51)'"
)
_BEEP = "aevalsrc='0.5*sin(2*PI*1000*t)*between(mod(t,1),0.48,0.52)':s=48000:d={0}"
"""Each second's thirteenth frame, and the 40 ms in which it is seen."""


def ffmpeg(*words: object) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, words)], check=True)


def flash_and_beep(path: Path, seconds: float = 4, *words: object) -> Path:
    """The clip, its flashes and beeps half a second into each second.

    Args:
        words: FFmpeg's options of the output.
    """
    video, audio = _FLASH.format(seconds), _BEEP.format(seconds)
    ffmpeg("-f", "lavfi", "-i", video, "-f", "lavfi", "-i", audio, *words, path)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """One file of several, byte after byte, as recorders and `cat` do it."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def flashes(path: Path) -> list[float]:
    """Seconds at which a white frame comes after a black one, on the file's clock."""
    with av.open(str(path)) as container:
        frames = [
            (float(frame.pts * frame.time_base), is_white(frame))
            for frame in container.decode(video=0)
        ]
    return [
        at for (at, white), (_, before) in zip(frames[1:], frames, strict=False) if white > before
    ]


def is_white(frame: av.VideoFrame) -> bool:
    return bool(frame.to_ndarray(format="gray").mean() > 128)


def beeps(path: Path) -> list[float]:
    """Seconds at which a beep starts, on the file's clock: each audio frame at its own time."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        blocks = [
            (round(frame.pts * frame.time_base * rate), frame.to_ndarray().mean(axis=0))
            for frame in container.decode(audio=0)
        ]
    first = min(at for at, _ in blocks)
    signal = np.zeros(max(at + len(block) for at, block in blocks) - first, np.float32)
    for at, block in blocks:
        signal[at - first : at - first + len(block)] = block
    return onsets(signal, rate, first / rate)


def onsets(signal: NDArray[np.float32], rate: int, start: float = 0.0) -> list[float]:
    """Where a signal becomes loud after 0.2 s of silence."""
    loud = np.flatnonzero(np.abs(signal) > 0.15)
    first = np.flatnonzero(np.diff(loud, prepend=-rate) > 0.2 * rate)
    return [start + float(at) / rate for at in loud[first]]
