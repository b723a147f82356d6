"""The wire: every task, parameter, result and error, declared once. Client, processors and worker
all import it.

A name's module is loaded when the name is first used: a client needs the models of one task, and
pydantic takes half a millisecond a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gpu_worker_client.protocol.registry import TASKS as TASKS
from gpu_worker_client.protocol.registry import TaskKind as TaskKind

if TYPE_CHECKING:
    from gpu_worker_client.protocol.base import AnsweredBy as AnsweredBy
    from gpu_worker_client.protocol.base import ResponseModel as ResponseModel
    from gpu_worker_client.protocol.base import Url as Url
    from gpu_worker_client.protocol.errors import ErrorBody as ErrorBody
    from gpu_worker_client.protocol.errors import ErrorCode as ErrorCode
    from gpu_worker_client.protocol.errors import Stage as Stage
    from gpu_worker_client.protocol.errors import TaskError as TaskError
    from gpu_worker_client.protocol.parse import MAX_TASK_BYTES as MAX_TASK_BYTES
    from gpu_worker_client.protocol.parse import parse_task as parse_task
    from gpu_worker_client.protocol.registry import *
    from gpu_worker_client.protocol.result import Cost as Cost
    from gpu_worker_client.protocol.result import OutputPart as OutputPart
    from gpu_worker_client.protocol.result import Progress as Progress
    from gpu_worker_client.protocol.result import ResultWarning as ResultWarning
    from gpu_worker_client.protocol.result import State as State
    from gpu_worker_client.protocol.result import Stats as Stats
    from gpu_worker_client.protocol.result import TaskResult as TaskResult
    from gpu_worker_client.protocol.result import Timings as Timings
    from gpu_worker_client.protocol.result import WorkerInfo as WorkerInfo
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

_SHARED = {
    "base": "AnsweredBy ResponseModel Url",
    "errors": "ErrorBody ErrorCode Stage TaskError",
    "parse": "MAX_TASK_BYTES parse_task",
    "result": "Cost OutputPart Progress ResultWarning State Stats TaskResult Timings WorkerInfo",
    "task": (
        "MAX_PARTS MIN_PART_BYTES SCHEMA_VERSION CompleteUpload FileTask InputTask OptionalFileTask"
        " OutputMultipart OutputTask RequestModel TaskBase TaskHeaders UploadPart same_object"
    ),
    "registry": "TASKS TaskKind",
}
"""Module -> those of its names that are public; the tasks' own stand in `TASKS`."""
_MODULES = {name: module for module, names in _SHARED.items() for name in names.split()}
for _kind in TASKS.values():
    _MODULES.update(dict.fromkeys(_kind.public_names, _kind.module))

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
