"""Thin client SDK for the GPU video worker. Three verbs for a newcomer: `Client.run`,
`Client.submit`, `Client.job`; `AsyncClient` has the same.

The tasks and their results are in `gpu_worker_client.protocol`. Names are loaded when first used,
so importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_worker_client._retry import Timing as Timing
    from gpu_worker_client.async_client import AsyncClient as AsyncClient
    from gpu_worker_client.async_client import AsyncJob as AsyncJob
    from gpu_worker_client.async_client import Outcome as Outcome
    from gpu_worker_client.client import Client as Client
    from gpu_worker_client.client import Job as Job
    from gpu_worker_client.commands import create_nvenc_command as create_nvenc_command
    from gpu_worker_client.errors import APIConnectionError as APIConnectionError
    from gpu_worker_client.errors import APIError as APIError
    from gpu_worker_client.errors import AuthenticationError as AuthenticationError
    from gpu_worker_client.errors import ConfigError as ConfigError
    from gpu_worker_client.errors import NotFoundError as NotFoundError
    from gpu_worker_client.errors import PayloadTooLargeError as PayloadTooLargeError
    from gpu_worker_client.errors import RateLimitError as RateLimitError
    from gpu_worker_client.errors import ServerError as ServerError
    from gpu_worker_client.errors import StorageError as StorageError
    from gpu_worker_client.errors import WaitTimeout as WaitTimeout
    from gpu_worker_client.errors import WebhookError as WebhookError
    from gpu_worker_client.events import ColdStart as ColdStart
    from gpu_worker_client.events import Event as Event
    from gpu_worker_client.events import Finished as Finished
    from gpu_worker_client.events import ProgressEvent as ProgressEvent
    from gpu_worker_client.events import Queued as Queued
    from gpu_worker_client.events import Started as Started
    from gpu_worker_client.filejobs import AutoCropJob as AutoCropJob
    from gpu_worker_client.filejobs import BeatAnalysisJob as BeatAnalysisJob
    from gpu_worker_client.filejobs import FFmpegRenderJob as FFmpegRenderJob
    from gpu_worker_client.filejobs import JobResult as JobResult
    from gpu_worker_client.filejobs import SceneDetectionJob as SceneDetectionJob
    from gpu_worker_client.filejobs import TrackJob as TrackJob
    from gpu_worker_client.filejobs import UpscaleJob as UpscaleJob
    from gpu_worker_client.filejobs import execute_all as execute_all
    from gpu_worker_client.filejobs import is_available as is_available
    from gpu_worker_client.filejobs import worth_it as worth_it
    from gpu_worker_client.files.transfer import Transfer as Transfer
    from gpu_worker_client.many import JobManager as JobManager
    from gpu_worker_client.many import JobOutcome as JobOutcome
    from gpu_worker_client.many import JobSummary as JobSummary
    from gpu_worker_client.policy import Policy as Policy
    from gpu_worker_client.progress_bar import ProgressBar as ProgressBar
    from gpu_worker_client.protocol import ErrorCode as ErrorCode
    from gpu_worker_client.protocol import Progress as Progress
    from gpu_worker_client.protocol import State as State
    from gpu_worker_client.protocol import TaskResult as TaskResult
    from gpu_worker_client.protocol.errors import GpuWorkerError as GpuWorkerError
    from gpu_worker_client.protocol.errors import InputUnavailable as InputUnavailable
    from gpu_worker_client.protocol.errors import InvalidTask as InvalidTask
    from gpu_worker_client.protocol.errors import JobCancelled as JobCancelled
    from gpu_worker_client.protocol.errors import JobError as JobError
    from gpu_worker_client.protocol.errors import JobExpired as JobExpired
    from gpu_worker_client.protocol.errors import JobTimedOut as JobTimedOut
    from gpu_worker_client.protocol.errors import LimitExceeded as LimitExceeded
    from gpu_worker_client.protocol.errors import OutOfMemory as OutOfMemory
    from gpu_worker_client.protocol.errors import OutputRejected as OutputRejected
    from gpu_worker_client.protocol.errors import OutputUploadFailed as OutputUploadFailed
    from gpu_worker_client.protocol.errors import ResourceExhausted as ResourceExhausted
    from gpu_worker_client.protocol.errors import ResultLost as ResultLost
    from gpu_worker_client.protocol.errors import ResultUnreadable as ResultUnreadable
    from gpu_worker_client.protocol.errors import StorageUnavailable as StorageUnavailable
    from gpu_worker_client.protocol.errors import SubmitInDoubt as SubmitInDoubt
    from gpu_worker_client.protocol.errors import UnsupportedMedia as UnsupportedMedia
    from gpu_worker_client.protocol.errors import UnsupportedTask as UnsupportedTask
    from gpu_worker_client.protocol.errors import UrlRefused as UrlRefused
    from gpu_worker_client.protocol.errors import WeightsUnavailable as WeightsUnavailable
    from gpu_worker_client.protocol.errors import WorkerFault as WorkerFault
    from gpu_worker_client.protocol.errors import WorkerUnsuitable as WorkerUnsuitable
    from gpu_worker_client.status import JobStatus as JobStatus
    from gpu_worker_client.storage import Storage as Storage
    from gpu_worker_client.tracks import tracks_to_mot as tracks_to_mot
    from gpu_worker_client.webhooks import WebhookEvent as WebhookEvent
    from gpu_worker_client.webhooks import unwrap as unwrap

_NAMES = {
    "_retry": "Timing",
    "async_client": "AsyncClient AsyncJob Outcome",
    "client": "Client Job",
    "commands": "create_nvenc_command",
    "errors": (
        "APIConnectionError APIError AuthenticationError ConfigError NotFoundError"
        " PayloadTooLargeError RateLimitError ServerError StorageError WaitTimeout"
        " WebhookError"
    ),
    "events": "ColdStart Event Finished ProgressEvent Queued Started",
    "filejobs": (
        "AutoCropJob BeatAnalysisJob FFmpegRenderJob JobResult SceneDetectionJob TrackJob"
        " UpscaleJob execute_all is_available worth_it"
    ),
    "files.transfer": "Transfer",
    "many": "JobManager JobOutcome JobSummary",
    "policy": "Policy",
    "progress_bar": "ProgressBar",
    "protocol": "ErrorCode Progress State TaskResult",
    "protocol.errors": (
        "GpuWorkerError InputUnavailable InvalidTask JobCancelled JobError JobExpired"
        " JobTimedOut LimitExceeded OutOfMemory OutputRejected OutputUploadFailed"
        " ResourceExhausted ResultLost ResultUnreadable StorageUnavailable SubmitInDoubt"
        " UnsupportedMedia UnsupportedTask UrlRefused WeightsUnavailable WorkerFault"
        " WorkerUnsuitable"
    ),
    "status": "JobStatus",
    "storage": "Storage",
    "tracks": "tracks_to_mot",
    "webhooks": "WebhookEvent unwrap",
}
"""Every public name, under the module that is loaded when it is first used."""
_MODULES = dict(sorted((name, file) for file, names in _NAMES.items() for name in names.split()))

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
