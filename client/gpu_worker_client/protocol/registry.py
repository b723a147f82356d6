"""The table of tasks: name on the wire -> its module and models.

All else follows from a row: processor, demo panel and benchmark are found by the module's name.
processors/ADDING.md lists what a new task needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # a program imports a task's module when it names the task
    from gpu_worker_client.protocol.result import TaskResult
    from gpu_worker_client.protocol.task import RequestModel, TaskBase


class TaskKind(NamedTuple):
    """The models of a task. Their module is imported when one is first asked for: a client needs
    those of one task, and making those of all takes a sixth of its import."""

    module: str
    request_name: str
    params_name: str
    result_name: str

    @property
    def request(self) -> type[TaskBase]:
        return self._model(self.request_name)

    @property
    def params(self) -> type[RequestModel]:
        return self._model(self.params_name)

    @property
    def result(self) -> type[TaskResult]:
        return self._model(self.result_name)

    def _model(self, name: str) -> Any:
        return getattr(import_module(f"{__package__}.{self.module}"), name)


TASKS: dict[str, TaskKind] = {
    "upscale": TaskKind("upscale", "UpscaleTask", "UpscaleParams", "UpscaleResult"),
    "detect_scenes": TaskKind(
        "detect_scenes", "DetectScenesTask", "DetectScenesParams", "DetectScenesResult"
    ),
    "track": TaskKind("track", "TrackTask", "TrackParams", "TrackResult"),
    "auto_crop": TaskKind("auto_crop", "AutoCropTask", "AutoCropParams", "AutoCropResult"),
    "beat": TaskKind("beat", "BeatTask", "BeatParams", "BeatResult"),
    "render": TaskKind("render", "RenderTask", "RenderParams", "RenderResult"),
    "selftest": TaskKind("selftest", "SelftestTask", "SelftestParams", "SelftestResult"),
}
"""Every task, by its name on the wire."""
