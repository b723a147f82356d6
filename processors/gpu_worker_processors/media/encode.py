"""Writing a video: frames with timestamps go in, a finished file comes out, with the audio and
everything else of the source.

`VideoWriter` owns the output container. It carries every timestamp of the source unchanged (a
variable rate stays variable), writes colour tags and pixel shape explicitly, interleaves the copied
streams in step, and never holds more than the encoder's own delay. Whatever goes wrong on the way
to the disk is a typed error, and no partial file is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_client.protocol.base import INDEXED
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.captions import WRITERS, Captions
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.encoders import EncoderChoice, check_container
from gpu_worker_processors.media.frame import Plane, make_frame
from gpu_worker_processors.media.passthrough import Passthrough
from gpu_worker_processors.media.probe import MediaInfo
from gpu_worker_processors.media.verify import Promise

_FINE_TICKS = 10_000
"""Least ticks a second of the output's clock, so that decoding times find room between frames; what
FFmpeg's own mp4 muxer takes (libavformat/movenc.c)."""
_MOST_REORDERED = 16
"""Frames that may be coded before one that is shown earlier: H.264 and HEVC allow no more
(max_dec_frame_buffering; ITU-T H.264 A.3.1, H.265 A.4.1)."""
_INDEX_IN_FRONT = {"movflags": "+faststart"}
"""Only because the output is a real file: onto a pipe FFmpeg would write a broken one and report
success."""


@dataclass(frozen=True)
class VideoSpec:
    """The video stream to write."""

    width: int
    height: int
    encoder: EncoderChoice
    tags: ColorTags
    sar: Fraction
    """Width over height of one pixel."""
    fps: Fraction
    """Average frames per second: a hint for rate control, never a clock."""
    time_base: Fraction
    """Seconds per tick of the pts given to `write`."""
    threads: int = 0
    """Encoder threads; 0 leaves it to the encoder."""
    in_order: bool = False
    """Frames are coded in the order in which they are shown: for a video whose frames are shown
    unevenly long, as an mp4 lists the times of coded frames."""


class _DecodingTimes:
    """Decoding times and durations of the packets, which encoders get wrong at a variable rate.

    An mp4 says how long a frame lasts by the distance of *decoding* times only. Encoders let those
    lag behind by frames, so a pause of twenty seconds is found at another frame, and at the end of
    the file it would last longer than the video. Here they lag by seconds, the same throughout.
    libx265 and SVT-AV1 lose durations besides.
    """

    def __init__(self) -> None:
        self.inside: dict[int, int] = {}
        """pts -> duration in ticks, of the frames inside the encoder."""
        self._group: list[Any] = []
        """Packets that wait for one that is shown before them."""
        self._first_pts: int | None = None
        self._lag = self._end = 0

    def add(self, packet: Any) -> Sequence[Any]:
        """Takes the next packet in coding order; returns those whose times are final."""
        packet.duration = self.inside.pop(packet.pts, packet.duration)
        self._end = max(self._end, packet.pts + packet.duration)
        if self._first_pts is None:
            self._first_pts, self._lag = packet.pts, packet.pts - packet.dts
            if self._lag:
                self._lag = max(self._lag, _MOST_REORDERED)
        self._group.append(packet)
        newest = max(waiting.pts for waiting in self._group)
        return () if any(pts < newest for pts in self.inside) else self._placed_group()

    def _placed_group(self) -> Sequence[Any]:
        """Each at its turn, but before any of them has to be shown."""
        group, self._group = self._group, []
        shown = sorted(packet.pts for packet in group)
        latest = shown[-1] + 1
        for packet, pts in zip(reversed(group), reversed(shown), strict=True):
            latest = min(packet.pts, latest - 1)
            packet.dts = min(pts - self._lag, latest)
        return group

    def end_with(self, last: Any) -> None:
        """The last packet in coding order ends the track of an mp4, though another frame may be
        shown last."""
        assert self._first_pts is not None
        last.duration = self._end - self._lag - last.dts


