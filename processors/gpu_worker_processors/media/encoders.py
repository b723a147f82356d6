"""Which encoder makes a file of a wanted codec, and with which options: pure choice over a table,
plus one real probe.

A hardware encoder is taken only when a one-frame encode has just succeeded; otherwise a software
one, with the reason. What no encoder of the codec can hold (frame size, HDR in 8 bit, ProRes
outside QuickTime) is refused here, before any work.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.base import CONTAINERS
from gpu_worker_processors.media.color import PQ, ColorTags

H264_WIDTH_PX = 4096
"""Widest H.264 frame that NVENC writes and most hardware decoders show. NVIDIA Video Codec SDK,
NVENC application note."""


@dataclass(frozen=True)
class Candidate:
    """An encoder and what it can hold."""

    name: str
    max_width: int
    max_height: int
    max_pixels: int
    pix_fmts: dict[int, str]
    """Bits -> pixel format."""
    hardware: bool = False


_LEVEL_62_PIXELS = 35_651_584
"""Largest frame of level 6.2: H.264 table A-1 (139264 macroblocks), H.265 table A.8."""
_SOFT_8, _SOFT_10 = {8: "yuv420p"}, {8: "yuv420p", 10: "yuv420p10le"}
_NVENC_10 = {8: "yuv420p", 10: "p010le"}
_NVENC_PIXELS = 8192 * 8192

CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    "h264": (
        Candidate(
            "h264_nvenc", H264_WIDTH_PX, H264_WIDTH_PX, H264_WIDTH_PX * 2304, _SOFT_8, hardware=True
        ),
        Candidate("libx264", 16_384, 16_384, _LEVEL_62_PIXELS, _SOFT_8),
    ),
    "hevc": (
        Candidate("hevc_nvenc", 8192, 8192, _NVENC_PIXELS, _NVENC_10, hardware=True),
        Candidate("libx265", 16_384, 16_384, 142_606_336, _SOFT_10),
    ),
    "av1": (
        Candidate("av1_nvenc", 8192, 8192, _NVENC_PIXELS, _NVENC_10, hardware=True),
        Candidate("libsvtav1", 16_384, 8704, 142_606_336, _SOFT_10),
    ),
    "prores": (
        Candidate("prores_ks", 16_384, 16_384, 142_606_336, {8: "yuv422p10le", 10: "yuv422p10le"}),
    ),
}
"""Codec on the wire -> encoders, best first."""


@dataclass(frozen=True)
class EncoderChoice:
    """What `VideoWriter` needs to open the encoder."""

    name: str
    """FFmpeg's encoder."""
    codec: str
    """On the wire: h264, hevc, av1, prores."""
    pix_fmt: str
    bits: int
    options: dict[str, str] = field(default_factory=dict[str, str])
    fallback_reason: str | None = None
    """Why the hardware encoder of this machine was not taken; None when it was, or there is no
    GPU."""
    is_hardware: bool = False

    @property
    def half_height(self) -> bool:
        """Chroma is 4:2:0, not 4:2:2."""
        return "422" not in self.pix_fmt


def choose_encoder(
    codec: str,
    width: int,
    height: int,
    available: Collection[str],
    *,
    crf: int = 18,
    bits: int = 8,
    with_gpu: bool = False,
) -> EncoderChoice:
    """The best encoder of a codec for a frame size.

    Args:
        codec: h264, hevc, av1 or prores.
        available: names of encoders that work here.
        bits: depth wanted; the codec's highest that is not above it is taken.
        with_gpu: a GPU is in use, so a software encoder needs an explanation.

    Raises:
        TaskError: `media_limit` when the frame is too large for the codec, `unsupported_media`
            when no encoder is there.
    """
    refused: list[str] = []
    installed = False
    for candidate in CANDIDATES[codec]:
        if candidate.name not in available:
            refused.append(f"{candidate.name} does not work on this machine")
            continue
        installed = True
        if (
            width > candidate.max_width
            or height > candidate.max_height
            or width * height > candidate.max_pixels
        ):
            refused.append(
                f"{candidate.name} ends at {candidate.max_width}x{candidate.max_height},"
                f" {candidate.max_pixels} pixels"
            )
            continue
        depth = max(b for b in candidate.pix_fmts if b <= max(bits, 8))
        pix_fmt = candidate.pix_fmts[depth]
        return EncoderChoice(
            candidate.name,
            codec,
            pix_fmt,
            10 if "10" in pix_fmt else 8,
            encoder_options(candidate.name, crf),
            "; ".join(refused) if with_gpu and refused else None,
            candidate.hardware,
        )
    if not installed:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"no {codec} encoder on this worker; choose another codec",
            codec=codec,
        )
    advice = (
        "send codec hevc or av1, or a smaller scale" if codec == "h264" else "send a smaller scale"
    )
    raise TaskError(
        ErrorCode.media_limit,
        f"the output would be {width}x{height}, too large for {codec} ({'; '.join(refused)});"
        f" {advice}",
        width=width,
        height=height,
        codec=codec,
    )


