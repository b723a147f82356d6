"""Every frame of a video, once, in display order, with a timestamp; or a typed error. Never fewer
frames without a word.

FFmpeg conceals damage and ends quietly where a file was cut off. `FrameReader` turns each sign of
that (a corrupt flag on packet or frame, a decoder error, fewer packets than the container's index
names) into `corrupt_media`. It decodes with all cores and holds only the frames in flight, whatever
the length of the video.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.clock import jump_warnings
from gpu_worker_processors.media.container import corrupt, opened
from gpu_worker_processors.media.damage import Damage
from gpu_worker_processors.media.first_frame import DecodeState, start_decoding
from gpu_worker_processors.media.matroska import tagged_seconds
from gpu_worker_processors.media.probe import MediaInfo, VideoInfo, probing, require_video
from gpu_worker_processors.media.shape import FrameShaper

_JOINED_MIDWAY = frozenset({"mpegts", "mpeg"})
"""Broadcast containers: a recording may start between key frames, and nobody can decode what stands
before the first."""

_DISCONTINUITY_SECONDS = 1.0
"""A timestamp that lies more than this before the last one starts a new timeline (two recordings
joined); nearer ones are a muxer's rounding."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    index: int
    """0-based, display order."""
    pts: int
    """Ticks of `VideoInfo.time_base`, strictly rising."""
    duration: int
    """Ticks until the next frame; of the last frame, until the end that the file states."""
    time_seconds: float
    """From the first frame."""
    frame: av.VideoFrame
    """As decoded: not turned upright yet."""


class Timeline:
    """Makes timestamps strictly rising: a missing one continues at the frame rate, a repeated one
    moves by one tick, a jump back of more than a second continues where the old timeline ended."""

    def __init__(self, time_base: Fraction, fps: Fraction) -> None:
        self._step = max(1, round(1 / (fps * time_base)))
        self._jump = max(1, round(_DISCONTINUITY_SECONDS / time_base))
        self._offset = 0
        self._last: int | None = None

    def next_pts(self, pts: int | None) -> int:
        """The timestamp to use for the next frame."""
        if self._last is None:
            self._last = pts or 0
            return self._last
        result = self._last + self._step if pts is None else pts + self._offset
        if result <= self._last - self._jump:
            self._offset += self._last + self._step - result
            result = self._last + self._step
        self._last = max(result, self._last + 1)
        return self._last


