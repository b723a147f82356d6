"""The track task: people, balls and other things followed through a video.

Light on import: the worker's parent process asks `required_weights` without ever loading torch.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from gpu_worker_client.protocol import TrackParams, TrackResult
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.track.detectors import classes_for, load_detector, required_weights

if TYPE_CHECKING:
    from gpu_worker_processors.track.detectors.base import Detector


class TrackProcessor:
    """See `base.Processor`."""

    name = "track"

    def required_weights(
        self, params: TrackParams, inputs: Collection[str] = ()
    ) -> tuple[str, ...]:
        return required_weights(params.model)

    def prepare(self, job: LocalJob) -> None:
        _detector(job)

    def run(self, job: LocalJob) -> TrackResult:
        from gpu_worker_processors.track.follow import follow_file

        return follow_file(job, _detector(job))


def _detector(job: LocalJob) -> Detector:
    from gpu_worker_processors.models.devices import pick_device

    params: TrackParams = job.params
    return load_detector(
        params.model,
        classes=classes_for(params.model, params.classes),
        iou_threshold=params.iou_threshold,
        store=WeightStore.of(job.settings),
        device=pick_device(job.settings.device),
    )


PROCESSOR = TrackProcessor()
