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
from importlib import import_module
from typing import Any

from gpu_worker_client.protocol import TASKS

WIDTH_PX, HEIGHT_PX, FRAMES, RATE_FPS, CUT_FRAME = 64, 48, 24, 12, 12
"""Two seconds, a hard cut in the middle: two scenes, each as long as the shortest scene that the
defaults allow."""

CLIP_NAME = "clip.mp4"
"""By which a task with several inputs knows it."""
CLICKS, CLICKS_HZ = 10, 2
"""Five seconds at 120 beats a minute."""


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


def sample_of(task: str) -> Sample:
    """A task's `SAMPLE`, beside its processor."""
    return import_module(f"gpu_worker_processors.{TASKS[task].module}.sample").SAMPLE


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
