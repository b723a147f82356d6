"""Thin client SDK for the GPU video worker. Three verbs for a newcomer: `Client.run`,
`Client.submit`, `Client.job`; `AsyncClient` has the same.

The tasks and their results are in `gpu_worker_client.protocol`. Names are loaded when first used,
so importing this package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_worker_client._lazy import loader

if TYPE_CHECKING:
    from gpu_worker_client._timing import Timing
    from gpu_worker_client.async_client import AsyncClient, AsyncJob
    from gpu_worker_client.client import Client
    from gpu_worker_client.commands import create_nvenc_command
    from gpu_worker_client.events import ColdStart, Event, Finished, ProgressEvent, Queued, Started
    from gpu_worker_client.exceptions import (
        APIConnectionError,
        APIError,
        AuthenticationError,
        ConfigError,
        GpuWorkerError,
        InputUnavailable,
        InvalidTask,
        JobCancelled,
        JobError,
        JobExpired,
        JobTimedOut,
        LimitExceeded,
        NotFoundError,
        OutOfMemory,
        OutputRejected,
        OutputUploadFailed,
        PayloadTooLargeError,
        RateLimitError,
        ResourceExhausted,
        ResultLost,
        ResultUnreadable,
        ServerError,
        StorageError,
        StorageUnavailable,
        SubmitInDoubt,
        UnsupportedMedia,
        UnsupportedTask,
        UrlRefused,
        WaitTimeout,
        WebhookError,
        WeightsUnavailable,
        WorkerFault,
        WorkerUnsuitable,
    )
    from gpu_worker_client.fallback import is_available, worth_it
    from gpu_worker_client.files.transfer import Transfer
    from gpu_worker_client.job import Job
    from gpu_worker_client.jobs import (
        AutoCropJob,
        BeatAnalysisJob,
        FFmpegRenderJob,
        JobResult,
        SceneDetectionJob,
        TrackJob,
        UpscaleJob,
        execute_all,
    )
    from gpu_worker_client.manager import JobManager, JobOutcome, JobSummary
    from gpu_worker_client.outcome import Outcome
    from gpu_worker_client.policy import Policy
    from gpu_worker_client.progress_bar import ProgressBar
    from gpu_worker_client.protocol import ErrorCode, Progress, State, TaskResult
    from gpu_worker_client.status import JobStatus
    from gpu_worker_client.storage import Storage
    from gpu_worker_client.tracks import tracks_to_mot
    from gpu_worker_client.webhooks import WebhookEvent, unwrap

__all__ = [
    "APIConnectionError",
    "APIError",
    "AsyncClient",
    "AsyncJob",
    "AuthenticationError",
    "AutoCropJob",
    "BeatAnalysisJob",
    "Client",
    "ColdStart",
    "ConfigError",
    "ErrorCode",
    "Event",
    "FFmpegRenderJob",
    "Finished",
    "GpuWorkerError",
    "InputUnavailable",
    "InvalidTask",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobManager",
    "JobOutcome",
    "JobResult",
    "JobStatus",
    "JobSummary",
    "JobTimedOut",
    "LimitExceeded",
    "NotFoundError",
    "OutOfMemory",
    "Outcome",
    "OutputRejected",
    "OutputUploadFailed",
    "PayloadTooLargeError",
    "Policy",
    "Progress",
    "ProgressBar",
    "ProgressEvent",
    "Queued",
    "RateLimitError",
    "ResourceExhausted",
    "ResultLost",
    "ResultUnreadable",
    "SceneDetectionJob",
    "ServerError",
    "Started",
    "State",
    "Storage",
    "StorageError",
    "StorageUnavailable",
    "SubmitInDoubt",
    "TaskResult",
    "Timing",
    "TrackJob",
    "Transfer",
    "UnsupportedMedia",
    "UnsupportedTask",
    "UpscaleJob",
    "UrlRefused",
    "WaitTimeout",
    "WebhookError",
    "WebhookEvent",
    "WeightsUnavailable",
    "WorkerFault",
    "WorkerUnsuitable",
    "create_nvenc_command",
    "execute_all",
    "is_available",
    "tracks_to_mot",
    "unwrap",
    "worth_it",
]

_HOMES = (
    "exceptions",
    "protocol",
    "status",
    "_timing",
    "events",
    "policy",
    "outcome",
    "job",
    "client",
    "async_client",
    "storage",
    "files.transfer",
    "progress_bar",
    "fallback",
    "jobs",
    "tracks",
    "commands",
    "webhooks",
    "manager",
)
"""Modules that hold the public names, in the order of their imports."""

__getattr__ = loader(__name__, __all__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
