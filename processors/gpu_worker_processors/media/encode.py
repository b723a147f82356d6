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
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import av
from av.error import FFmpegError

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_client.protocol.base import INDEXED
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.encoders import EncoderChoice, check_container
from gpu_worker_processors.media.frame import Plane, make_frame
from gpu_worker_processors.media.passthrough import Passthrough
from gpu_worker_processors.media.probe import MediaInfo

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


class _Durations:
    """How long each frame is shown, carried around the encoder: libx265 and SVT-AV1 lose it, and
    without it the last frame, which has no successor to end it, would be cut short."""

    def __init__(self) -> None:
        self.durations: dict[int, int] = {}
        """pts -> duration in ticks, of the frames inside the encoder."""
        self._first: tuple[int, int] | None = None
        """(pts, dts) of the first packet."""
        self._end = 0

    def stamp(self, packet: Any) -> None:
        """Gives a packet the duration of its frame."""
        packet.duration = self.durations.pop(packet.pts, packet.duration)
        self._first = self._first or (packet.pts, packet.dts)
        self._end = max(self._end, packet.pts + packet.duration)

    def stretch(self, last: Any) -> None:
        """The last packet in coding order ends the track of an mp4, though another frame may be
        shown last."""
        assert self._first is not None
        first_pts, first_dts = self._first
        last.duration = max(last.duration, self._end - first_pts - (last.dts - first_dts))


class VideoWriter:
    """A file being written. Use as a context manager: the file is complete after the block and gone
    when the block failed.

    Args:
        path: output; its suffix chooses the container.
        spec: the video stream.
        source: (file, what `probe` said of it) whose other streams, chapters and metadata are
            carried over; None for none.
        limits: `max_output_bytes` bounds the file.
    """

    def __init__(
        self,
        path: Path,
        spec: VideoSpec,
        *,
        source: tuple[Path, MediaInfo] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen dataclass
    ) -> None:
        self.notes: list[ResultWarning] = []
        """What the caller should know about what was left out."""
        self.frames = 0
        """Frames taken."""
        self._path = path
        self._spec = spec
        self._limits = limits
        self._bytes = 0
        self._clock = _Durations()
        self._waiting: Any = None
        self._passthrough: Passthrough | None = None
        muxer = check_container(path.suffix, spec.encoder.codec)
        try:
            options = _INDEX_IN_FRONT if muxer in INDEXED else {}
            self._output: Any = av.open(str(path), "w", format=muxer, options=options)
            self._stream = self._add_video(muxer)
            if source is not None:
                self._passthrough = Passthrough(*source, self._output, self._stream, muxer, limits)
                self.notes += self._passthrough.notes
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
        frame = make_frame(planes, spec.encoder.pix_fmt, spec.tags)
        frame.pts, frame.time_base = pts - self._origin_ticks(), spec.time_base
        self._clock.durations[frame.pts] = duration or max(
            1, round(1 / (spec.fps * spec.time_base))
        )
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
                self._clock.stretch(self._waiting)
                self._write_packet(self._waiting)
            if self._passthrough is not None:
                self._passthrough.advance(None)
                self._passthrough.close()
            self._output.close()
        except (FFmpegError, OSError, ValueError) as error:
            self._raise(error)
        self._check_size(self._path.stat().st_size)

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
        context.time_base = spec.time_base
        context.framerate = spec.fps
        context.sample_aspect_ratio = spec.sar
        context.colorspace, context.color_primaries = spec.tags.matrix, spec.tags.primaries
        context.color_trc, context.color_range = spec.tags.transfer, spec.tags.range
        context.thread_count = spec.threads
        if spec.encoder.codec == "hevc" and muxer != "matroska":
            context.codec_tag = "hvc1"  # what Apple's players ask for; FFmpeg's own choice is hev1
        return stream

    def _mux(self, packets: Sequence[Any]) -> None:
        """Writes packets, each when its successor is there: only the very last one is written
        differently."""
        for packet in packets:
            self._bytes += packet.size
            self._check_size(self._bytes)
            self._clock.stamp(packet)
            if self._waiting is not None:
                self._write_packet(self._waiting)
            self._waiting = packet

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
