"""What a self-test gives each processor: one tiny clip of known content, parameters that can run
here, what must come out."""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from gpu_worker_client.protocol import (
    AutoCropResult,
    BeatResult,
    DetectScenesResult,
    RenderResult,
    TaskResult,
    TrackResult,
    UpscaleResult,
)

WIDTH_PX, HEIGHT_PX, FRAMES, RATE_FPS, CUT_FRAME = 64, 48, 24, 12, 12
"""Two seconds, a hard cut in the middle: two scenes, each as long as the shortest scene that the
defaults allow."""

CLIP_NAME = "clip.mp4"
"""By which a task with several inputs knows it."""
CROP_WIDTH_PX = 28
"""Of the image at 9:16, even."""
CLICKS, CLICKS_HZ = 10, 2
"""Five seconds at 120 beats a minute."""

_LIGHTEST_FIRST = (
    "realesr-animevideov3",
    "realesr-general-x4v3",
    "RealESRGAN_x4plus_anime_6B",
    "ESRGAN_4x",
    "RealESRGAN_x4plus",
    "SwinIR_4x_GAN",
    "lite",  # always there, so last: it proves nothing of the weights that an operator chose
)


@dataclass(frozen=True)
class Sample:
    """How to try one processor. The default suits a task that reads a video and needs no
    parameters."""

    variants: tuple[Mapping[str, Any], ...] = field(default=({},))
    """Parameters, best first; the first whose weights are present is taken."""
    makes_a_file: bool = False
    """Asks for the file of a task that makes one only when asked."""
    judge: Callable[[Any], str | None] = lambda _result: None
    """What is wrong with the result, None when it is right."""
    source: Callable[[], bytes] | None = None
    """Makes the input file's content; None is `clip`."""


def _wrong_scenes(result: TaskResult) -> str | None:
    assert isinstance(result, DetectScenesResult)
    starts = [scene.start_frame for scene in result.scenes]
    return (
        None
        if starts == [0, CUT_FRAME]
        else f"scenes start at frames {starts}, not at [0, {CUT_FRAME}]"
    )


def _wrong_upscale(result: TaskResult) -> str | None:
    assert isinstance(result, UpscaleResult)
    stats, size = result.stats, f"{WIDTH_PX * 4}x{HEIGHT_PX * 4}"
    right = stats.frames_processed == FRAMES and stats.output_resolution == size
    return (
        None
        if right
        else f"{stats.frames_processed} frames of {stats.output_resolution}, not {FRAMES} of {size}"
    )


def _wrong_tracks(result: TaskResult) -> str | None:
    assert isinstance(result, TrackResult)
    cuts = [cut.frame for cut in result.cuts]
    right = (
        result.stats.total_frames == FRAMES
        and cuts == [CUT_FRAME]
        and result.stats.unique_tracks == 0
    )
    return (
        None
        if right
        else (
            f"{result.stats.total_frames} frames, cuts at {cuts}, {result.stats.unique_tracks}"
            " tracks"
        )
    )


def _wrong_crop(result: TaskResult) -> str | None:
    assert isinstance(result, AutoCropResult)
    stats, size = result.stats, f"{CROP_WIDTH_PX}x{HEIGHT_PX}"
    right = (stats.frames_processed, stats.shots, stats.output_resolution) == (FRAMES, 2, size)
    return (
        None
        if right
        else f"{stats.frames_processed} frames of {stats.output_resolution} in {stats.shots} shots"
    )


def _wrong_beats(result: TaskResult) -> str | None:
    assert isinstance(result, BeatResult)
    made = [second / CLICKS_HZ for second in range(CLICKS)]
    near = len(made) == len(result.beat_times) and all(
        abs(a - b) <= 0.015 for a, b in zip(made, result.beat_times, strict=True)
    )
    return None if near else f"beats at {result.beat_times} s, not at {made}"


def _wrong_render(result: TaskResult) -> str | None:
    assert isinstance(result, RenderResult)
    stats = result.stats
    right = (stats.frames, stats.encoder_used) == (FRAMES, "libx264")
    return (
        None if right else f"{stats.frames} frames of {stats.encoder_used}, not {FRAMES} of libx264"
    )


def clicks() -> bytes:
    """A WAV file of so many clicks, evenly spaced from the first sample on."""
    rate = 16_000
    one = [round(20_000 * math.cos(0.4 * n) * math.exp(-n / 160)) for n in range(480)]
    every = struct.pack("<480h", *one) + bytes(2 * (rate // CLICKS_HZ - 480))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(every * CLICKS)
    return buffer.getvalue()


SAMPLES: dict[str, Sample] = {
    "auto_crop": Sample(
        variants=({"model": "yolov8n"}, {"model": "hog", "classes": ["person"]}),
        makes_a_file=True,
        judge=_wrong_crop,
    ),
    "beat": Sample(judge=_wrong_beats, source=clicks),
    "detect_scenes": Sample(judge=_wrong_scenes),
    "render": Sample(
        variants=(
            {
                "command_args": [
                    "-i",
                    CLIP_NAME,
                    "-vf",
                    "hflip",
                    "-c:v",
                    "libx264",
                    "-preset",
                    "ultrafast",
                    "out.mp4",
                ]
            },
        ),
        makes_a_file=True,
        judge=_wrong_render,
    ),
    "track": Sample(
        variants=({"model": "yolov8n"}, {"model": "hog", "classes": ["person"], "frame_stride": 8}),
        judge=_wrong_tracks,
    ),
    "upscale": Sample(
        variants=tuple({"model": model} for model in _LIGHTEST_FIRST), judge=_wrong_upscale
    ),
}
"""Task -> its sample. A task that is not here is tried with the defaults of `Sample`."""


@lru_cache(maxsize=1)
def clip() -> bytes:
    """The clip as an H.264 mp4 file: dark blue frames, then bright orange ones."""
    import av
    import numpy as np
    from av.video.stream import VideoStream

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE_FPS, options={"preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for index in range(FRAMES):
            color = (20, 30, 90) if index < CUT_FRAME else (250, 160, 40)
            image = np.full((HEIGHT_PX, WIDTH_PX, 3), color, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
