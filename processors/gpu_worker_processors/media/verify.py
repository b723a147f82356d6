"""The last check of a written file before it is delivered: is it what was promised?

Counts every frame and reads every timestamp, decodes all key frames and the whole end of the
stream, compares size, colour tags and the durations that a player reads from the file: of the
video, of each audio stream and of the whole. Anything else than what was promised is
`output_invalid`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.matroska import tagged_seconds


@dataclass(frozen=True)
class Promise:
    """What the file must hold."""

    width: int
    height: int
    frames: int
    span_seconds: Fraction
    """From the first frame's timestamp to the last one's."""
    last_seconds: Fraction
    """How long the last frame is shown."""
    tags: ColorTags | None = None
    audio_seconds: tuple[Fraction, ...] = ()
    """Length of each audio stream."""
    subtitles_end_seconds: Fraction = Fraction(0)
    """When the last subtitle vanishes, which may be after the video; some containers count it."""

    @property
    def frame_seconds(self) -> Fraction:
        """A frame on average."""
        return (self.span_seconds + self.last_seconds) / self.frames


_AUDIO_SECONDS = Fraction(1, 10)
"""Priming and padding, which not every container counts: two AAC frames at
44,100 Hz."""


def verify_output(path: Path, promise: Promise) -> None:
    """
    Raises:
        TaskError: `output_invalid`, saying what differs.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times, last_key = _read_times(container, stream)
            _compare(times, stream.time_base or Fraction(1), promise)
            _check_durations(container, times[0] * stream.time_base, promise)
        with av.open(str(path)) as container:  # anew: some decoders read `skip_frame` only once
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"  # frames side by side too: an end may be 250 of them
            container.seek(last_key, stream=stream)
            _check_end(container, stream, promise, times[-1])
    except (FFmpegError, OSError, IndexError) as error:
        _fail(f"it cannot be read back: {type(error).__name__}", error)


def _read_times(container: Any, stream: Any) -> tuple[list[int], int]:
    """Timestamps of all packets in display order and that of the last key frame. Decodes every key
    frame on the way."""
    stream.codec_context.skip_frame = "NONKEY"
    times: list[int] = []
    last_key = 0
    for packet in container.demux(stream):
        if packet.size:
            times.append(packet.pts)
            last_key = packet.pts if packet.is_keyframe else last_key
            if packet.is_keyframe:
                packet.decode()
    times.sort()
    return times, last_key


def _compare(times: list[int], time_base: Fraction, promise: Promise) -> None:
    if len(times) != promise.frames:
        _fail(f"it has {len(times)} frames instead of {promise.frames}")
    # A container's clock may be coarser than the source's: Matroska counts milliseconds.
    tolerance = max(time_base, Fraction(1, 1000))
    length = (times[-1] - times[0]) * time_base
    if abs(length - promise.span_seconds) > tolerance:
        _fail(
            f"its frames span {float(length):.3f} s instead of {float(promise.span_seconds):.3f} s"
        )


def _check_durations(container: Any, first_seconds: Fraction, promise: Promise) -> None:
    """What the file says of its own length, to a frame."""
    streams = [container.streams.video[0], *container.streams.audio]
    starts = [first_seconds, *(_start(stream) for stream in streams[1:])]
    promised = [promise.span_seconds + promise.last_seconds, *promise.audio_seconds]
    if len(streams) != len(promised):
        _fail(f"it has {len(streams) - 1} audio streams instead of {len(promised) - 1}")
    for stream, start, seconds in zip(streams, starts, promised, strict=True):
        found = _stated_seconds(stream, start)
        if found is not None and abs(found - seconds) > _tolerance(stream, promise):
            _fail(f"its {stream.type} lasts {float(found):.3f} s instead of {float(seconds):.3f} s")
    end = max(start + seconds for start, seconds in zip(starts, promised, strict=True))
    whole = Fraction(container.duration or 0, av.time_base)
    tolerance = max(_tolerance(stream, promise) for stream in streams)
    latest = max(end, promise.subtitles_end_seconds)
    if not end - tolerance <= whole <= latest + tolerance:
        _fail(f"it says it lasts {float(whole):.3f} s instead of {float(end):.3f} s")


def _start(stream: Any) -> Fraction:
    return Fraction(stream.start_time or 0) * stream.time_base


def _stated_seconds(stream: Any, start: Fraction) -> Fraction | None:
    """The length of a stream as the container has it: an mp4's header; the end that Matroska's
    statistics tag names."""
    if stream.duration:
        return stream.duration * stream.time_base
    end = tagged_seconds(stream.metadata.get("DURATION", ""))
    return end - start if end else None


def _tolerance(stream: Any, promise: Promise) -> Fraction:
    if stream.type == "audio":
        return _AUDIO_SECONDS
    return max(promise.frame_seconds, 2 * stream.time_base, Fraction(1, 1000))


def _check_end(container: Any, stream: Any, promise: Promise, last_pts: int) -> None:
    last = deque(container.decode(stream), maxlen=1)
    frame = last[0] if last else None
    if frame is None or frame.pts != last_pts:
        _fail("its last frame does not decode")
    if (frame.width, frame.height) != (promise.width, promise.height):
        _fail(f"it is {frame.width}x{frame.height} instead of {promise.width}x{promise.height}")
    tags = promise.tags
    if tags is None:
        return
    found = (
        int(frame.colorspace),
        int(frame.color_primaries),
        int(frame.color_trc),
        int(frame.color_range),
    )
    if found != (tags.matrix, tags.primaries, tags.transfer, tags.range):
        _fail(
            f"its colour tags are {found} instead of"
            f" {(tags.matrix, tags.primaries, tags.transfer, tags.range)}"
        )


def _fail(what: str, cause: BaseException | None = None) -> NoReturn:
    raise TaskError(
        ErrorCode.output_invalid, f"the written video is not right: {what}; please report it"
    ) from cause
