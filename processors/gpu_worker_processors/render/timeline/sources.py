"""What a timeline needs to know of its inputs, found out by probing each file once.

A still image is an input like any other here: one frame that is shown for as long as the timeline
says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.timeline import Timeline
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.color import ColorTags, resolve_tags
from gpu_worker_processors.media.container import opened
from gpu_worker_processors.media.probe import VideoInfo, probe
from gpu_worker_processors.media.sniff import Kind, is_animated_png
from gpu_worker_processors.render.fonts import TextFont, is_font, text_font
from gpu_worker_processors.render.webp import webp_animation

_HEAD_BYTES = 4096
_STILLS = (
    (b"\x89PNG\r\n\x1a\n", Kind("png_pipe", "PNG")),
    (b"\xff\xd8\xff", Kind("jpeg_pipe", "JPEG")),
    (b"BM", Kind("bmp_pipe", "BMP")),
    (b"II*\x00", Kind("tiff_pipe", "TIFF")),
    (b"MM\x00*", Kind("tiff_pipe", "TIFF")),
)
"""First bytes of a still image -> the demuxer that reads this one file and no sequence."""
_WEBP_PIX_FMT = "argb"
"""What FFmpeg decodes an animated WebP to."""
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codec -> the decoder that decodes its transparency too, which FFmpeg's own does not."""


@dataclass(frozen=True)
class SourceVideo:
    """The video stream of an input, or its one image."""

    stream: int
    """Index in the container."""
    width: int
    """Upright, in its own pixels."""
    height: int
    sar: Fraction
    """Width over height of a pixel."""
    fps: Fraction
    pix_fmt: str
    bit_depth: int
    tags: ColorTags
    interlaced: bool = False
    alpha_decoder: str | None = None
    """Decoder to force where the frames' transparency is to be seen."""

    @property
    def shown_width(self) -> Fraction:
        """Width in square pixels, for the height as it is."""
        return self.width * self.sar


@dataclass(frozen=True)
class TimelineSource:
    """One input file."""

    path: Path
    demuxer: str
    """The demuxer to force, so that the file's content chooses none."""
    video: SourceVideo | None
    audio: int | None
    """Index of the audio stream, None without one."""
    origin_seconds: Fraction = Fraction(0)
    """Time stamp of the first video frame (of the first audio where there is no video): second 0 of
    the timeline's times."""
    container_start_seconds: Fraction = Fraction(0)
    """The container's first time stamp: what seeking counts from."""
    seconds: Fraction | None = None
    """Length of the video (of the audio where there is none); None when nothing says so."""
    is_still: bool = False


