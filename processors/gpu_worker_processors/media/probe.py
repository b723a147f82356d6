"""What a media file holds, found out before any work begins on it.

`probe` sniffs, opens with the guards of `container`, applies the limits and decodes exactly one
frame: rotation, interlacing and the real pixel format stand in the frame, not in the header. It
accepts any local file and answers or raises a typed error. `probing` does the same and hands on the
decoding that it began.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.container import admitted, opened
from gpu_worker_processors.media.cropping import Margins, stated_margins
from gpu_worker_processors.media.first_frame import (
    ELEMENTARY,
    DecodeState,
    first_frame,
    frame_rate,
    start_decoding,
)
from gpu_worker_processors.media.frame import has_alpha, side_data
from gpu_worker_processors.media.matroska import video_blocks
from gpu_worker_processors.media.shape import FrameShaper
from gpu_worker_processors.media.sniff import Kind
from gpu_worker_processors.media.timecode import timecode_of
from gpu_worker_processors.media.truncation import is_fragmented, missing_bytes

_DEFAULT_BONUS_PX = 5_000_000
"""What the `default` flag counts in the choice between video streams: ffmpeg's own number
(fftools/ffmpeg_mux_init.c)."""


_UNEVEN = 1.5
"""The longest frame by the shortest one. A clock of 1/1000 s makes 1.06 of 60 frames/s, an unsteady
camera 1.3."""


@dataclass(frozen=True)
class VideoInfo:
    """The picked video stream."""

    index: int
    """Of the stream in the container."""
    codec: str
    width: int
    """Upright: after rotation, before `sar`. Pixels."""
    height: int
    coded_width: int
    """As decoded, before rotation: what the container shows of the stored frame."""
    coded_height: int
    rotation: Literal[0, 90, 180, 270]
    """Degrees clockwise to turn a decoded frame by, to stand upright."""
    mirrored: bool
    """Mirror left and right after turning (some front cameras)."""
    sar: Fraction
    """Width over height of one pixel of the upright frame; 1 when not stated."""
    time_base: Fraction
    """Seconds per tick of a frame's pts."""
    fps: Fraction
    """Average frames per second, as the header has it; 25 when it has nothing usable."""
    frame_count: int | None
    """What the container lists: MP4's index, Matroska's blocks. None where it lists nothing
    (MPEG-TS, FLV). An edit list or a hidden reference frame makes fewer come out; the frames that
    come out are the truth."""
    duration_seconds: float | None
    pix_fmt: str
    bit_depth: int
    colorspace: int
    """AVCOL_SPC number; 2 is unspecified."""
    primaries: int
    """AVCOL_PRI number; 2 is unspecified."""
    transfer: int
    """AVCOL_TRC number; 2 is unspecified, 16 PQ, 18 HLG."""
    color_range: int
    """AVCOL_RANGE number; 0 unspecified, 1 limited, 2 full."""
    interlaced: bool
    margins: Margins = Margins()  # noqa: RUF009 - frozen
    """Pixels of the stored frame that the container does not show; they are cut off."""
    has_alpha: bool = False
    """Transparency is coded, perhaps where the decoder leaves it out (VP8, VP9)."""
    marks: frozenset[str] = frozenset()
    """`spherical`, `stereo3d`: what the stream itself says beside its frames."""
    timecode: str | None = None
    """Of the first frame, inside the stream: "01:02:03:04"."""
    is_uneven: bool = False
    """The container lists frames that are shown much longer than the rest."""
    language: str | None = None

    @property
    def expected_frames(self) -> int | None:
        """For progress: the header's count, else duration times rate."""
        if self.frame_count or self.duration_seconds is None:
            return self.frame_count
        return max(1, round(self.duration_seconds * self.fps))


@dataclass(frozen=True)
class AudioInfo:
    index: int
    codec: str
    sample_rate: int
    channels: int
    duration_seconds: float | None
    language: str | None = None


@dataclass(frozen=True)
class SubtitleInfo:
    index: int
    codec: str
    language: str | None = None


@dataclass(frozen=True)
class MediaInfo:
    kind: Kind
    """Forces the same demuxer when the file is opened again."""
    format_name: str
    """FFmpeg's name of the demuxer."""
    duration_seconds: float | None
    video: VideoInfo | None
    audio: tuple[AudioInfo, ...]
    subtitles: tuple[SubtitleInfo, ...]
    chapters: int
    """How many."""
    has_cover: bool = False
    """The file has a cover image. It is never taken for the video."""
    warnings: tuple[ResultWarning, ...] = ()
    """What the caller of a task should know about this input."""


def probe(path: Path, limits: Limits = Limits()) -> MediaInfo:  # noqa: B008 - frozen dataclass
    """Reads what a file holds: its streams, their formats and lengths.

    Raises:
        TaskError: `not_media`, `unsupported_media`, `corrupt_media`, `no_frames`, `media_limit`.
    """
    with probing(path, limits) as (info, _):
        return info


