"""What an upscale job will do, decided before any frame is decoded: sizes, colours, encoder,
denoising, and the warnings for the caller. Pure: the same inputs give the same plan, and everything
that can be refused is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpu_worker_client.protocol import ResultWarning, UpscaleParams
from gpu_worker_processors.media.color import ColorTags, resolve_tags
from gpu_worker_processors.media.encoders import (
    H264_WIDTH_PX,
    EncoderChoice,
    check_container,
    check_depth,
    choose_encoder,
)
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.media.warnings import encoding_warnings
from gpu_worker_processors.models.weights import DNI_PARTNERS

Denoise = Literal["weights", "filter", "none"]


@dataclass(frozen=True)
class Plan:
    """One job, decided."""

    width: int
    """Width of the output, even."""
    height: int
    source_tags: ColorTags
    """What the decoded numbers mean."""
    tags: ColorTags
    """What the output's numbers will mean."""
    encoder: EncoderChoice
    denoise: Denoise
    warnings: tuple[ResultWarning, ...]


def plan_upscale(
    params: UpscaleParams,
    video: VideoInfo,
    suffix: str,
    available: Collection[str],
    *,
    with_gpu: bool,
) -> Plan:
    """
    Args:
        suffix: of the output file, with its dot.
        available: encoders that work here.

    Raises:
        TaskError: `unsupported_media`, `media_limit`.
    """
    check_container(suffix, params.codec)
    width, height = target_size(video.width, video.height, params.scale)
    source_tags = resolve_tags(
        video.colorspace,
        video.primaries,
        video.transfer,
        video.color_range,
        height=video.height,
        pix_fmt=video.pix_fmt,
    )
    encoder = choose_encoder(
        params.codec,
        width,
        height,
        available,
        crf=params.crf,
        bits=video.bit_depth,
        with_gpu=with_gpu,
    )
    check_depth(encoder, source_tags)
    return Plan(
        width,
        height,
        source_tags,
        source_tags.limited() if params.codec == "prores" else source_tags,
        encoder,
        denoise_method(params.model, params.denoise_strength),
        tuple(_warnings(params, video, (width, height), source_tags, encoder)),
    )


def target_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Output size: the nearest even numbers, the upper one for an odd size, because 4:2:0 chroma
    has half of each; at least 16."""
    return _even(width * scale), _even(height * scale)


def _even(size: float) -> int:
    return max(16, 2 * math.floor(size / 2 + 0.5))


def denoise_method(model: str, strength: float | None) -> Denoise:
    """How a strength is honoured: by the network's own pair of weights where it has one, else by a
    filter before the network."""
    if strength is None:
        return "none"
    if model in DNI_PARTNERS:
        return "weights"
    return "filter" if strength > 0 else "none"


def _warnings(
    params: UpscaleParams,
    video: VideoInfo,
    size: tuple[int, int],
    tags: ColorTags,
    encoder: EncoderChoice,
) -> list[ResultWarning]:
    exact = (video.width * params.scale, video.height * params.scale)
    h264_is_wide = encoder.codec == "h264" and size[0] > H264_WIDTH_PX
    checks = [
        (
            not np.allclose(size, exact, rtol=1e-9, atol=0),
            "size_rounded",
            (
                f"{video.width}x{video.height} times {params.scale:g} was rounded to the even size"
                f" {size[0]}x{size[1]}"
            ),
        ),
        (
            h264_is_wide,
            "h264_wide",
            f"many players end at {H264_WIDTH_PX} px width for h264; codec hevc or av1 is safer",
        ),
    ]
    own = [
        ResultWarning(code=code, message=message) for applies, code, message in checks if applies
    ]
    return own + encoding_warnings(video, tags, encoder, scale=params.scale)
