"""Many jobs on one endpoint, and the file that remembers them."""

from __future__ import annotations

from gpu_worker_client.many.manager import JobManager, JobOutcome, JobSummary

__all__ = ["JobManager", "JobOutcome", "JobSummary"]