def inspect_inputs(
    timeline: Timeline,
    inputs: Mapping[str, Path],
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> dict[str, TimelineSource]:
    """Probes every input that the timeline names.

    Raises:
        TaskError: `invalid_task` for a name that is no input's; the codes of `media.probe`, the
            message naming the field.
    """
    sources: dict[str, TimelineSource] = {}
    for name, field in timeline.input_names.items():
        if name not in inputs:
            raise refused(
                field, f"no input has this name; there are: {', '.join(sorted(inputs)) or 'none'}"
            )
        try:
            sources[name] = inspect_input(inputs[name], limits)
        except TaskError as error:
            raise TaskError(
                error.code, f"{PATH}{field}: {error.message}", **error.details, path=PATH + field
            ) from error
    return sources


def inspect_fonts(timeline: Timeline, inputs: Mapping[str, Path]) -> dict[str, TextFont]:
    """Reads every font that the timeline names.

    Raises:
        TaskError: `invalid_task` for a file that is none, `unsupported_media` for a damaged one.
    """
    for name, field in timeline.font_names.items():
        if not is_font(inputs[name]):
            raise refused(field, "is no TrueType or OpenType font")
    return {name: text_font(inputs[name]) for name in timeline.font_names}


PATH = "params.timeline."
"""Where the timeline stands in the task."""


def refused(field: str, problem: str) -> TaskError:
    """The error of a timeline that does not fit its inputs.

    Args:
        field: dotted path inside the timeline, "clips.2.end".
    """
    path = PATH + field
    return TaskError(
        ErrorCode.invalid_task, f"{path}: {problem}", errors=[{"path": path, "problem": problem}]
    )


def inspect_input(path: Path, limits: Limits = Limits()) -> TimelineSource:  # noqa: B008 - frozen
    """Probes one file: a video, audio or a still image.

    Raises:
        TaskError: as `media.probe`.
    """
    animation = _animation(path, limits)
    if animation is not None:
        return animation
    kind = _still_kind(path)
    if kind is not None:
        return _inspect_still(path, kind, limits)
    info = probe(path, limits)
    audio = info.audio[0] if info.audio else None
    main = info.video.index if info.video else audio.index if audio else None
    if main is None:
        raise TaskError(ErrorCode.unsupported_media, "the input has neither video nor audio")
    origin, start, has_alpha = _clock(path, info.kind, main, limits)
    of_stream = (
        info.video.duration_seconds if info.video else audio.duration_seconds if audio else None
    )
    seconds = of_stream or info.duration_seconds or _counted_seconds(path, info.kind, main, limits)
    return TimelineSource(
        path=path,
        demuxer=info.kind.demuxer,
        video=_source_video(info.video, has_alpha) if info.video else None,
        audio=audio.index if audio else None,
        origin_seconds=origin,
        container_start_seconds=start,
        seconds=Fraction(seconds).limit_denominator(1_000_000) if seconds else None,
    )


def _counted_seconds(path: Path, kind: Kind, index: int, limits: Limits) -> Fraction | None:
    """Length of a stream by its packets: a live recording has none in its header."""
    times, length = list[Fraction](), Fraction(0)
    with opened(path, kind, limits, decode=False) as container:
        for packet in container.demux(container.streams[index]):
            if packet.pts is not None:
                times.append(packet.pts * packet.time_base)
                length = (packet.duration or 0) * packet.time_base
    if len(times) < 2:
        return length or None
    span = max(times) - min(times)
    return span + (length or span / (len(times) - 1))  # FLV's packets have none


def _clock(path: Path, kind: Kind, index: int, limits: Limits) -> tuple[Fraction, Fraction, bool]:
    """(time stamp of a stream's first frame, first time stamp of the container), seconds, and
    whether a WebM says that it is transparent. The frame itself is asked: Matroska's header does
    not say when a stream begins, and what a recording cut in mid-stream begins with cannot be
    shown."""
    with opened(path, kind, limits) as container:
        start = Fraction(container.start_time or 0, av.time_base)
        stream: Any = container.streams[index]  # video or audio: both give frames
        has_alpha = stream.metadata.get("alpha_mode") == "1"
        stream.codec_context.options = {"max_pixels": str(limits.decoder_max_pixels)}
        stream.codec_context.thread_type = "SLICE"  # frame threads would want several packets first
        for packet in container.demux(stream):
            with contextlib.suppress(FFmpegError):  # `probe` has decoded a frame: one will come
                for frame in packet.decode():
                    if frame.pts is not None and frame.time_base is not None:
                        return frame.pts * frame.time_base, start, has_alpha
        return start, start, has_alpha


def _source_video(video: VideoInfo, has_alpha: bool) -> SourceVideo:
    tags = resolve_tags(
        video.colorspace,
        video.primaries,
        video.transfer,
        video.color_range,
        height=video.height,
        pix_fmt=video.pix_fmt,
    )
    return SourceVideo(
        stream=video.index,
        width=video.width,
        height=video.height,
        sar=video.sar,
        fps=video.fps,
        pix_fmt=video.pix_fmt,
        bit_depth=video.bit_depth,
        tags=tags,
        interlaced=video.interlaced,
        alpha_decoder=_ALPHA_DECODERS.get(video.codec) if has_alpha else None,
    )


def _animation(path: Path, limits: Limits) -> TimelineSource | None:
    """An animated WebP; None for any other file."""
    try:
        found = webp_animation(path)
    except ValueError as error:
        raise TaskError(ErrorCode.corrupt_media, f"the animated WebP: {error}") from error
    if found is None:
        return None
    _check_size(found.width, found.height, "animated WebP", limits)
    if not found.seconds:
        raise TaskError(ErrorCode.no_frames, "the animated WebP shows no frame for any time")
    fps = Fraction(found.frames) / Fraction(found.seconds).limit_denominator(1000)
    size, tags = (found.width, found.height), _image_tags(found.height, _WEBP_PIX_FMT)
    video = SourceVideo(0, *size, Fraction(1), fps, _WEBP_PIX_FMT, 8, tags)
    seconds = Fraction(found.seconds).limit_denominator(1000)
    return TimelineSource(path, "webp_anim", video, None, seconds=seconds)


def _still_kind(path: Path) -> Kind | None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if is_animated_png(head):
        return None
    if (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return Kind("webp_pipe", "WebP")
    return next((kind for magic, kind in _STILLS if head.startswith(magic)), None)


def _check_size(width: int, height: int, name: str, limits: Limits) -> None:
    # FFmpeg reports no size of one above its limit, and of a broken one.
    if not 0 < width * height <= limits.max_pixels:
        message = f"the {name} image is damaged or has more than {limits.max_pixels} pixels"
        raise TaskError(ErrorCode.media_limit, message, limit=limits.max_pixels)


def _image_tags(height: int, pix_fmt: str) -> ColorTags:
    """JFIF: BT.601, full range; RGB stays RGB."""
    return resolve_tags(5, 1, 1, 2, height=height, pix_fmt=pix_fmt)


def _inspect_still(path: Path, kind: Kind, limits: Limits) -> TimelineSource:
    with opened(path, kind, limits) as container:
        context = container.streams.video[0].codec_context
        _check_size(context.width, context.height, kind.name, limits)
        name = context.pix_fmt or "rgb24"
        size = _upright(container)
        video = SourceVideo(
            stream=0,
            width=size[0],
            height=size[1],
            sar=Fraction(1),
            fps=Fraction(25),
            pix_fmt=name,
            bit_depth=16 if "16" in name or "48" in name or "64" in name else 8,
            tags=_image_tags(context.height, name),
        )
        return TimelineSource(path, kind.demuxer, video, None, is_still=True)


def _upright(container: Any) -> tuple[int, int]:
    """Width and height of an image after it was turned as EXIF says, which FFmpeg does.

    Raises:
        TaskError: `corrupt_media`: it does not decode.
    """
    try:
        frame = next(container.decode(video=0))
    except (FFmpegError, StopIteration) as error:
        raise TaskError(ErrorCode.corrupt_media, "the image does not decode") from error
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
