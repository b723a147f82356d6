"""The event that a worker POSTs to a task's `webhook_url` when the job has ended.
`gpu_worker_client.webhooks` signs it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gpu_worker_client.protocol.base import ResponseModel
from gpu_worker_client.protocol.errors import ErrorBody

JOB_COMPLETED = "job.completed"
JOB_FAILED = "job.failed"


class WebhookData(ResponseModel):
    """What became of one job."""

    job_id: str
    """The endpoint's id of it: `Client.job(job_id)`."""
    task: str
    """The task that was run."""
    state: str
    """"completed" or "failed"."""
    idempotency_key: str | None = None
    """The task's own."""
    result: dict[str, Any] | None = None
    """The answer of a completed job; no URL in it has a query."""
    partial: bool = False
    """The result was too large for an event: it holds `stats` and what every result has; the job
    itself has the rest."""
    error: ErrorBody | None = None
    """Why the job failed."""


class WebhookBody(ResponseModel):
    """The event's JSON, in the form that Standard Webhooks recommends."""

    type: str
    """`JOB_COMPLETED` or `JOB_FAILED`."""
    timestamp: datetime
    """When the job ended."""
    data: WebhookData