@contextmanager
def probing(
    path: Path, limits: Limits, threads: int | None = None
) -> Generator[tuple[MediaInfo, DecodeState | None]]:
    """What `probe` returns, and the state of the decoding after the first frame, for a reader to go
    on from within the block; None without a video stream. Threads: see `start_decoding`."""
    kind = admitted(path, limits)
    with opened(path, kind, limits) as container:
        if len(container.streams) > limits.max_streams:
            raise TaskError(
                ErrorCode.media_limit,
                f"the file has more than {limits.max_streams} streams",
                limit=limits.max_streams,
            )
        stream = pick_video(container)
        state = (
            start_decoding(container, kind, stream, limits, threads) if stream is not None else None
        )
        warnings: list[ResultWarning] = []
        if (missing := missing_bytes(path, kind)) and limits.on_damage == "conceal":
            message = f"the file is cut off: at least {missing} bytes are missing at its end"
            warnings.append(ResultWarning(code="damage_concealed", message=message))
        info = MediaInfo(
            kind=kind,
            format_name=container.format.name,
            duration_seconds=stated_seconds(path, kind, container),
            video=_video_info(path, kind, container, state, limits, warnings)
            if state is not None
            else None,
            audio=tuple(_audio_info(path, kind, s) for s in container.streams.audio),
            subtitles=tuple(
                SubtitleInfo(
                    s.index, s.codec_context.name if s.codec_context else "unknown", s.language
                )
                for s in container.streams.subtitles
            ),
            chapters=len(container.chapters()),
            has_cover=any(_is_cover(s) for s in container.streams.video),
            warnings=tuple(warnings),
        )
        yield info, state


def require_video(info: MediaInfo) -> VideoInfo:
    """The video stream of a file that must have one.

    Raises:
        TaskError: `no_video_stream`.
    """
    if info.video is not None:
        return info.video
    what = (
        "only audio and a cover picture"
        if info.has_cover
        else "only audio"
        if info.audio
        else "no video"
    )
    raise TaskError(
        ErrorCode.no_video_stream, f"the input holds {what}; this task needs a video stream"
    )


def pick_video(container: InputContainer) -> VideoStream | None:
    """The stream that `ffmpeg -i` takes by default: most pixels, where the `default` flag counts
    as five million; the first of equals. Cover images are no video."""
    streams = [s for s in container.streams.video if not _is_cover(s)]

    def score(stream: VideoStream) -> int:
        return _area(stream) + _DEFAULT_BONUS_PX * bool(stream.disposition & Disposition.default)

    return max(streams, key=score, default=None)


def upright(degrees: float) -> tuple[Literal[0, 90, 180, 270], float]:
    """The nearest quarter turn to an angle, and what is left of it. Both clockwise."""
    quarter = round(degrees / 90) % 4
    left = (degrees - quarter * 90 + 180) % 360 - 180
    quarters: tuple[Literal[0], Literal[90], Literal[180], Literal[270]] = (0, 90, 180, 270)
    return quarters[quarter], left


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _area(stream: VideoStream) -> int:
    context = stream.codec_context
    return context.width * context.height if context else 0


def _seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    return float(ticks * time_base) if ticks is not None and ticks > 0 and time_base else None


def stated_seconds(path: Path, kind: Kind, what: Any) -> float | None:
    """How long a container or one of its streams lasts by its own word; None when it has none. In a
    fragmented MP4 FFmpeg counts from 0 on a clock that may start fifty years before."""
    if kind.demuxer in ELEMENTARY:
        return None
    time_base = getattr(what, "time_base", Fraction(1, av.time_base))
    ticks, start = what.duration, what.start_time
    if ticks and start and start > 0 and is_fragmented(path, kind):
        ticks -= start
    return _seconds(ticks, time_base)


def _audio_info(path: Path, kind: Kind, stream: av.AudioStream) -> AudioInfo:
    context = stream.codec_context
    if not context:
        return AudioInfo(stream.index, "unknown", 0, 0, None, stream.language)
    duration = stated_seconds(path, kind, stream)
    return AudioInfo(
        stream.index, context.name, context.sample_rate, context.channels, duration, stream.language
    )


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise TaskError(
            ErrorCode.media_limit,
            f"a frame of {width}x{height} pixels exceeds the limit of {limits.max_pixels} pixels",
            limit=limits.max_pixels,
        )


def _check_declared_size(path: Path, kind: Kind, index: int, limits: Limits) -> None:
    """Refuses a frame size above the limit by the header: FFmpeg itself reports such a stream as
    one without a size."""
    with opened(path, kind, limits, decode=False) as container:
        stream = container.streams[index]
        if isinstance(stream, VideoStream):
            _check_size(stream.codec_context.width, stream.codec_context.height, limits)