def encoder_options(name: str, crf: int) -> dict[str, str]:
    """Private options of an encoder at a constant quality. `crf` keeps each codec's own scale.

    Presets: measured on 704x576 photographs at crf 18, one core: libx264 veryfast 3.8 ms a frame,
    fast 8.6, medium 8.7, within 3 dB of each other and all above 46 dB; libx265 veryfast 12.4;
    libsvtav1 preset 8 11.2, preset 6 15.5. Finer chroma for x264 gives 0.6 dB on RGB for 6 % more
    bytes (320x240 photographs: 38.9 -> 39.5 dB), which twice the luma's bytes would not.
    """
    if name.endswith("_nvenc"):
        return {"preset": "p5", "rc": "vbr", "cq": str(crf), "b": "0"}
    if name == "libx264":
        return {"preset": "medium", "crf": str(crf), "x264-params": "chroma-qp-offset=-3"}
    if name == "libx265":
        quiet = {"x265-params": "log-level=error"}
        return {"preset": "veryfast", "crf": str(crf), "a53cc": "1", **quiet}
    if name == "libsvtav1":
        return {"preset": "8", "crf": str(crf)}
    return {"profile": "3", "vendor": "apl0"}


def check_container(suffix: str, codec: str) -> str:
    """FFmpeg's muxer for an output suffix.

    Raises:
        TaskError: `unsupported_media` for a suffix we do not write, or a codec the container does
            not hold.
    """
    if suffix.lower() not in CONTAINERS:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"output_url: cannot write a file of this suffix; allowed: {', '.join(CONTAINERS)}",
            allowed=list(CONTAINERS),
        )
    container = CONTAINERS[suffix.lower()]
    if codec == "prores" and container == "mp4":
        raise TaskError(
            ErrorCode.unsupported_media,
            "prores is not allowed in mp4; give output_url the suffix .mov or .mkv",
        )
    if codec == "av1" and container == "mov":
        raise TaskError(
            ErrorCode.unsupported_media,
            "av1 is not allowed in mov; give output_url the suffix .mp4 or .mkv",
        )
    return container


def check_depth(choice: EncoderChoice, tags: ColorTags) -> None:
    """Refuses to squeeze HDR code values into 8 bit, where they would band and be shown washed out.

    Raises:
        TaskError: `unsupported_media`.
    """
    if tags.is_hdr and choice.bits < 10:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"the video is HDR ({'PQ' if tags.transfer == PQ else 'HLG'}) and {choice.codec} is"
            " written with 8 bit; send codec hevc, av1 or prores",
            transfer=tags.transfer,
        )


@lru_cache(maxsize=1)
def working_encoders(with_gpu: bool) -> frozenset[str]:
    """Encoders that work in this process. The hardware ones are tried with a real frame, once."""
    names = {
        candidate.name
        for group in CANDIDATES.values()
        for candidate in group
        if with_gpu or not candidate.hardware
    }
    return frozenset(name for name in names if _encodes(name))


def _encodes(name: str) -> bool:
    try:
        context = av.CodecContext.create(name, "w")
        if not name.endswith("_nvenc"):
            return True
        context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"  # type: ignore[attr-defined]
        context.time_base = Fraction(1, 25)
        frame = av.VideoFrame(256, 256, "yuv420p")
        frame.pts = 0
        packets = [*context.encode(frame), *context.encode(None)]  # type: ignore[attr-defined]
        return len(packets) == 1
    except (FFmpegError, ValueError):
        return False
