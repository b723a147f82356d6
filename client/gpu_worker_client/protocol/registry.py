"""The table of tasks: name on the wire -> its module and the model of its request.

All else follows from a row: the request says its parameters and its result; processor, demo panel
and benchmark are found by the module's name. processors/ADDING.md lists what a new task needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from typing_extensions import get_original_bases

from gpu_worker_client.protocol.base import AnsweredBy
from gpu_worker_client.protocol.result import TaskResult

if TYPE_CHECKING:  # a program imports a task's module when it names the task
    from gpu_worker_client.protocol.task import RequestModel, TaskBase


class TaskKind(NamedTuple):
    """The models of a task. Their module is imported when one is first asked for: a client needs
    those of one task, and making those of all takes a sixth of its import."""

    module: str
    request_name: str

    @property
    def request(self) -> type[TaskBase]:
        return getattr(import_module(f"{__package__}.{self.module}"), self.request_name)

    @property
    def params(self) -> type[RequestModel]:
        params: Any = self.request.model_fields["params"].annotation
        return params

    @property
    def result(self) -> type[TaskResult]:
        bases = get_original_bases(self.request)
        return next(get_args(base)[0] for base in bases if get_origin(base) is AnsweredBy)


TASKS: dict[str, TaskKind] = {
    "upscale": TaskKind("upscale", "UpscaleTask"),
    "detect_scenes": TaskKind("detect_scenes", "DetectScenesTask"),
    "track": TaskKind("track", "TrackTask"),
    "auto_crop": TaskKind("auto_crop", "AutoCropTask"),
    "beat": TaskKind("beat", "BeatTask"),
    "render": TaskKind("render", "RenderTask"),
    "selftest": TaskKind("selftest", "SelftestTask"),
}
"""Every task, by its name on the wire."""


def result_model(task: object) -> type[TaskResult]:
    """The model of a task's result; `TaskResult` for a task that only a newer worker knows."""
    return TASKS[task].result if isinstance(task, str) and task in TASKS else TaskResult
