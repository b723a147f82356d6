"""The table of tasks: name on the wire -> its module and the names in it.

All else follows from a row: `gpu_worker_client.protocol` offers the names; processor, demo panel
and benchmark are found by the module's name. processors/ADDING.md lists what a new task needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # for type checkers; a program imports a task's module when it names the task
    from gpu_worker_client.protocol.auto_crop import *
    from gpu_worker_client.protocol.beat import *
    from gpu_worker_client.protocol.detect_scenes import *
    from gpu_worker_client.protocol.render import *
    from gpu_worker_client.protocol.result import TaskResult
    from gpu_worker_client.protocol.selftest import *
    from gpu_worker_client.protocol.task import RequestModel, TaskBase
    from gpu_worker_client.protocol.track import *
    from gpu_worker_client.protocol.upscale import *


class TaskKind(NamedTuple):
    """The models of a task. Their module is imported when one is first asked for: a client needs
    those of one task, and making those of all takes a sixth of its import."""

    module: str
    request_name: str
    params_name: str
    result_name: str
    more_names: str = ""
    """The module's other public names, with blanks between. All of them are its `__all__`."""

    @property
    def public_names(self) -> list[str]:
        return [self.request_name, self.params_name, self.result_name, *self.more_names.split()]

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
    "upscale": TaskKind("upscale", "UpscaleTask", "UpscaleParams", "UpscaleResult", "UpscaleStats"),
    "detect_scenes": TaskKind(
        "detect_scenes",
        "DetectScenesTask",
        "DetectScenesParams",
        "DetectScenesResult",
        "DetectScenesStats Scene",
    ),
    "track": TaskKind(
        "track",
        "TrackTask",
        "TrackParams",
        "TrackResult",
        "TrackStats Track TrackBox TrackCut TrackFrames TrackState TrackVideo",
    ),
    "auto_crop": TaskKind(
        "auto_crop",
        "AutoCropTask",
        "AutoCropParams",
        "AutoCropResult",
        "AutoCropStats CropKeyframe CropOverride CropSegment CropSubject CropWindow",
    ),
    "beat": TaskKind(
        "beat",
        "BeatTask",
        "BeatParams",
        "BeatResult",
        "BeatStats Energy TempoCandidate save_analysis",
    ),
    "render": TaskKind("render", "RenderTask", "RenderParams", "RenderResult", "RenderStats"),
    "selftest": TaskKind(
        "selftest", "SelftestTask", "SelftestParams", "SelftestResult", "ProcessorCheck"
    ),
}
"""Every task, by its name on the wire."""
