"""Checks a rendered file before it is delivered: a status of 0 is not yet a file.

Reads every packet once, decodes the first frame, the last key frame and the first audio on the way,
and compares with what FFmpeg said it wrote and with what the command promises. Anything short of
that is `output_invalid`. Nothing is sought: containers index key frames by different clocks, or not
at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.open_limits import limited
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.progress import Report
from gpu_worker_processors.render.webp import webp_animation

_DEFAULT = Limits()
_AUDIO_TOLERANCE_SECONDS = 0.05
"""Two AAC frames at 44.1 kHz: what priming and padding add to a stream."""
_TAIL_PACKETS = 64
"""From the last key frame on, as many as are stored to decode it: above what any decoder holds
back, 16 frames of H.264 and HEVC and as many threads."""
_LATE_SECONDS = 0.2
"""Between the start of the audio and of the video: what a viewer sees of it, and more than priming
and reordering make."""
_LONGER_SECONDS = 0.5
"""Above the command's own length. A copy ends with frames that were stored out of order."""
_DEMUXERS = (
    "mov",
    "matroska",
    "webm",
    "mpegts",
    "avi",
    "flv",
    "ogg",
    "gif",
    "apng",
    "png_pipe",
    "jpeg_pipe",
    "webp_pipe",
    "webp_anim",
    "mjpeg",
    "image2",
    "mp3",
    "aac",
    "flac",
    "wav",
    "w64",
    "ac3",
    "eac3",
    "srt",
    "webvtt",
    "ass",
    "mpeg",
    "mxf",
    "bmp_pipe",
    "ico",
    "j2k_pipe",
    "ppm_pipe",
    "pgm_pipe",
    "dpx_pipe",
    "tiff_pipe",
    "flv",
)
"""None that opens another file: the output's content is a stranger's as much as the input's."""
_BEFORE_KEY_FRAME = (
    "copied video begins at the first key frame after an -ss that stands behind -i, and none comes."
    " Give -ss before -i, which begins at the key frame before, or encode the video"
)
_PLAYED_PIX_FMTS = ("yuv420p", "yuvj420p")
"""What browsers, phones and QuickTime play in H.264.
https://trac.ffmpeg.org/wiki/Encode/H.264#Encodingfordumbplayers"""
_NOTHING_LEFT = "check -ss, -t and the filters against the length of the inputs"
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(_DEMUXERS)}


@dataclass(frozen=True)
class Output:
    """What the file holds."""

    seconds: float
    """From the first timestamp to the end of the last packet that is shown, over all streams."""
    frames: int
    """Packets of the first video stream that are shown."""
    has_video: bool
    has_audio: bool
    video_codec: str | None = None
    """Of the first video stream, by its decoder's name."""
    pix_fmt: str | None = None
    """Of the same."""
    video_starts_after: float = 0.0
    """Seconds from the first timestamp of the audio to that of the video."""
    hidden: int = 0
    """Packets of the first video stream that an edit list hides: what a copy needs to decode its
    first frame."""
    empty: tuple[str, ...] = ()
    """Kinds of the streams without a packet, "subtitle" for example."""


def check_output(
    path: Path,
    expected: Expectation,
    written: Report,
    *,
    copied: bool = False,
    limits: Limits = _DEFAULT,
) -> Output:
    """
    Args:
        written: FFmpeg's last report.
        copied: whether the video was copied, which starts at a key frame only.

    Raises:
        TaskError: `output_invalid`, saying what is wrong.
    """
    if not path.stat().st_size:
        _fail("it is empty", reason="empty_output")
    if not expected.is_readable:
        return Output(
            written.seconds,
            written.frames,
            has_video=written.frames > 0,
            has_audio=bool(expected.audio),
            video_codec=None,
        )
    try:
        output = _animated_webp(path) or _read(path, limits)
    except (FFmpegError, OSError) as error:
        _fail(f"it cannot be read back: {type(error).__name__}", error)
    if written.has_video and not output.frames + output.hidden:
        cause = _BEFORE_KEY_FRAME if copied else _NOTHING_LEFT
        _fail(f"its video stream holds nothing: {cause}", reason="empty_output")
    _compare(output, expected, written, _frame_seconds(output))
    return output


def warnings(output: Output, expected: Expectation, *, copied: bool) -> Iterator[ResultWarning]:
    """What is right by FFmpeg's rules and may not be what the caller meant."""
    for kind in output.empty:
        yield ResultWarning(
            code="empty_stream",
            message=f"the output has a {kind} stream with nothing in it: the part of the input that"
            " was taken has none",
        )
    if not copied and output.video_codec == "h264" and output.pix_fmt not in _PLAYED_PIX_FMTS:
        yield ResultWarning(
            code="pix_fmt_unusual",
            message=f"the video is H.264 in {output.pix_fmt}, which browsers, phones and QuickTime"
            " do not play; -pix_fmt yuv420p gives what they do",
        )
    if copied and output.video_starts_after > _LATE_SECONDS:
        yield ResultWarning(
            code="cut_at_key_frame",
            message=f"the video begins {output.video_starts_after:.2f} s after the audio: copied"
            " video begins at the first key frame after an -ss that stands behind -i. Give -ss"
            " before -i, which begins at the key frame before, or encode the video",
        )
    limit = expected.max_seconds
    if copied and limit is not None and output.seconds > limit + _LONGER_SECONDS:
        yield ResultWarning(
            code="cut_at_key_frame",
            message=f"the output lasts {output.seconds:.2f} s instead of {limit:.2f} s: copied"
            " video begins at the key frame before -ss. Encode it to cut at the frame",
        )


