"""The wire: every task, parameter, result and error, declared once. Client, processors and worker
all import it.

A task's own names are loaded when first used: a client needs those of one task, and pydantic takes
half a millisecond a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_worker_client._lazy import loader
from gpu_worker_client.protocol.envelope import (
    MAX_PARTS,
    MIN_PART_BYTES,
    SCHEMA_VERSION,
    CompleteUpload,
    Cost,
    FileTask,
    InputTask,
    OptionalFileTask,
    OutputMultipart,
    OutputPart,
    OutputTask,
    Progress,
    ResultWarning,
    State,
    Stats,
    TaskBase,
    TaskHeaders,
    TaskResult,
    Timings,
    UploadPart,
    WorkerInfo,
    same_object,
)
from gpu_worker_client.protocol.errors import ErrorBody, ErrorCode, Stage, TaskError
from gpu_worker_client.protocol.models import AnsweredBy, Reply, Url, Wire
from gpu_worker_client.protocol.tasks import MAX_TASK_BYTES, TASKS, TaskKind, parse_task

if TYPE_CHECKING:
    from gpu_worker_client.protocol.auto_crop import (
        AutoCropParams,
        AutoCropResult,
        AutoCropStats,
        AutoCropTask,
        CropKeyframe,
        CropOverride,
        CropSegment,
        CropSubject,
        CropWindow,
    )
    from gpu_worker_client.protocol.beat import (
        BeatParams,
        BeatResult,
        BeatStats,
        BeatTask,
        Energy,
        TempoCandidate,
        save_analysis,
    )
    from gpu_worker_client.protocol.boxes import TrackBox, TrackFrames
    from gpu_worker_client.protocol.detect_scenes import (
        DetectScenesParams,
        DetectScenesResult,
        DetectScenesStats,
        DetectScenesTask,
        Scene,
    )
    from gpu_worker_client.protocol.render import (
        RenderParams,
        RenderResult,
        RenderStats,
        RenderTask,
    )
    from gpu_worker_client.protocol.selftest import (
        ProcessorCheck,
        SelftestParams,
        SelftestResult,
        SelftestTask,
    )
    from gpu_worker_client.protocol.track import (
        Track,
        TrackCut,
        TrackParams,
        TrackResult,
        TrackState,
        TrackStats,
        TrackTask,
        TrackVideo,
    )
    from gpu_worker_client.protocol.upscale import (
        UpscaleParams,
        UpscaleResult,
        UpscaleStats,
        UpscaleTask,
    )

__all__ = [
    "MAX_PARTS",
    "MAX_TASK_BYTES",
    "MIN_PART_BYTES",
    "SCHEMA_VERSION",
    "TASKS",
    "AnsweredBy",
    "AutoCropParams",
    "AutoCropResult",
    "AutoCropStats",
    "AutoCropTask",
    "BeatParams",
    "BeatResult",
    "BeatStats",
    "BeatTask",
    "CompleteUpload",
    "Cost",
    "CropKeyframe",
    "CropOverride",
    "CropSegment",
    "CropSubject",
    "CropWindow",
    "DetectScenesParams",
    "DetectScenesResult",
    "DetectScenesStats",
    "DetectScenesTask",
    "Energy",
    "ErrorBody",
    "ErrorCode",
    "FileTask",
    "InputTask",
    "OptionalFileTask",
    "OutputMultipart",
    "OutputPart",
    "OutputTask",
    "ProcessorCheck",
    "Progress",
    "RenderParams",
    "RenderResult",
    "RenderStats",
    "RenderTask",
    "Reply",
    "ResultWarning",
    "Scene",
    "SelftestParams",
    "SelftestResult",
    "SelftestTask",
    "Stage",
    "State",
    "Stats",
    "TaskBase",
    "TaskError",
    "TaskHeaders",
    "TaskKind",
    "TaskResult",
    "TempoCandidate",
    "Timings",
    "Track",
    "TrackBox",
    "TrackCut",
    "TrackFrames",
    "TrackParams",
    "TrackResult",
    "TrackState",
    "TrackStats",
    "TrackTask",
    "TrackVideo",
    "UploadPart",
    "UpscaleParams",
    "UpscaleResult",
    "UpscaleStats",
    "UpscaleTask",
    "Url",
    "Wire",
    "WorkerInfo",
    "parse_task",
    "same_object",
    "save_analysis",
]

_HOMES = ("upscale", "detect_scenes", "boxes", "track", "auto_crop", "beat", "render", "selftest")
"""Modules of the tasks, in the order of their imports."""

__getattr__ = loader(__name__, __all__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
