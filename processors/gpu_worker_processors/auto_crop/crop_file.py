"""One auto_crop job from file to result: search every frame, plan the whole path, render it in
one pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gpu_worker_client.protocol import ResultWarning, WorkerInfo
from gpu_worker_client.protocol.auto_crop import AutoCropParams, AutoCropResult, AutoCropStats
from gpu_worker_processors.auto_crop.analyse import Analysis, analyse
from gpu_worker_processors.auto_crop.canvas import square_size
from gpu_worker_processors.auto_crop.plan import CropPlan, plan_crop
from gpu_worker_processors.auto_crop.render import OtherFrames, OutputPlan, plan_output, render
from gpu_worker_processors.auto_crop.windows import keyframes_of, window_size, wire_keyframes
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.media.probe import VideoInfo, probe, require_video
from gpu_worker_processors.models.devices import pick_device

if TYPE_CHECKING:
    from gpu_worker_processors.track.detectors.base import Detector


def crop_file(job: LocalJob, detector: Detector | None) -> AutoCropResult:
    """Plans the window over the job's input and, unless only coordinates are wanted, writes the
    output.

    Args:
        detector: None when tracks or keyframes came with the job.

    Raises:
        TaskError: of the input, of any stage; `invalid_task` for a wish that this video cannot
            fulfil. No file is left behind.
    """
    started = time.monotonic()
    params: AutoCropParams = job.params
    info = probe(job.require_input(), job.limits)
    video = require_video(info)
    device = pick_device(job.settings.device)
    job.warnings.extend((*info.warnings, *_shape_warnings(video)))
    frame = square_size(video)
    target = None
    if not params.dry_run:  # what cannot be written is refused before anything is decoded
        target = plan_output(
            job,
            video,
            window_size(frame, params.aspect, params.zoom),
            with_gpu=device.type == "cuda",
        )
        job.warnings.extend(target.warnings)
    found = analyse(job, info, detector)
    plan = plan_crop(found.tracks, found.timeline, frame, params, found.images)
    if target is not None:
        try:
            render(job, info, plan, found, target)
        except OtherFrames:
            if not found.is_listed:
                raise
            found = analyse(job, info, detector, may_list=False)
            plan = plan_crop(found.tracks, found.timeline, frame, params, found.images)
            render(job, info, plan, found, target)
    if (
        isinstance(params.subject, str)
        and params.subject != "auto"
        and not plan.quality.subject_frames
    ):
        message = f"nothing of class {params.subject!r} was seen; the window keeps to the middle"
        job.warnings.append(ResultWarning(code="subject_absent", message=message))
    return _result(params, plan, found, frame, target, started).model_copy(
        update={
            "worker": WorkerInfo(
                version="",  # the worker fills in its own
                device=detector.device if detector else str(device),
                encoder=target.encoder.name if target else None,
                fallback_reason=target.encoder.fallback_reason if target else None,
            )
        }
    )


def _shape_warnings(video: VideoInfo) -> list[ResultWarning]:
    if video.sar == 1:
        return []
    width, height = square_size(video)
    message = (
        f"the source's pixels are not square ({video.sar.numerator}:{video.sar.denominator});"
        f" places are pixels of the frame as it is seen, {width}x{height}, and the output's"
        " pixels are square"
    )
    return [ResultWarning(code="square_pixels", message=message)]


def _result(
    params: AutoCropParams,
    plan: CropPlan,
    found: Analysis,
    frame: tuple[int, int],
    target: OutputPlan | None,
    started: float,
) -> AutoCropResult:
    chosen = keyframes_of(plan.path, found.timeline, params.keyframe_interval)
    frames, elapsed = len(found.times), time.monotonic() - started
    return AutoCropResult(
        crop_keyframes=wire_keyframes(
            plan.path, chosen, found.timeline, frame, normalised=params.normalised
        ),
        subject=plan.subject,
        segments=list(plan.segments),
        normalised=params.normalised,
        stats=AutoCropStats(
            processing_time_sec=round(elapsed, 3),
            input_resolution=f"{frame[0]}x{frame[1]}",
            window=f"{plan.size[0]}x{plan.size[1]}",
            output_resolution=f"{target.canvas.width}x{target.canvas.height}" if target else "",
            frames_processed=frames,
            fps=round(frames / elapsed, 3),
            duration=round(found.times.duration_seconds, 3),
            shots=None if params.keyframes is not None else len(found.timeline.shot_starts),
            subject_frames=plan.quality.subject_frames,
            in_view=plan.quality.in_view,
            mean_offset=plan.quality.mean_offset,
            still=plan.quality.still,
            jerk=plan.quality.jerk,
        ),
    )