def _animated_webp(path: Path) -> Output | None:
    """What an animated WebP holds, None for any other file."""
    try:
        found = webp_animation(path)
    except ValueError as error:
        _fail(str(error), error)
    if found is None:
        return None
    return Output(found.seconds, found.frames, has_video=True, has_audio=False, video_codec="webp")


@dataclass
class _Stream:
    """Counts of one stream, times in seconds."""

    kind: str
    packets: int = 0
    hidden: int = 0
    start: Fraction | None = None
    end: Fraction = Fraction(0)

    def add(self, packet: Any) -> None:
        self.packets += 1
        if packet.is_discard:
            self.hidden += 1
            return
        pts, base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
        if pts is None or base is None:
            return
        start = pts * base
        self.start = start if self.start is None else min(self.start, start)
        self.end = max(self.end, start + (packet.duration or 0) * base)


@dataclass
class _Decoding:
    """Of one stream: its first frame as soon as its packets give one, and its last key frame."""

    kind: str
    context: Any
    has_frame: bool = False
    tail: list[Any] = field(default_factory=list[Any])
    """Packets from the last key frame on."""

    def add(self, packet: Any) -> None:
        self.has_frame = self.has_frame or bool(self.context.decode(packet))
        if packet.is_keyframe:
            self.tail = [packet]
        elif len(self.tail) < _TAIL_PACKETS:
            self.tail.append(packet)

    def finish(self) -> None:
        if not self.has_frame and not self.context.decode(None):
            _fail(f"its {self.kind} frame does not decode")
        if self.kind == "video":
            self.context.flush_buffers()
            if not any(self.context.decode(packet) for packet in (*self.tail, None)):
                _fail("its last video frame does not decode")


def _read(path: Path, limits: Limits) -> Output:
    with limited(limits, memory=False):  # it opens decoders: their frames are as large as the job's
        container = av.open(f"file:{path}", options=_OPTIONS)
    with container:
        streams = {stream.index: _Stream(stream.type) for stream in container.streams}
        probed = (*container.streams.video[:1], *container.streams.audio[:1])
        decodings = {one.index: _Decoding(one.type, one.codec_context) for one in probed}
        for packet in container.demux():
            if packet.size:
                streams[packet.stream.index].add(packet)
                if packet.stream.index in decodings:
                    decodings[packet.stream.index].add(packet)
        for index, decoding in decodings.items():
            if streams[index].packets:
                decoding.finish()
        codec = container.streams.video[0].codec_context if container.streams.video else None
        name, pix_fmt = (codec.name, codec.pix_fmt) if codec else (None, None)
    return replace(_summary(streams.values()), video_codec=name, pix_fmt=pix_fmt)


def _summary(streams: Collection[_Stream]) -> Output:
    # MOV and MP4 keep chapters in a text track as well, which a reader sees as data without
    # packets; an attachment has none ever.
    media = [one for one in streams if one.kind in ("video", "audio", "subtitle")]
    if not any(one.packets for one in media):
        _fail("none of its streams holds anything", reason="empty_output")
    videos = [one for one in media if one.kind == "video"]
    starts = [one.start for one in streams if one.start is not None]
    video, audio = (
        next((one.start for one in media if one.kind == kind), None) for kind in ("video", "audio")
    )
    return Output(
        seconds=float(max(one.end for one in streams) - min(starts)) if starts else 0.0,
        frames=videos[0].packets - videos[0].hidden if videos else 0,
        hidden=videos[0].hidden if videos else 0,
        has_video=bool(videos),
        has_audio=any(one.kind == "audio" for one in media),
        video_starts_after=float(video - audio) if video is not None and audio is not None else 0.0,
        empty=tuple(one.kind for one in media if not one.packets),
    )


def _frame_seconds(output: Output) -> float:
    """About how long one frame lasts; without video, what an audio encoder may add."""
    return max(_AUDIO_TOLERANCE_SECONDS, output.seconds / output.frames if output.frames else 0.0)


def _compare(output: Output, expected: Expectation, written: Report, frame_seconds: float) -> None:
    for kind, wanted, found in (
        ("video", expected.video, output.has_video),
        ("audio", expected.audio, output.has_audio),
    ):
        if wanted and not found:
            _fail(f"it has no {kind} stream")
    frames = output.frames + output.hidden
    if expected.frames is None and output.has_video and frames < written.frames:
        _fail(f"it has {frames} frames of {written.frames} that were written")
    if expected.frames is not None and frames != expected.frames:
        _fail(f"it has {frames} frames instead of {expected.frames}")
    if expected.max_frames is not None and frames > expected.max_frames:
        _fail(f"it has {frames} frames where {expected.max_frames} were asked for")
    if expected.seconds is not None and abs(output.seconds - expected.seconds) > frame_seconds:
        _fail(f"it lasts {output.seconds:.3f} s instead of {expected.seconds:.3f} s")


def _fail(what: str, cause: BaseException | None = None, *, reason: str = "") -> NoReturn:
    error = TaskError(ErrorCode.output_invalid, f"the rendered file is not right: {what}")
    if reason:
        error.details["reason"] = reason
    raise error from cause
