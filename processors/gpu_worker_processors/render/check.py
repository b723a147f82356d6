"""Checks a rendered file before it is delivered: a status of 0 is not yet a file.

Reads every packet's timestamp, decodes the first frame, the last key frame and the first audio, and
compares with what FFmpeg said it wrote and with what the command promises. Anything short of that
is `output_invalid`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.progress import Report

_AUDIO_TOLERANCE_SECONDS = 0.05
"""Two AAC frames at 44.1 kHz: what priming and padding add to a stream."""
_WEBP_ANIMATION = 0x02
"""The flag in a VP8X chunk."""
_DEMUXERS = (
    "mov",
    "matroska",
    "webm",
    "mpegts",
    "avi",
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
    "bmp_pipe",
    "tiff_pipe",
    "flv",
)
"""None that opens another file: the output's content is a stranger's as much as the input's."""
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(_DEMUXERS)}


@dataclass(frozen=True)
class Output:
    """What the file holds."""

    seconds: float
    """From the first timestamp to the end of the last packet, over all streams."""
    frames: int
    """Packets of the first video stream."""
    has_video: bool
    has_audio: bool
    video_codec: str | None
    """Of the first video stream, by its decoder's name."""


def check_output(path: Path, expected: Expectation, written: Report) -> Output:
    """
    Args:
        written: FFmpeg's last report.

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
        output = _inspected(path)
    except (FFmpegError, OSError) as error:
        _fail(f"it cannot be read back: {type(error).__name__}", error)
    _compare(output, expected, written, _frame_seconds(output))
    return output


def _inspected(path: Path) -> Output:
    webp = animated_webp(path)
    if webp is not None:
        return webp
    with av.open(f"file:{path}", options=_OPTIONS) as container:
        output, last_key = _read(container)
    _decode(path, last_key)
    return output


def animated_webp(path: Path) -> Output | None:
    """What an animated WebP holds, by its chunks; None for any other file. PyAV's libraries do not
    decode it.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    with path.open("rb") as file:
        kind, size, form, extended, flags = struct.unpack(
            "<4sI4s4s4xB", file.read(21).ljust(21, b"\0")
        )
        if (kind, form, extended) != (b"RIFF", b"WEBP", b"VP8X") or not flags & _WEBP_ANIMATION:
            return None
        if size + 8 != path.stat().st_size:
            _fail("it is cut off")
        frames = milliseconds = 0
        file.seek(12)
        while header := file.read(8):
            if len(header) < 8:
                _fail("it is cut off")
            chunk, length = struct.unpack("<4sI", header)
            body = file.tell()
            if chunk == b"ANMF":
                frames += 1
                milliseconds += int.from_bytes(file.read(16)[12:15], "little")
            file.seek(body + length + length % 2)
    return Output(milliseconds / 1000, frames, has_video=True, has_audio=False, video_codec="webp")


@dataclass
class _Stream:
    """Counts of one stream, times in seconds."""

    kind: str
    packets: int = 0
    start: Fraction | None = None
    end: Fraction = Fraction(0)
    last_key: int | None = None
    """Timestamp, in the stream's own units, of the last packet that decodes by itself."""

    def add(self, packet: Any) -> None:
        self.packets += 1
        pts, base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
        if pts is None or base is None:
            return
        start = pts * base
        self.start = start if self.start is None else min(self.start, start)
        self.end = max(self.end, start + (packet.duration or 0) * base)
        if packet.is_keyframe and (self.last_key is None or pts > self.last_key):
            self.last_key = pts


def _read(container: Any) -> tuple[Output, int | None]:
    """What the container holds, and where the last key frame of its first video stream is."""
    streams = {stream.index: _Stream(stream.type) for stream in container.streams}
    for packet in container.demux():
        if packet.size:
            streams[packet.stream.index].add(packet)
    # MOV and MP4 keep chapters in a text track as well, which a reader sees as data without
    # packets.
    empty = [
        stream.kind for stream in streams.values() if not stream.packets and stream.kind != "data"
    ]
    if empty or not streams:
        _fail(
            f"its {empty[0] if empty else 'container'} stream holds nothing", reason="empty_output"
        )
    videos = [stream for stream in streams.values() if stream.kind == "video"]
    starts = [stream.start for stream in streams.values() if stream.start is not None]
    seconds = (
        max(stream.end for stream in streams.values()) - min(starts) if starts else Fraction(0)
    )
    codec = container.streams.video[0].codec_context.name if videos else None
    has_audio = any(stream.kind == "audio" for stream in streams.values())
    output = Output(
        float(seconds), videos[0].packets if videos else 0, bool(videos), has_audio, codec
    )
    return output, videos[0].last_key if videos else None


def _decode(path: Path, last_key: int | None) -> None:
    """Opened anew for each: a decoder that was drained takes nothing more."""
    with av.open(f"file:{path}", options=_OPTIONS) as container:
        for stream in (*container.streams.video[:1], *container.streams.audio[:1]):
            _first_frame(container.decode(stream), stream.type)
            if stream.type == "video" and len(container.streams) > 1:
                container.seek(0)
    if last_key:
        with av.open(f"file:{path}", options=_OPTIONS) as container:
            stream = container.streams.video[0]
            container.seek(last_key, stream=stream)
            _first_frame(container.decode(stream), "last video")


def _first_frame(frames: Iterable[Any], what: str) -> None:
    if next(iter(frames), None) is None:
        _fail(f"its {what} frame does not decode")


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
    if expected.frames is None and output.has_video and output.frames < written.frames:
        _fail(f"it has {output.frames} frames of {written.frames} that were written")
    if expected.frames is not None and output.frames != expected.frames:
        _fail(f"it has {output.frames} frames instead of {expected.frames}")
    if expected.max_frames is not None and output.frames > expected.max_frames:
        _fail(f"it has {output.frames} frames where {expected.max_frames} were asked for")
    if expected.seconds is not None and abs(output.seconds - expected.seconds) > frame_seconds:
        _fail(f"it lasts {output.seconds:.3f} s instead of {expected.seconds:.3f} s")


def _fail(what: str, cause: BaseException | None = None, *, reason: str = "") -> NoReturn:
    error = TaskError(ErrorCode.output_invalid, f"the rendered file is not right: {what}")
    if reason:
        error.details["reason"] = reason
    raise error from cause