def _frame_count(
    path: Path,
    kind: Kind,
    container: InputContainer,
    stream: VideoStream,
    limits: Limits,
    warnings: list[ResultWarning],
) -> int | None:
    if kind.demuxer == "matroska":
        try:
            blocks = video_blocks(path)
        except TaskError as error:
            if limits.on_damage == "fail" or error.code is not ErrorCode.corrupt_media:
                raise
            warnings.append(ResultWarning(code="damage_concealed", message=error.message))
            return None
        number = [s.index for s in container.streams.video].index(stream.index)
        return blocks[number] if number < len(blocks) else None
    return stream.frames or None


def _video_info(
    path: Path,
    kind: Kind,
    container: InputContainer,
    state: DecodeState,
    limits: Limits,
    warnings: list[ResultWarning],
) -> VideoInfo:
    stream = state.stream
    context = stream.codec_context
    if not _area(stream):
        _check_declared_size(path, kind, stream.index, limits)
    _check_size(context.width, context.height, limits)
    frame_count = _frame_count(path, kind, container, stream, limits, warnings)
    frame = first_frame(state)
    fps = frame_rate(kind, stream)
    if kind.demuxer in ELEMENTARY and not context.framerate:
        message = f"the {kind.name} states no frame rate; it was taken for {fps} frames/s"
        warnings.append(ResultWarning(code="rate_assumed", message=message))
    _check_size(frame.width, frame.height, limits)
    rotation, mirrored = _turn(frame, warnings)
    marks, timecode = _marks(frame), timecode_of(frame, fps)
    margins = _margins(path, kind, stream, frame)
    frame = FrameShaper(frame, margins)(frame)
    swap = rotation in (90, 270)
    sar = stream.sample_aspect_ratio or Fraction(1)
    assert stream.time_base is not None, "set for every demuxed stream"
    return VideoInfo(
        index=stream.index,
        codec=context.name,
        width=frame.height if swap else frame.width,
        height=frame.width if swap else frame.height,
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=rotation,
        mirrored=mirrored,
        sar=1 / sar if swap else sar,
        time_base=stream.time_base,
        fps=fps,
        frame_count=frame_count,
        duration_seconds=stated_seconds(path, kind, stream)
        or stated_seconds(path, kind, container),
        pix_fmt=frame.format.name,
        bit_depth=max(component.bits for component in frame.format.components),
        colorspace=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        color_range=int(frame.color_range),
        interlaced=bool(frame.interlaced_frame),
        margins=margins,
        has_alpha=has_alpha(frame.format.name) or stream.metadata.get("alpha_mode") == "1",
        marks=marks,
        timecode=timecode,
        is_uneven=_is_uneven(path, kind, stream),
        language=stream.language,
    )


def _margins(path: Path, kind: Kind, stream: VideoStream, frame: av.VideoFrame) -> Margins:
    number = [s.index for s in stream.container.streams.video].index(stream.index)
    margins = stated_margins(path, kind, number)
    return margins if margins.fit(frame.width, frame.height) else Margins()


def _marks(frame: av.VideoFrame) -> frozenset[str]:
    spherical = side_data(frame, SideDataType.SPHERICAL)
    stereo = side_data(frame, SideDataType.STEREO3D)
    found = {
        "spherical": spherical is not None,
        "stereo3d": stereo is not None and any(stereo[:4]),  # the first number is the kind; 0 is 2D
    }
    return frozenset(name for name, is_there in found.items() if is_there)


def _is_uneven(path: Path, kind: Kind, stream: VideoStream) -> bool:
    """Only where no packet has to be read: by the index of an MP4; a GIF may always be."""
    if kind.demuxer != "mov" or is_fragmented(path, kind):
        return kind.demuxer == "gif"
    times = [entry.timestamp for entry in stream.index_entries if not entry.is_discard]
    steps = [later - earlier for earlier, later in pairwise(times)]
    last = (stream.duration or 0) - sum(steps)
    steps += [last] if last > 0 else []
    return max(steps, default=0) > _UNEVEN * min(steps, default=0)


def _turn(
    frame: av.VideoFrame, warnings: list[ResultWarning]
) -> tuple[Literal[0, 90, 180, 270], bool]:
    """Quarter turn and mirror from the frame's display matrix: nine 32-bit numbers, rows (a b u) (c
    d v) (x y w)."""
    try:
        matrix = cast(Any, frame.side_data)[
            SideDataType.DISPLAYMATRIX
        ]  # PyAV's stub knows no item of it
    except KeyError:
        return 0, False
    except ValueError:  # side data of a kind that PyAV does not know, as the Exif of a camera
        return upright(-frame.rotation)[0], False
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    mirrored = a * d - b * c < 0
    degrees = math.degrees(math.atan2(b, -a if mirrored else a))
    rotation, left = upright(degrees)
    if abs(left) > 1:
        message = (
            f"the display matrix turns by {round(degrees % 360)} degrees clockwise; used the"
            f" nearest quarter, {rotation}"
        )
        warnings.append(ResultWarning(code="rotation_rounded", message=message))
    return rotation, mirrored
