"""What the upscale tests share: networks whose output is known without computing it, and a job on
local files."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_worker_client.protocol import UpscaleParams, UpscaleResult
from gpu_worker_processors.base import Limits, LocalJob
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.encode import VideoSpec
from gpu_worker_processors.media.encoders import choose_encoder
from gpu_worker_processors.upscale.upscale import upscale_file

SOFTWARE = {"libx264", "libx265", "libsvtav1", "prores_ks"}
"""The encoders that work on every machine."""


@dataclass
class Repeat:
    """Every pixel k times k times: a network whose output is known."""

    scale: int = 4
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch: int = 1
    calls: list[tuple[int, ...]] = field(default_factory=list)
    """Shape of each call."""
    fail_at: int | None = None
    """Index of the call that raises."""

    def tiles_for(self, height: int, width: int) -> int:
        return 1

    def batch_for(self, height: int, width: int) -> int:
        return self.batch

    def __call__(self, rgb: Tensor) -> Tensor:
        if self.fail_at == len(self.calls):
            raise MemoryError("asked for by the test")
        self.calls.append(tuple(rgb.shape))
        return rgb.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def job(source: Path, output: Path, *, limits: Limits = Limits(), **params: Any) -> LocalJob:  # noqa: B008 - frozen dataclass
    return LocalJob(
        "test",
        UpscaleParams(model="realesr-animevideov3", **params),
        output.parent,
        input_path=source,
        output_path=output,
        limits=limits,
    )


def upscaled(source: Path, output: Path, net: Repeat | None = None, **params: Any) -> UpscaleResult:
    return upscale_file(job(source, output, **params), net or Repeat())


@dataclass(frozen=True)
class Seen:
    """A file as PyAV shows it to anyone."""

    pts_seconds: list[Any]
    """Exact fractions."""
    size: tuple[int, int]
    pix_fmt: str
    colors: tuple[int, int, int, int]
    """(matrix, primaries, transfer, range) of the first frame."""
    sar: Any
    rotation: int
    duration_seconds: float


def seen(path: Path) -> Seen:
    """Decodes the whole video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        first = frames[0]
        return Seen(
            [frame.pts * stream.time_base for frame in frames],
            (first.width, first.height),
            first.format.name,
            (
                int(first.colorspace),
                int(first.color_primaries),
                int(first.color_trc),
                int(first.color_range),
            ),
            stream.sample_aspect_ratio,
            first.rotation,
            container.duration / av.time_base,
        )


def packets(path: Path, kind: str) -> list[bytes]:
    """Payloads of the packets of all streams of a kind, in file order; none when there is no such
    stream."""
    with av.open(str(path)) as container:
        streams = getattr(container.streams, kind)
        return (
            [bytes(packet) for packet in container.demux(*streams) if packet.size]
            if streams
            else []
        )


def writer_spec(width: int = 64, height: int = 48, **choice: Any) -> VideoSpec:
    """H.264 at 25 frames/s, BT.709."""
    encoder = choose_encoder("h264", width, height, SOFTWARE, **choice)
    return VideoSpec(
        width,
        height,
        encoder,
        ColorTags(1, 1, 1, False),
        Fraction(1),
        Fraction(25),
        Fraction(1, 25),
    )


def planes(value: int, width: int = 64, height: int = 48) -> list[NDArray[np.uint8]]:
    """A grey image of one luma value: Y of shape (height, width), U and V of half of it."""
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return [np.full((height, width), value, np.uint8), chroma, chroma]
