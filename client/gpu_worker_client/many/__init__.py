"""Many jobs on one endpoint, and the file that remembers them."""

from __future__ import annotations

from gpu_worker_client.many.manager import JobManager
from gpu_worker_client.many.state_file import JobOutcome, JobSummary

__all__ = ["JobManager", "JobOutcome", "JobSummary"]
