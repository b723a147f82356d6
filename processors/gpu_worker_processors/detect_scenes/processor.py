"""The detect_scenes task: where one shot ends and the next begins.

Decoding runs in one thread, scaling and scoring in another; a handful of frames is in memory at any
moment. It needs no weights and no GPU. Light on import: OpenCV and PyAV come in when a job runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, cast

from gpu_worker_client.protocol import (
    DetectScenesParams,
    DetectScenesResult,
    DetectScenesStats,
    ResultWarning,
)
from gpu_worker_processors.base import LocalJob

if TYPE_CHECKING:
    import numpy as np
    from av import VideoFrame
    from numpy.typing import NDArray

    from gpu_worker_processors.detect_scenes.scenes import FrameTimes
    from gpu_worker_processors.media.decode import FrameReader
    from gpu_worker_processors.media.probe import VideoInfo

_GROUP = 2
"""Frames handed to the scoring thread at once: waking it for every one cost 5 % of the whole
task."""
_GROUPS_AHEAD = 2
"""Groups of frames that decoding may run ahead of scoring: with the two at either end, eight frames
of full size at most."""
_QUICK_CUTS = 3
"""A flash of light is two cuts, in and out: no reason to warn."""


class DetectScenesProcessor:
    """See `base.Processor`."""

    name = "detect_scenes"

    def required_weights(
        self, params: DetectScenesParams, inputs: Collection[str] = ()
    ) -> tuple[str, ...]:
        return ()

    def prepare(self, job: LocalJob) -> None:  # noqa: ARG002 - the parameters change nothing
        """Imports what `run` needs: half a second that would otherwise follow the fetch."""
        import_module("gpu_worker_processors.detect_scenes.detectors")
        import_module("gpu_worker_processors.media.decode")

    def run(self, job: LocalJob) -> DetectScenesResult:
        from gpu_worker_processors.detect_scenes.scenes import scenes_between
        from gpu_worker_processors.media.decode import FrameReader

        started = time.monotonic()
        with FrameReader.probed(job.require_input(), limits=job.limits) as reader:
            cuts, times = _find_cuts(job, reader)
            job.warnings.extend((*reader.info.warnings, *reader.warnings))
        scenes = scenes_between(cuts, times)
        return DetectScenesResult(
            scenes=scenes,
            stats=DetectScenesStats(
                processing_time_sec=round(time.monotonic() - started, 3),
                total_scenes=len(scenes),
                avg_scene_length=round(times.duration_seconds / len(scenes), 6),
                total_frames=len(times),
                duration=times.duration_seconds,
                is_vfr=times.is_vfr,
            ),
        )


def _find_cuts(job: LocalJob, reader: FrameReader) -> tuple[list[int], FrameTimes]:
    """Indices of the first frames of new scenes, and the times of all frames."""
    from gpu_worker_processors.detect_scenes.detectors import CutFinder, make_detector
    from gpu_worker_processors.detect_scenes.scenes import FrameTimes
    from gpu_worker_processors.media.threads import grouped, prefetched

    video = reader.video
    times = FrameTimes(video.time_base)
    finder = CutFinder(make_detector(job.params), video.time_base, video.fps)
    small_image = upright_images(video, job.params.detector)
    with prefetched(grouped(reader, _GROUP), _GROUPS_AHEAD) as groups:
        for item in chain.from_iterable(groups):
            times.add(item.pts, item.duration)
            finder.add(item.pts, small_image(item.frame))
            job.progress("process", len(times), video.expected_frames)
    cuts = [times.index_of(pts) for pts in finder.finish()]
    if finder.quick_cuts >= _QUICK_CUTS:
        message = (
            f"{finder.quick_cuts} cuts make no scene: each comes less than min_scene_length"
            f" ({job.params.min_scene_length:g} s) after another; min_scene_length: 0 keeps them"
        )
        job.warnings.append(ResultWarning(code="quick_cuts", message=message))
    return cuts, times


def upright_images(video: VideoInfo, detector: str) -> Callable[[VideoFrame], NDArray[np.uint8]]:
    """Makes of each decoded frame of one video the small upright image, uint8 BGR, that a detector
    compares."""
    import cv2

    from gpu_worker_processors.detect_scenes.detectors import analysis_size, score_size
    from gpu_worker_processors.media.decode import ThumbnailScaler

    size = (
        analysis_size if detector == "hash" else score_size
    )  # a hash of 64 bits turns on single pixels
    scaled = ThumbnailScaler(*size(video.coded_width, video.coded_height))
    if not video.rotation:
        return scaled
    turn = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}[
        video.rotation
    ]
    return lambda frame: cast("NDArray[np.uint8]", cv2.rotate(scaled(frame), turn))


PROCESSOR = DetectScenesProcessor()
