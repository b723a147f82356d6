"""Tasks on files as objects, and whether they run on the endpoint or on this machine."""

from __future__ import annotations

from gpu_worker_client.filejobs.choose import is_available
from gpu_worker_client.filejobs.history import worth_it
from gpu_worker_client.filejobs.job import JobResult, execute_all
from gpu_worker_client.filejobs.jobs import (
    AutoCropJob,
    BeatAnalysisJob,
    FFmpegRenderJob,
    SceneDetectionJob,
    TrackJob,
    UpscaleJob,
)

__all__ = [
    "AutoCropJob",
    "BeatAnalysisJob",
    "FFmpegRenderJob",
    "JobResult",
    "SceneDetectionJob",
    "TrackJob",
    "UpscaleJob",
    "execute_all",
    "is_available",
    "worth_it",
]
