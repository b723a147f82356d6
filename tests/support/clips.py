"""Clips with known truth, made by PyAV at test time: what a test asserts was chosen here, not
measured by our code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Painter = Callable[[int, int, int], NDArray[np.uint8]]
"""(frame index, width, height) -> image, uint8 RGB of shape (height, width, 3)."""


@dataclass(frozen=True)
class Clip:
    """What to make. Defaults: two seconds of 25 frames/s H.264 in mp4, moving gradient, no
    audio."""

    width: int = 64
    height: int = 48
    frames: int = 50
    rate: Fraction = Fraction(25)
    pts: Sequence[int] | None = None
    """Timestamps in units of 1/90000 s for a variable frame rate; None is constant at `rate`."""
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("crf", "10"), ("preset", "ultrafast"))
    rotation: int = 0
    """Display matrix, degrees counter-clockwise as ffmpeg prints it; a phone held upright writes
    -90. Not in .avi and .ts."""
    sar: Fraction | None = None
    color: tuple[int, int, int, int] | None = None
    """(colorspace, primaries, transfer, range) as AVCOL numbers."""
    audio_seconds: float = 0.0
    """Length of a 440 Hz mono tone; 0 is no audio stream."""
    start_pts: int = 0
    """Added to every video timestamp, in units of 1/90000 s with `pts`, of one frame without."""


def gradient(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """A smooth image that moves by one pixel a frame, so no two neighbouring frames are equal."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [(x * 3 + index * 3) % 256, (y * 4) % 256, (x + y + index * 2) % 256], axis=-1
    ).astype(np.uint8)


def flat(*colors: tuple[int, int, int], every: int) -> Painter:
    """Hard cuts: `every` frames of each colour in turn, so the cuts lie at every, 2*every, ..."""

    def paint(index: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.full((height, width, 3), colors[index // every % len(colors)], np.uint8)

    return paint


def corners(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """Red, green, blue, white quarters, clockwise from the top left: shows how an image was turned
    or mirrored."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, width // 2 :] = (0, 0, 255)
    return image


def make(path: Path, clip: Clip = Clip(), paint: Painter = gradient) -> Path:  # noqa: B008 - frozen dataclass
    """Writes the clip and returns its path. The suffix chooses the container (.mp4, .mov, .mkv,
    .webm, .avi, .ts)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(clip.codec, rate=clip.rate, options=dict(clip.options))
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, clip.pix_fmt
        time_base = Fraction(1, 90000)
        stream.codec_context.time_base = time_base if clip.pts is not None else 1 / clip.rate
        if clip.sar is not None:
            stream.codec_context.sample_aspect_ratio = clip.sar
        if clip.color is not None:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
                clip.color
            )
        if clip.rotation:
            stream.set_display_rotation(clip.rotation)
        audio = (
            container.add_stream("aac", rate=48000, layout="mono") if clip.audio_seconds else None
        )
        for index in range(clip.frames):
            frame = av.VideoFrame.from_ndarray(
                paint(index, clip.width, clip.height), format="rgb24"
            )
            if clip.pts is not None:
                frame.pts, frame.time_base = clip.start_pts + clip.pts[index], time_base
            else:
                frame.pts, frame.time_base = clip.start_pts + index, 1 / clip.rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            _tone(container, audio, clip.audio_seconds)
    return path


def _tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    rate, block = 48000, 1024
    for start in range(0, int(seconds * rate), block):
        t = (np.arange(start, start + block) / rate).astype(np.float64)
        samples = (0.2 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
