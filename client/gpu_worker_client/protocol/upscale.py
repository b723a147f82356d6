"""upscale: a video enlarged by a super-resolution network, frame for frame, in sync."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gpu_worker_client.protocol.base import AnsweredBy, Codec, Crf, Share
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import FileTask, OnDamage, RequestModel

SrModel = Literal[
    "RealESRGAN_x4plus",
    "RealESRGAN_x4plus_anime_6B",
    "realesr-general-x4v3",
    "realesr-animevideov3",
    "SwinIR_4x_GAN",
    "ESRGAN_4x",
    "lite",
]


class UpscaleParams(RequestModel):
    model: SrModel = "RealESRGAN_x4plus"
    """Network, by its name in the weights manifest. `lite` needs no weights: it ships with the
    worker."""
    scale: float = Field(default=4, gt=1, le=4)
    """Output size over input size. The net runs at its own scale, then an antialiased resize
    follows on the device."""
    denoise_strength: Share | None = None
    """0 keeps the noise, 1 removes most. Weight interpolation with `realesr-general-x4v3`, a
    denoising filter before any other model; `stats.denoise` says which. Never ignored."""
    face_enhance: bool = False
    """Restores faces with GFPGAN, followed over frames so that they do not flicker."""
    tile: Literal["auto"] | Annotated[int, Field(ge=0, le=4096)] = "auto"
    """Edge of a tile in input pixels; "auto" fits the device's memory; 0 is the whole frame at
    once."""
    codec: Codec = "h264"
    crf: Crf = 18
    reuse_identical_frames: bool = True
    """A frame equal to the one before it, byte for byte, is computed once. Lossless."""
    on_damage: OnDamage = "fail"


class UpscaleStats(Stats):
    input_resolution: str
    """Upright, "720x480"."""
    output_resolution: str
    """"2880x1920"; odd sizes are rounded up to even ones."""
    frames_processed: int
    """Frames in the output; equal to the frames of the input, always."""
    fps: float
    """Frames processed per second of wall time."""
    denoise: Literal["weights", "filter", "none"]
    """How `denoise_strength` was applied."""
    tiles: int
    """Tiles per frame; 1 is the whole frame at once."""
    frames_reused: int = 0
    """Frames equal to their predecessor, computed once."""
    faces_enhanced: int = 0
    """Faces restored, summed over all frames."""
    duration: float = 0.0
    """Seconds of video written."""


class UpscaleResult(TaskResult):
    task: Literal["upscale"] = "upscale"
    stats: UpscaleStats


class UpscaleTask(FileTask, AnsweredBy[UpscaleResult]):
    task: Literal["upscale"] = "upscale"
    params: UpscaleParams = UpscaleParams.model_construct()