class VideoWriter:
    """A file being written. Use as a context manager: the file is complete after the block and gone
    when the block failed.

    Args:
        path: output; its suffix chooses the container.
        spec: the video stream.
        source: (file, what `probe` said of it) whose other streams, chapters and metadata are
            carried over; None for none.
        captions: those of the frames to come, by the pts given to `write`.
        limits: `max_output_bytes` bounds the file.
    """

    def __init__(
        self,
        path: Path,
        spec: VideoSpec,
        *,
        source: tuple[Path, MediaInfo] | None = None,
        captions: Captions | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen dataclass
    ) -> None:
        self.notes: list[ResultWarning] = []
        """What the caller should know about what was left out."""
        self.frames = 0
        """Frames taken."""
        self._shown: tuple[int, int, int] | None = None
        """Ticks of `spec.time_base`: the first frame, the last one and its end."""
        self._path = path
        self._spec = spec
        self._limits = limits
        self._captions = captions or Captions()
        self._bytes = 0
        self._finer = -(-spec.time_base // Fraction(1, _FINE_TICKS))
        """Ticks of the output's clock in one of `spec.time_base`."""
        self._times = _DecodingTimes()
        self._waiting: Any = None
        self._passthrough: Passthrough | None = None
        muxer = check_container(path.suffix, spec.encoder.codec)
        try:
            options = _INDEX_IN_FRONT if muxer in INDEXED else {}
            self._output: Any = av.open(str(path), "w", format=muxer, options=options)
            self._stream = self._add_video(muxer)
            if source is not None:
                self._passthrough = Passthrough(*source, self._output, self._stream, muxer, limits)
                self.notes = self._passthrough.notes
            self._output.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            self._discard()
            self._raise(error)
        except TaskError:
            self._discard()
            raise

    def write(self, planes: Sequence[Plane], pts: int, duration: int = 0) -> None:
        """Takes the next frame.

        Args:
            planes: Y, Cb, Cr arrays of the encoder's pixel format.
            pts: ticks of `spec.time_base` on the source's clock, rising.
            duration: ticks the frame is shown, 0 when not known.
        """
        spec = self._spec
        blank = partial(self._captions.frame, pts)
        frame = make_frame(planes, spec.encoder.pix_fmt, spec.tags, blank)
        frame.pts, frame.time_base = (pts - self._origin_ticks()) * self._finer, self._time_base
        duration = duration or max(1, round(1 / (spec.fps * spec.time_base)))
        self._times.inside[frame.pts] = duration * self._finer
        first = pts if self._shown is None else self._shown[0]
        self._shown = first, pts, pts + duration
        try:
            self._mux(self._stream.encode(frame))
        except (FFmpegError, OSError, ValueError) as error:
            self._raise(error)
        self.frames += 1

    def close(self) -> None:
        """Flushes encoder and copied streams, writes the index.

        Raises:
            TaskError: `disk_full`, `output_too_large`, `output_invalid`.
        """
        try:
            self._mux(self._stream.encode(None))
            if self._waiting is not None:
                self._times.end_with(self._waiting)
                self._write_packet(self._waiting)
            if self._passthrough is not None:
                self._passthrough.advance(None)
                self._passthrough.close()
            self._output.close()
        except (FFmpegError, OSError, ValueError) as error:
            self._raise(error)
        self._check_size(self._path.stat().st_size)
        codec = self._spec.encoder.codec
        if self._captions.found and codec not in WRITERS:
            message = f"the captions (CEA-608/708) were left out: no encoder of {codec} writes them"
            self.notes.append(ResultWarning(code="captions_dropped", message=message))

    @property
    def promise(self) -> Promise:
        """What the finished file must hold, by the frames and packets that were taken."""
        spec = self._spec
        first, last, end = self._shown or (0, 0, 0)
        ticks = (last - first) * spec.time_base, (end - last) * spec.time_base
        streams = self._passthrough
        return Promise(
            spec.width,
            spec.height,
            self.frames,
            *ticks,
            spec.tags,
            streams.audio_seconds if streams is not None else (),
            streams.subtitles_end_seconds if streams is not None else Fraction(0),
        )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self.close()
        except TaskError:
            self._discard()
            raise

    @property
    def _time_base(self) -> Fraction:
        return self._spec.time_base / self._finer

    def _origin_ticks(self) -> int:
        return (
            0
            if self._passthrough is None
            else round(self._passthrough.origin_seconds / self._spec.time_base)
        )

    def _add_video(self, muxer: str) -> Any:
        spec = self._spec
        os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 takes this from nowhere else
        stream: Any = self._output.add_stream(
            spec.encoder.name, rate=spec.fps, options=spec.encoder.options
        )
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.encoder.pix_fmt
        context = stream.codec_context
        context.time_base = self._time_base
        context.framerate = spec.fps
        context.sample_aspect_ratio = spec.sar
        context.colorspace, context.color_primaries = spec.tags.matrix, spec.tags.primaries
        context.color_trc, context.color_range = spec.tags.transfer, spec.tags.range
        context.thread_count = spec.threads
        if spec.in_order:
            context.max_b_frames = 0
        if spec.encoder.codec == "hevc" and muxer != "matroska":
            context.codec_tag = "hvc1"  # what Apple's players ask for; FFmpeg's own choice is hev1
        return stream

    def _mux(self, packets: Sequence[Any]) -> None:
        """Writes packets, each when its successor is there: only the very last one is written
        differently."""
        for packet in packets:
            self._bytes += packet.size
            self._check_size(self._bytes)
            for placed in self._times.add(packet):
                if self._waiting is not None:
                    self._write_packet(self._waiting)
                self._waiting = placed

    def _write_packet(self, packet: Any) -> None:
        if self._passthrough is not None:
            self._passthrough.advance(Fraction(packet.dts) * packet.time_base)
        self._output.mux(packet)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_output_bytes:
            raise TaskError(
                ErrorCode.output_too_large,
                f"the output exceeds {self._limits.max_output_bytes} bytes; send a higher crf or a"
                " smaller scale",
                limit=self._limits.max_output_bytes,
            )

    def _discard(self) -> None:
        """Closes what is open and removes the file. Closing writes a trailer, which may fail too:
        the first failure counts."""
        if self._passthrough is not None:
            self._passthrough.close()
        output = getattr(self, "_output", None)
        if output is not None:
            with contextlib.suppress(FFmpegError, OSError, ValueError):
                output.close()
        self._path.unlink(missing_ok=True)

    def _raise(self, error: Exception) -> NoReturn:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise TaskError(
                ErrorCode.disk_full, "the worker's disk is full; give the worker more disk"
            ) from error
        if number == errno.EFBIG:
            raise TaskError(
                ErrorCode.output_too_large, "the output exceeds the size this worker may write"
            ) from error
        if number == errno.ENOMEM:
            raise TaskError(
                ErrorCode.resource_exhausted,
                "the encoder got no memory; try again on a larger worker",
            ) from error
        spec = self._spec
        reason = getattr(error, "strerror", None) or type(error).__name__
        message = (
            f"{spec.encoder.name} cannot write {spec.width}x{spec.height} to {self._path.suffix}:"
            f" {reason}"
        )
        raise TaskError(ErrorCode.output_invalid, message) from error