class FrameReader:
    """Iterates the frames of the picked video stream. Each `iter()` opens the file anew, but for
    the first one of `probed`.

    Args:
        path: the file that `info` was probed from.
        info: what `probe` said.
        threads: decoder threads; 0 is one per core.
        limits: `max_pixels` and `max_frames` are enforced while decoding.
    """

    def __init__(
        self,
        path: Path,
        info: MediaInfo,
        *,
        threads: int = 0,
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self._path = path
        self.info = info
        self.video: VideoInfo = require_video(info)
        self._threads = threads
        self._limits = limits
        self._probed: DecodeState | None = None
        self.warnings: list[ResultWarning] = []
        """What the caller of a task should know of the frames, once all of them were read."""
        self._damage = Damage()
        self._resized: ResultWarning | None = None
        self._seconds = 0.0
        """Time of the last frame."""

    @classmethod
    @contextmanager
    def probed(
        cls,
        path: Path,
        *,
        threads: int = 0,
        limits: Limits = Limits(),  # noqa: B008
    ) -> Generator[FrameReader]:
        """Probes a file for a reader whose first iteration goes on from the frame that was decoded
        for it: a few milliseconds less, which count where the frames cost little. That iteration
        ends with the block.

        Raises:
            TaskError: as `probe`, and `no_video_stream`.
        """
        with probing(path, limits, threads) as (info, state):
            reader = cls(path, info, threads=threads, limits=limits)
            if state is not None and state.is_intact and info.kind.demuxer not in _JOINED_MIDWAY:
                reader._probed = state
            yield reader

    def __iter__(self) -> Iterator[DecodedFrame]:
        """
        Raises:
            TaskError: `corrupt_media`, `media_limit`, `no_frames`.
        """
        self._damage, self._resized, self._seconds = Damage(), None, 0.0
        with self._state() as state:
            timeline = Timeline(self.video.time_base, self.video.fps)
            first_pts: int | None = None
            held: DecodedFrame | None = None  # until its successor shows how long it lasts
            for index, (ticks, duration, frame) in enumerate(self._shaped(state)):
                pts = timeline.next_pts(ticks)
                first_pts = pts if first_pts is None else first_pts
                if held is not None:
                    held = replace(held, duration=pts - held.pts)
                    yield held
                seconds = float((pts - first_pts) * self.video.time_base)
                self._seconds = seconds
                held = DecodedFrame(index, pts, duration, seconds, frame)
            if held is None or first_pts is None:
                raise TaskError(ErrorCode.no_frames, "the video stream holds no frame")
            last = _last_duration(state, first_pts, held.pts, held.duration) or self._usual_step
            yield replace(held, duration=last)
            self.warnings = [*jump_warnings(state.jumps), *self._damage.warnings]
            self.warnings += [self._resized] if self._resized else []

    def listed(self) -> list[tuple[int, int]] | None:
        """Timestamp and duration of every frame in display order, in ticks, as the container lists
        them (`DecodedFrame.duration`): nothing is decoded.

        None where only decoding can show it: a missing or repeated timestamp, a packet that is
        damaged or not to be shown, fewer packets than the index names, a broadcast recording. Where
        it is not None, an intact file decodes to just these frames; a damaged one may not.
        """
        if self.info.kind.demuxer in _JOINED_MIDWAY or self.video.interlaced:
            return None
        found: list[tuple[int, int]] = []
        with self._opened() as state:
            if not state.has_times:
                return None
            try:
                for packet in state.untaken:
                    if not packet.size:
                        continue
                    if (
                        packet.pts is None
                        or packet.is_corrupt
                        or packet.is_discard
                        or len(found) >= self._limits.max_frames
                    ):
                        return None
                    found.append((packet.pts, packet.duration or 0))
            except FFmpegError:
                return None
            if not found or len(found) < self._listed(state.stream):
                return None
            found.sort()
            last = _last_duration(state, found[0][0], *found[-1]) or self._usual_step
        steps = [after - pts for (pts, _), (after, _) in itertools.pairwise(found)]
        if min(steps, default=1) <= 0:
            return None
        return [(pts, step) for (pts, _), step in zip(found, [*steps, last], strict=True)]

    @property
    def _usual_step(self) -> int:
        return max(1, round(1 / (self.video.fps * self.video.time_base)))

    def _state(self) -> AbstractContextManager[DecodeState]:
        state, self._probed = self._probed, None
        return self._opened() if state is None else nullcontext(state)

    @contextmanager
    def _opened(self) -> Generator[DecodeState]:
        with opened(self._path, self.info.kind, self._limits) as container:
            stream = container.streams[self.video.index]
            assert isinstance(stream, VideoStream), "probe picked it"
            yield start_decoding(container, self.info.kind, stream, self._limits, self._threads)

    def _shaped(self, state: DecodeState) -> Iterator[tuple[int | None, int, av.VideoFrame]]:
        """(timestamp, duration, frame) of every frame: the part that the container shows, in the
        size of the first."""
        shaper: FrameShaper | None = None
        for index, frame in enumerate(self._frames(state)):
            self._check(frame, index)
            shaper = shaper or FrameShaper(frame, self.video.margins)
            if shaper.differs(frame) and self._resized is None:
                width, height = shaper.size
                message = (
                    f"the frames change from {width}x{height} to {frame.width}x{frame.height} at"
                    f" frame {index}; all are taken at the size of the first"
                )
                self._resized = ResultWarning(code="size_changed", message=message)
            yield state.pts_of(frame), frame.duration or 0, shaper(frame)

    def _frames(self, state: DecodeState) -> Iterator[av.VideoFrame]:
        started = self.info.kind.demuxer not in _JOINED_MIDWAY
        packets, frames = state.packets, len(state.frames)
        while state.frames:
            yield state.frames.pop(0)
        try:
            for packet in state.untaken:
                if packet.size:
                    packets += 1
                    started = started or packet.is_keyframe
                    if not started:
                        continue
                    if packet.is_corrupt and self.info.kind.demuxer not in _JOINED_MIDWAY:
                        self._judge(corrupt(f"it breaks off after frame {frames}"))
                for frame in self._decoded(packet, frames):
                    frames += 1
                    yield frame
        except FFmpegError as error:
            if self._limits.on_damage == "fail":
                raise corrupt(f"frame {frames} cannot be decoded") from error
            self._damage.end_early(f"it cannot be read on after frame {frames}")
        listed = self._listed(state.stream)
        if packets < listed:
            what = f"only {frames} of its {listed} frames could be read"
            if self._limits.on_damage == "fail":
                raise corrupt(what)
            self._damage.end_early(what)

    def _decoded(self, packet: Packet[VideoStream], frames: int) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except FFmpegError as error:
            self._judge(corrupt(f"frame {frames} cannot be decoded"), error)
            return []

    def _judge(self, error: TaskError, cause: FFmpegError | None = None) -> None:
        """Damage ends the job, or is noted and passed over."""
        if self._limits.on_damage == "fail":
            raise error from cause
        self._damage.add(self._seconds)

    def _listed(self, stream: VideoStream) -> int:
        """How many packets the container itself says there are; 0 when it does not."""
        if self.info.kind.demuxer == "mov":
            return len(stream.index_entries)  # with a fragmented file it grows while reading
        if self.info.kind.demuxer == "matroska":
            return self.video.frame_count or 0
        return 0

    def _check(self, frame: av.VideoFrame, index: int) -> None:
        if frame.is_corrupt:
            self._judge(corrupt(f"frame {index} has errors"))
        if index >= self._limits.max_frames:
            raise TaskError(
                ErrorCode.media_limit,
                f"the video has more than {self._limits.max_frames} frames",
                limit=self._limits.max_frames,
            )


def _last_duration(state: DecodeState, first_pts: int, last_pts: int, own: int) -> int:
    """Ticks that the last frame is shown; 0 where the file does not say.

    Args:
        state: after the last packet.
        own: duration of the frame's own packet: in an MP4 the time to the next packet in decoding
            order, which is no duration of this frame.
    """
    stream, container = state.stream, state.stream.container
    if container.format.name.startswith("mov"):
        # The index may list more than the edit list shows; of a fragmented file, where the
        # duration counts from the epoch of its clock, the packets alone say the length.
        listed = stream.duration if stream.duration and stream.duration > 0 else state.coded_ticks
        return max(0, first_pts + min(listed, state.coded_ticks) - last_pts) or own
    tag = tagged_seconds(stream.metadata.get("DURATION", ""))
    assert stream.time_base is not None, "set for every demuxed stream"
    return max(own, math.floor(tag / stream.time_base) - last_pts)


class ThumbnailScaler:
    """Scales decoded frames to one small size by picking pixels, with one scaler for the whole
    video.

    Nearest neighbour on purpose: it is the fastest, and at these factors the closest to what
    OpenCV's INTER_LINEAR gives.
    """

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The frame, uint8 BGR of shape (height, width, 3), 0..255."""
        small = self._reformatter.reformat(
            frame, self._width, self._height, "bgr24", interpolation=Interpolation.POINT, threads=1
        )
        return cast("NDArray[np.uint8]", small.to_ndarray())
