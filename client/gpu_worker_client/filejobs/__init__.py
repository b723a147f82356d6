"""Tasks on files as objects, and whether they run on the endpoint or on this machine."""

from __future__ import annotations

from gpu_worker_client.filejobs.choose import is_available, worth_it
from gpu_worker_client.filejobs.jobs import (
    AutoCropJob,
    BeatAnalysisJob,
    FFmpegRenderJob,
    JobResult,
    SceneDetectionJob,
    TrackJob,
    UpscaleJob,
    execute_all,
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
