"""Warnings for what a video loses in an encoder, known before the work starts."""

from __future__ import annotations

from gpu_worker_client.protocol import ResultWarning
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.encoders import EncoderChoice
from gpu_worker_processors.media.frame import chroma_is_finer_than_420
from gpu_worker_processors.media.probe import VideoInfo


def encoding_warnings(
    video: VideoInfo, tags: ColorTags, encoder: EncoderChoice, *, scale: float = 1.0
) -> list[ResultWarning]:
    """One warning for everything that the source has and the output will not.

    Args:
        tags: the source's colours.
        scale: output pixels per source pixel; from 2 on, 4:2:0 holds all colour detail of the
            source.
    """
    checks = [
        (
            video.has_alpha,
            "alpha_dropped",
            f"transparency was left out; {encoder.codec} has none",
        ),
        (
            video.bit_depth > encoder.bits,
            "bit_depth_reduced",
            (
                f"{video.bit_depth} bit were written as {encoder.bits}; codec hevc, av1 and prores"
                " keep 10"
            ),
        ),
        (
            tags.is_hdr,
            "hdr",
            "HDR values were taken as they are; mastering metadata is not carried over",
        ),
        (
            scale < 2 and encoder.half_height and chroma_is_finer_than_420(video.pix_fmt),
            "chroma_reduced",
            f"colour detail of {video.pix_fmt} was reduced to 4:2:0; codec prores keeps 4:2:2",
        ),
        (
            tags.full_range and encoder.codec == "prores",
            "range_changed",
            (
                "prores cannot say full range; the values were written in limited range, the"
                " picture is the same"
            ),
        ),
    ]
    return [
        ResultWarning(code=code, message=message) for applies, code, message in checks if applies
    ]
