"""The second pass: decode, crop and encode side by side, frame for frame, into one file.

Never cut and joined: the window is a function of the frame, so video and audio stay in
step. Every frame of the source comes out once, with its own timestamp. Memory does not depend on
the length of the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_client.protocol.auto_crop import AutoCropParams, Layout
from gpu_worker_processors.auto_crop.analyse import Analysis
from gpu_worker_processors.auto_crop.canvas import Canvas, FrameCropper
from gpu_worker_processors.auto_crop.plan import CropPlan
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.media.color import ColorTags, resolve_tags
from gpu_worker_processors.media.decode import DecodedFrame, FrameReader
from gpu_worker_processors.media.deinterlace import WholeFrames
from gpu_worker_processors.media.encode import VideoSpec, VideoWriter
from gpu_worker_processors.media.encoders import (
    EncoderChoice,
    check_container,
    check_depth,
    choose_encoder,
    working_encoders,
)
from gpu_worker_processors.media.frame import Frame, Plane, PlaneReader
from gpu_worker_processors.media.probe import MediaInfo, VideoInfo, require_video
from gpu_worker_processors.media.threads import drained, prefetched
from gpu_worker_processors.media.verify import verify_output
from gpu_worker_processors.media.warnings import encoding_warnings

_AHEAD, _BEHIND = 4, 3


@dataclass(frozen=True)
class OutputPlan:
    """How the output is written, decided before the first frame is decoded."""

    source_tags: ColorTags
    canvas: Canvas
    encoder: EncoderChoice
    warnings: tuple[ResultWarning, ...]


def output_size(params: AutoCropParams, window: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the output, even: what is asked for, else the window's own."""
    width, height = params.output_width, params.output_height
    if width is None and height is None:
        return window
    if width is None:
        assert height is not None
        width = _even(height * params.aspect)
    return width, height or _even(width / params.aspect)


def _even(side: float) -> int:
    return max(16, 2 * round(side / 2))


def plan_output(
    job: LocalJob, video: VideoInfo, window: tuple[int, int], *, with_gpu: bool
) -> OutputPlan:
    """
    Raises:
        TaskError: `unsupported_media`, `media_limit`: what no encoder here can write.
    """
    params: AutoCropParams = job.params
    check_container(job.require_output().suffix, params.codec)
    width, height = output_size(params, window)
    tags = resolve_tags(
        video.colorspace,
        video.primaries,
        video.transfer,
        video.color_range,
        height=video.height,
        pix_fmt=video.pix_fmt,
    )
    available = working_encoders(with_gpu)
    encoder = choose_encoder(
        params.codec,
        width,
        height,
        available,
        crf=params.crf,
        bits=video.bit_depth,
        with_gpu=with_gpu,
    )
    check_depth(encoder, tags)
    written = tags.limited() if params.codec == "prores" else tags
    canvas = Canvas(width, height, written, encoder.bits, encoder.half_height)
    return OutputPlan(tags, canvas, encoder, tuple(encoding_warnings(video, tags, encoder)))


class OtherFrames(TaskError):
    """The video's frames are not those that were planned for."""

    def __init__(self, expected: int, found: int) -> None:
        message = (
            f"the video had {expected} frames at first and then {found} or other ones; please"
            " report it"
        )
        super().__init__(ErrorCode.output_invalid, message)


def render(
    job: LocalJob, info: MediaInfo, plan: CropPlan, found: Analysis, target: OutputPlan
) -> int:
    """Writes the job's output file and checks it. Returns the number of its frames.

    Raises:
        OtherFrames: no file is left behind, the job can be planned anew.
        TaskError: of any stage; `output_invalid` when the file is not what it should be. No file is
            left behind then.
    """
    video = require_video(info)
    source, output, canvas = job.require_input(), job.require_output(), target.canvas
    shown = _Shown(plan, found, job.params)
    crop = FrameCropper(video, target.source_tags, canvas)
    spec = VideoSpec(
        canvas.width,
        canvas.height,
        target.encoder,
        canvas.tags,
        Fraction(1),
        video.fps,
        video.time_base,
        in_order=video.is_uneven,
    )

    decoded = WholeFrames(FrameReader(source, info, limits=job.limits))

    def write(frame: tuple[Sequence[Plane], int, int]) -> None:
        writer.write(*frame)

    with (
        VideoWriter(
            output, spec, source=(source, info), captions=decoded.captions, limits=job.limits
        ) as writer,
        prefetched(_read(decoded), _AHEAD) as frames,
        drained(write, _BEHIND) as put,
    ):
        for index, frame in enumerate(frames):
            shown.check(index, frame.pts)
            planes = crop(frame, shown.window(index), shown.layout(index))
            put((planes, frame.pts, frame.duration))
            job.progress("encode", index + 1, shown.frames)
    if writer.frames != shown.frames:
        raise OtherFrames(shown.frames, writer.frames)
    verify_output(output, writer.promise)
    known = {warning.code for warning in job.warnings}  # by the first pass over the same frames
    more = [warning for warning in decoded.warnings if warning.code not in known]
    job.warnings.extend((*writer.notes, *more))
    return shown.frames


class _Shown:
    """What is to be seen on each frame."""

    def __init__(self, plan: CropPlan, found: Analysis, params: AutoCropParams) -> None:
        self._windows = plan.path.windows
        self._times = found.times if found.is_listed else None
        self._layouts = plan.layouts
        self._fallback: Layout = params.fallback
        self.frames = len(self._windows)

    def check(self, index: int, pts: int) -> None:
        """
        Raises:
            OtherFrames: it is not the frame that was planned for.
        """
        known = index < self.frames
        if not known or (self._times is not None and self._times.pts(index) != pts):
            raise OtherFrames(self.frames, index + 1)

    def window(self, frame: int) -> tuple[float, float, float, float]:
        x, y, width, height = self._windows[frame].tolist()
        return x, y, width, height

    def layout(self, frame: int) -> Layout:
        return (
            self._fallback if self._layouts is None else cast("Layout", str(self._layouts[frame]))
        )


def _read(decoded: Iterable[DecodedFrame]) -> Iterator[Frame]:
    read = PlaneReader()
    for item in decoded:
        yield read(item.frame, item.pts, item.duration)
