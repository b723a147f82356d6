"""The wire: every task, parameter, result and error, declared once. Client, processors and worker
all import it.

A task's own names are loaded when first used: a client needs those of one task, and pydantic takes
half a millisecond a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_worker_client.protocol.auto_crop import AutoCropParams as AutoCropParams
    from gpu_worker_client.protocol.auto_crop import AutoCropResult as AutoCropResult
    from gpu_worker_client.protocol.auto_crop import AutoCropStats as AutoCropStats
    from gpu_worker_client.protocol.auto_crop import AutoCropTask as AutoCropTask
    from gpu_worker_client.protocol.auto_crop import CropKeyframe as CropKeyframe
    from gpu_worker_client.protocol.auto_crop import CropOverride as CropOverride
    from gpu_worker_client.protocol.auto_crop import CropSegment as CropSegment
    from gpu_worker_client.protocol.auto_crop import CropSubject as CropSubject
    from gpu_worker_client.protocol.auto_crop import CropWindow as CropWindow
    from gpu_worker_client.protocol.base import AnsweredBy as AnsweredBy
    from gpu_worker_client.protocol.base import ResponseModel as ResponseModel
    from gpu_worker_client.protocol.base import Url as Url
    from gpu_worker_client.protocol.beat import BeatParams as BeatParams
    from gpu_worker_client.protocol.beat import BeatResult as BeatResult
    from gpu_worker_client.protocol.beat import BeatStats as BeatStats
    from gpu_worker_client.protocol.beat import BeatTask as BeatTask
    from gpu_worker_client.protocol.beat import Energy as Energy
    from gpu_worker_client.protocol.beat import TempoCandidate as TempoCandidate
    from gpu_worker_client.protocol.beat import save_analysis as save_analysis
    from gpu_worker_client.protocol.boxes.sequence import TrackBox as TrackBox
    from gpu_worker_client.protocol.boxes.sequence import TrackFrames as TrackFrames
    from gpu_worker_client.protocol.detect_scenes import DetectScenesParams as DetectScenesParams
    from gpu_worker_client.protocol.detect_scenes import DetectScenesResult as DetectScenesResult
    from gpu_worker_client.protocol.detect_scenes import DetectScenesStats as DetectScenesStats
    from gpu_worker_client.protocol.detect_scenes import DetectScenesTask as DetectScenesTask
    from gpu_worker_client.protocol.detect_scenes import Scene as Scene
    from gpu_worker_client.protocol.errors import ErrorBody as ErrorBody
    from gpu_worker_client.protocol.errors import ErrorCode as ErrorCode
    from gpu_worker_client.protocol.errors import Stage as Stage
    from gpu_worker_client.protocol.errors import TaskError as TaskError
    from gpu_worker_client.protocol.parse import MAX_TASK_BYTES as MAX_TASK_BYTES
    from gpu_worker_client.protocol.parse import parse_task as parse_task
    from gpu_worker_client.protocol.registry import TASKS as TASKS
    from gpu_worker_client.protocol.registry import TaskKind as TaskKind
    from gpu_worker_client.protocol.render import RenderParams as RenderParams
    from gpu_worker_client.protocol.render import RenderResult as RenderResult
    from gpu_worker_client.protocol.render import RenderStats as RenderStats
    from gpu_worker_client.protocol.render import RenderTask as RenderTask
    from gpu_worker_client.protocol.result import Cost as Cost
    from gpu_worker_client.protocol.result import OutputPart as OutputPart
    from gpu_worker_client.protocol.result import Progress as Progress
    from gpu_worker_client.protocol.result import ResultWarning as ResultWarning
    from gpu_worker_client.protocol.result import State as State
    from gpu_worker_client.protocol.result import Stats as Stats
    from gpu_worker_client.protocol.result import TaskResult as TaskResult
    from gpu_worker_client.protocol.result import Timings as Timings
    from gpu_worker_client.protocol.result import WorkerInfo as WorkerInfo
    from gpu_worker_client.protocol.selftest import ProcessorCheck as ProcessorCheck
    from gpu_worker_client.protocol.selftest import SelftestParams as SelftestParams
    from gpu_worker_client.protocol.selftest import SelftestResult as SelftestResult
    from gpu_worker_client.protocol.selftest import SelftestTask as SelftestTask
    from gpu_worker_client.protocol.task import MAX_PARTS as MAX_PARTS
    from gpu_worker_client.protocol.task import MIN_PART_BYTES as MIN_PART_BYTES
    from gpu_worker_client.protocol.task import SCHEMA_VERSION as SCHEMA_VERSION
    from gpu_worker_client.protocol.task import CompleteUpload as CompleteUpload
    from gpu_worker_client.protocol.task import FileTask as FileTask
    from gpu_worker_client.protocol.task import InputTask as InputTask
    from gpu_worker_client.protocol.task import OptionalFileTask as OptionalFileTask
    from gpu_worker_client.protocol.task import OutputMultipart as OutputMultipart
    from gpu_worker_client.protocol.task import OutputTask as OutputTask
    from gpu_worker_client.protocol.task import RequestModel as RequestModel
    from gpu_worker_client.protocol.task import TaskBase as TaskBase
    from gpu_worker_client.protocol.task import TaskHeaders as TaskHeaders
    from gpu_worker_client.protocol.task import UploadPart as UploadPart
    from gpu_worker_client.protocol.task import same_object as same_object
    from gpu_worker_client.protocol.track import Track as Track
    from gpu_worker_client.protocol.track import TrackCut as TrackCut
    from gpu_worker_client.protocol.track import TrackParams as TrackParams
    from gpu_worker_client.protocol.track import TrackResult as TrackResult
    from gpu_worker_client.protocol.track import TrackState as TrackState
    from gpu_worker_client.protocol.track import TrackStats as TrackStats
    from gpu_worker_client.protocol.track import TrackTask as TrackTask
    from gpu_worker_client.protocol.track import TrackVideo as TrackVideo
    from gpu_worker_client.protocol.upscale import UpscaleParams as UpscaleParams
    from gpu_worker_client.protocol.upscale import UpscaleResult as UpscaleResult
    from gpu_worker_client.protocol.upscale import UpscaleStats as UpscaleStats
    from gpu_worker_client.protocol.upscale import UpscaleTask as UpscaleTask

_MODULES = {
    "MAX_PARTS": "task",
    "MAX_TASK_BYTES": "parse",
    "MIN_PART_BYTES": "task",
    "SCHEMA_VERSION": "task",
    "TASKS": "registry",
    "AnsweredBy": "base",
    "AutoCropParams": "auto_crop",
    "AutoCropResult": "auto_crop",
    "AutoCropStats": "auto_crop",
    "AutoCropTask": "auto_crop",
    "BeatParams": "beat",
    "BeatResult": "beat",
    "BeatStats": "beat",
    "BeatTask": "beat",
    "CompleteUpload": "task",
    "Cost": "result",
    "CropKeyframe": "auto_crop",
    "CropOverride": "auto_crop",
    "CropSegment": "auto_crop",
    "CropSubject": "auto_crop",
    "CropWindow": "auto_crop",
    "DetectScenesParams": "detect_scenes",
    "DetectScenesResult": "detect_scenes",
    "DetectScenesStats": "detect_scenes",
    "DetectScenesTask": "detect_scenes",
    "Energy": "beat",
    "ErrorBody": "errors",
    "ErrorCode": "errors",
    "FileTask": "task",
    "InputTask": "task",
    "OptionalFileTask": "task",
    "OutputMultipart": "task",
    "OutputPart": "result",
    "OutputTask": "task",
    "ProcessorCheck": "selftest",
    "Progress": "result",
    "RenderParams": "render",
    "RenderResult": "render",
    "RenderStats": "render",
    "RenderTask": "render",
    "RequestModel": "task",
    "ResponseModel": "base",
    "ResultWarning": "result",
    "Scene": "detect_scenes",
    "SelftestParams": "selftest",
    "SelftestResult": "selftest",
    "SelftestTask": "selftest",
    "Stage": "errors",
    "State": "result",
    "Stats": "result",
    "TaskBase": "task",
    "TaskError": "errors",
    "TaskHeaders": "task",
    "TaskKind": "registry",
    "TaskResult": "result",
    "TempoCandidate": "beat",
    "Timings": "result",
    "Track": "track",
    "TrackBox": "boxes.sequence",
    "TrackCut": "track",
    "TrackFrames": "boxes.sequence",
    "TrackParams": "track",
    "TrackResult": "track",
    "TrackState": "track",
    "TrackStats": "track",
    "TrackTask": "track",
    "TrackVideo": "track",
    "UploadPart": "task",
    "UpscaleParams": "upscale",
    "UpscaleResult": "upscale",
    "UpscaleStats": "upscale",
    "UpscaleTask": "upscale",
    "Url": "base",
    "WorkerInfo": "result",
    "parse_task": "parse",
    "same_object": "task",
    "save_analysis": "beat",
}
"""Every public name, and the module that is loaded when it is first used."""

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
