"""A queued job as the worker's own kind: its keys presigned with the worker's key pair, run like a
job of an endpoint, its answer made a result of the queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_client._retry import Timing
from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol import Progress
from gpu_worker_client.protocol.errors import ErrorBody, ErrorCode
from gpu_worker_client.protocol.http import DEFAULT_EXPIRES_SECONDS
from gpu_worker_client.queue.documents import Manifest, ResultDocument, StatusDocument
from gpu_worker_client.queue.keys import output_key, status_key
from gpu_worker_client.queue.lease import Lease
from gpu_worker_client.queue.states import QueueState
from gpu_worker_client.queue.store import Store
from gpu_worker_client.storage import Storage

STATUS_SECONDS = 5.0
"""Least time between two writes of a job's progress. Readers poll every 10 seconds, and R2 takes
one write a second and bills each: one of these is 0.3 cents an hour."""
MAX_RESULT_BYTES = 256 * 1024**2
"""Of one results object: some 35 million boxes in columns."""
OnProgress = Callable[[str, Progress], object]
"""Called with a job's id and what it reports."""


def pull_settings(settings: Settings, storage: Storage) -> Settings:
    """The worker's settings for jobs of this bucket: it reaches no other host, and no platform
    limits an answer."""
    url = urlsplit(storage.endpoint_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    return replace(
        settings,
        allowed_hosts=(url.hostname or "",),
        exempt_hosts=frozenset({f"{url.hostname}:{port}"}),  # the operator chose it
        max_answer_bytes=MAX_RESULT_BYTES,
        bucket=None,
    )


@dataclass(frozen=True)
class Performer:
    """See `pull.Perform`."""

    worker: Worker
    storage: Storage
    store: Store
    timing: Timing
    on_progress: OnProgress

    async def __call__(self, lease: Lease, manifest: Manifest) -> ResultDocument:
        written = None
        if manifest.output is not None:
            written = output_key(lease.job_id, lease.attempt, lease.nonce, manifest.output)
        sender = _StatusSender(self, lease)
        job = {"id": lease.job_id, "input": task_json(manifest, written, self.storage)}
        return result_of(lease.job_id, await self.worker.handle(job, sender.send), written)


def task_json(manifest: Manifest, written: str | None, storage: Storage) -> dict[str, Any]:
    """The task with presigned URLs. What does not fit its schema, the worker says."""
    task: dict[str, Any] = {
        "task": manifest.task,
        "params": manifest.params,
        "idempotency_key": manifest.job_id,
    }
    for path, key in manifest.inputs.items():
        field, _, name = path.partition(".")
        url = storage.presign_get(storage.key(key), DEFAULT_EXPIRES_SECONDS)
        if name:
            task.setdefault(field, {})[name] = url
        else:
            task[field] = url
    if written is not None:
        task["output_url"] = storage.presign_put(storage.key(written), DEFAULT_EXPIRES_SECONDS)
    return task


def result_of(job_id: str, answer: dict[str, Any], written: str | None) -> ResultDocument:
    """What the queue stores of an answer."""
    if "error" in answer:
        code = ErrorCode.internal
        error = ErrorBody.from_wire(answer["error"]) or ErrorBody(
            code=code.value, message="the worker gave no reason", retryable=code.retryable
        )
        return ResultDocument(job_id=job_id, status=QueueState.failed, error=error)
    stats = answer.get("stats", {})
    frames = stats.get("total_frames", stats.get("frames_processed"))
    return ResultDocument(job_id=job_id, frames_processed=frames, result=answer, output_key=written)


class _StatusSender:
    """Progress of one attempt into its status object."""

    def __init__(self, performer: Performer, lease: Lease) -> None:
        self._performer = performer
        self._lease = lease
        self._sent_at: float | None = None

    async def send(self, report: dict[str, object]) -> None:
        performer, job_id = self._performer, self._lease.job_id
        progress = Progress.model_validate(report)
        performer.on_progress(job_id, progress)
        now = performer.timing.clock()
        if self._sent_at is not None and now - self._sent_at < STATUS_SECONDS:
            return
        self._sent_at = now
        status = StatusDocument(
            job_id=job_id,
            attempt=self._lease.attempt,
            current=progress.done,
            total=progress.total,
            unit=progress.unit,
            message=progress.stage,
            progress=progress.model_dump(mode="json"),
            updated_at=performer.timing.now(),
        )
        try:
            await performer.store.put(status_key(job_id), status.to_bytes())
        except StorageError:
            return  # the next report is as good
