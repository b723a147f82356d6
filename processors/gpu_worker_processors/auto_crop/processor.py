"""The auto_crop task: a video in, the same video in another aspect ratio, its window led after the
subject.

Light on import: the worker's parent process asks `required_weights` without ever loading torch.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from gpu_worker_client.protocol import TaskError, TrackParams
from gpu_worker_client.protocol.auto_crop import AutoCropParams, AutoCropResult
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.auto_crop.tracks_file import INPUT_NAME
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.track.detectors import classes_for, load_detector, required_weights

if TYPE_CHECKING:
    from gpu_worker_processors.track.detectors.base import Detector


class AutoCropProcessor:
    """See `base.Processor`."""

    name = "auto_crop"

    def required_weights(
        self, params: AutoCropParams, inputs: Collection[str] = ()
    ) -> tuple[str, ...]:
        brings_its_path = params.keyframes is not None or INPUT_NAME in inputs
        return () if brings_its_path else required_weights(params.model)

    def prepare(self, job: LocalJob) -> None:
        _detector(job)

    def run(self, job: LocalJob) -> AutoCropResult:
        from gpu_worker_processors.auto_crop.crop_file import crop_file

        return crop_file(job, _detector(job))


def _detector(job: LocalJob) -> Detector | None:
    """None when the job brings tracks, or the path itself."""
    params: AutoCropParams = job.params
    if params.keyframes is not None or INPUT_NAME in job.inputs:
        return None
    from gpu_worker_processors.models.devices import pick_device

    try:
        return load_detector(
            params.model,
            classes=classes_to_find(params),
            iou_threshold=TrackParams().iou_threshold,
            store=WeightStore.of(job.settings),
            device=pick_device(job.settings.device),
        )
    except TaskError as error:
        raise _at_its_path(error, params) from None


def classes_to_find(params: AutoCropParams) -> list[str]:
    """Those asked for, and after them every one that a subject names."""
    return [*classes_for(params.model, params.classes), *(name for _, name in _named(params))]


def _named(params: AutoCropParams) -> list[tuple[str, str]]:
    """(path, class) of every subject that is a class."""
    subjects = [("params.subject", params.subject)]
    subjects += [
        (f"params.overrides.{index}.subject", one.subject)
        for index, one in enumerate(params.overrides)
    ]
    return [(path, name) for path, name in subjects if isinstance(name, str) and name != "auto"]


def _at_its_path(error: TaskError, params: AutoCropParams) -> TaskError:
    """The detector's refusal of a class, named where the caller wrote it."""
    path = str(error.details.get("path", ""))
    given = len(classes_for(params.model, params.classes))
    index = parse_integer(path.removeprefix("params.classes."), least=given)
    if index is None:
        return error
    own = _named(params)[index - given][0]
    return TaskError(
        error.code, error.message.replace(path, own), path=own, nearest=error.details.get("nearest")
    )


PROCESSOR = AutoCropProcessor()
