"""The detect_scenes task: where one shot ends and the next begins.

Decoding and scaling run in one thread, scoring in another; at any moment a handful of frames is in memory. Needs no weights and
no GPU. Light on import: OpenCV and PyAV come in when a job runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from gpu_worker_client.protocol import DetectScenesParams, DetectScenesResult, DetectScenesStats
from gpu_worker_processors.base import LocalJob

if TYPE_CHECKING:
    from gpu_worker_processors.detect_scenes.scenes import FrameTimes
    from gpu_worker_processors.media.probe import MediaInfo

_GROUP = 4
"""Pictures handed to the scoring thread at once: waking it for every one cost 5 to 10 % of the whole task."""
_GROUPS_AHEAD = 8
"""Groups of small pictures, at most 192 KiB a picture, that decoding may run ahead of scoring."""


class DetectScenesProcessor:
    """See `base.Processor`."""

    name = "detect_scenes"

    def required_weights(self, params: DetectScenesParams) -> tuple[str, ...]:  # noqa: ARG002 - none for any parameters
        return ()

    def prepare(self, job: LocalJob) -> None:  # noqa: ARG002 - the parameters change nothing
        """Imports what `run` needs: half a second that would otherwise follow the fetch."""
        import_module("gpu_worker_processors.detect_scenes.detectors")
        import_module("gpu_worker_processors.media.decode")

    def run(self, job: LocalJob) -> DetectScenesResult:
        from gpu_worker_processors.detect_scenes.scenes import scenes_between
        from gpu_worker_processors.media.probe import probe

        started = time.monotonic()
        info = probe(job.require_input(), job.limits)
        cuts, times = _find_cuts(job, info)
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


def _find_cuts(job: LocalJob, info: MediaInfo) -> tuple[list[int], FrameTimes]:
    """Indices of the first frames of new scenes, and the times of all frames."""
    from gpu_worker_processors.detect_scenes.detectors import CutFinder, make_detector
    from gpu_worker_processors.detect_scenes.scenes import FrameTimes
    from gpu_worker_processors.media.frames import grouped, prefetched
    from gpu_worker_processors.media.probe import require_video

    video = require_video(info)
    times = FrameTimes(video.time_base)
    finder = CutFinder(make_detector(job.params), video.time_base, video.fps)
    with prefetched(grouped(upright_pictures(job, info), _GROUP), _GROUPS_AHEAD) as groups:
        for pts, duration_ticks, picture in chain.from_iterable(groups):
            times.add(pts, duration_ticks)
            finder.add(pts, picture)
            job.progress("process", len(times), video.expected_frames)
    return [times.index_of(pts) for pts in finder.finish()], times


def upright_pictures(job: LocalJob, info: MediaInfo) -> Iterator[tuple[int, int, Any]]:
    """(timestamp, duration in ticks, small upright BGR picture) of every frame."""
    import cv2

    from gpu_worker_processors.detect_scenes.detectors import analysis_size
    from gpu_worker_processors.media.decode import FrameReader, SmallPictures
    from gpu_worker_processors.media.probe import require_video

    video = require_video(info)
    scale = SmallPictures(*analysis_size(video.coded_width, video.coded_height))
    turns = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    for item in FrameReader(job.require_input(), info, limits=job.limits):
        picture = scale(item.frame)
        if video.rotation:
            picture = cv2.rotate(picture, turns[video.rotation])
        yield item.pts, item.frame.duration or 0, picture


PROCESSOR = DetectScenesProcessor()
