"""The queue of one endpoint as a state machine: who may do what to a job, and what time does to it.

Pure: no network, no thread, no clock of its own. Every method first lets time pass (`tick`), so an
answer never shows a job that should have timed out. Not thread-safe; the control plane calls it
from its event loop only.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any

from gpu_worker.devserver.clock import Clock
from gpu_worker.devserver.endpoint.job import Job, Status, WorkerRecord
from gpu_worker.devserver.limits import PlatformLimits, Policy


class UnknownJob(KeyError):
    """No such job, or it is gone: 404."""


class NotRetryable(Exception):
    """Only FAILED and TIMED_OUT jobs can be retried."""


class JobQueue:
    def __init__(self, limits: PlatformLimits, clock: Clock) -> None:
        self.limits = limits
        self.jobs: dict[str, Job] = {}
        self.workers: dict[str, WorkerRecord] = {}
        self.ready_workers: set[str] = set()
        """Every worker that has ever asked for a job."""
        self.retried = 0
        self.webhooks: list[tuple[str, dict[str, Any]]] = []
        """(URL, body) of finished jobs, for the control plane to take and send."""
        self.stopping: list[str] = []
        """Workers to be replaced, for the control plane to take."""
        self._queue: deque[str] = deque()
        self._clock = clock

    # What a caller does.

    def submit(self, request: Mapping[str, Any], *, sync: bool) -> Job:
        """Queues a request `{"input", "webhook"?, "policy"?, ...}`. Raises PolicyError."""
        self.tick()
        policy = Policy.parse(request.get("policy") or {}, self.limits)
        job_id = f"sync-{uuid.uuid4()}" if sync else f"{uuid.uuid4()}-u1"
        extra = {
            name: value
            for name, value in request.items()
            if name not in ("id", "input", "webhook", "policy")
        }
        job = Job(
            job_id, request["input"], policy, sync, self._clock(), request.get("webhook"), extra
        )
        job.enter(Status.IN_QUEUE)
        self.jobs[job_id] = job
        self._queue.append(job_id)
        return job

    def get(self, job_id: str) -> Job:
        self.tick()
        if job_id not in self.jobs:
            raise UnknownJob(job_id)
        return self.jobs[job_id]

    def cancel(self, job_id: str) -> Job:
        """Cancels a queued or running job; a finished one stays as it is."""
        job = self.get(job_id)
        if not job.status.is_final:
            self._end(job, Status.CANCELLED, {}, stop=True)
        return job

    def retry(self, job_id: str) -> Job:
        """Queues a failed job again under its id, with its first input."""
        job = self.get(job_id)
        if job.status not in (Status.FAILED, Status.TIMED_OUT):
            raise NotRetryable(
                f"job is {job.status.value}; only FAILED and TIMED_OUT jobs can be retried"
            )
        job.finished_at = None
        self._requeue(job, front=False)
        return job

    def purge(self) -> int:
        """Removes every queued job, returns how many. RunPod does not document their state; here it
        is CANCELLED."""
        self.tick()
        waiting = [self.jobs[job_id] for job_id in self._queue]
        for job in waiting:
            self._end(job, Status.CANCELLED, {}, stop=False)
        return len(waiting)

    def take_stream(self, job: Job) -> list[Any]:
        """The stream chunks that were not read yet, up to the size of one answer; each is given
        once."""
        chunks: list[Any] = []
        size = 0
        while job.stream and (
            not chunks or size + job.stream[0][1] <= self.limits.stream_chunk_bytes
        ):
            chunk, chunk_bytes = job.stream.popleft()
            chunks.append(chunk)
            size += chunk_bytes
        return chunks

    def health(self) -> dict[str, Any]:
        self.tick()
        statuses = [job.status for job in self.jobs.values()]
        running = sum(1 for worker in self.workers.values() if worker.running)
        idle = len(self.workers) - running
        return {
            "jobs": {
                "completed": statuses.count(Status.COMPLETED),
                "failed": statuses.count(Status.FAILED) + statuses.count(Status.TIMED_OUT),
                "inProgress": statuses.count(Status.IN_PROGRESS),
                "inQueue": statuses.count(Status.IN_QUEUE),
                "retried": self.retried,
            },
            "workers": {
                "idle": idle,
                "initializing": 0,
                "ready": idle,
                "running": running,
                "throttled": 0,
                "unhealthy": 0,
            },
        }

    # What a worker does.

    def seen(self, worker_id: str) -> WorkerRecord:
        """A sign of life."""
        worker = self.workers.setdefault(worker_id, WorkerRecord(worker_id, self._clock()))
        worker.last_seen = self._clock()
        return worker

    def take(self, worker_id: str, count: int = 1) -> list[Job]:
        """Hands out up to `count` queued jobs, oldest first."""
        worker = self.seen(worker_id)
        self.ready_workers.add(worker_id)
        self.tick()
        taken: list[Job] = []
        while self._queue and len(taken) < count and not worker.leaving:
            job = self.jobs[self._queue.popleft()]
            job.started_at, job.worker_id = self._clock(), worker_id
            job.deliveries += 1
            job.enter(Status.IN_PROGRESS)
            worker.running.add(job.id)
            taken.append(job)
        return taken

    def take_stops(self, worker_id: str) -> list[str]:
        worker = self.seen(worker_id)
        self.tick()
        stops, worker.to_stop = worker.to_stop, []
        return stops

    def progress(self, job_id: str, worker_id: str, output: Any) -> None:
        """Shows `output` while the job runs. After the end it is recorded and dropped."""
        self.seen(worker_id)
        job = self.get(job_id)
        if job.status is Status.IN_PROGRESS:
            job.answer = {"output": output}
        job.history.append("late_progress" if job.status.is_final else "progress")

    def finish(self, job_id: str, worker_id: str, body: Mapping[str, Any]) -> None:
        """Takes a result. The first one wins; a later one, or one after cancel or timeout, is
        recorded and dropped.

        `error` counts only when it is a string: with anything else RunPod shows a completed job
        without output (runpod-python issue 299).
        """
        worker = self.seen(worker_id)
        worker.running.discard(job_id)
        if body.get("stopPod") and not worker.leaving:
            worker.leaving = True
            self.stopping.append(worker_id)
        job = self.get(job_id)
        if job.status.is_final:
            job.history.append("late_result")
            return
        answer = {name: body[name] for name in ("output", "error") if body.get(name) is not None}
        if "error" in answer and not isinstance(answer["error"], str):
            answer = {}
        self._end(
            job,
            Status.FAILED if "error" in answer else Status.COMPLETED,
            answer,
            stop=job.worker_id != worker_id,
        )

    def refuse_result(self, job_id: str, worker_id: str) -> None:
        """A result over the limit: the job is COMPLETED without output (runpod-python issue
        309)."""
        self.get(job_id).history.append("result_refused")
        self.finish(job_id, worker_id, {})

    def add_stream(self, job_id: str, worker_id: str, chunk: Any, size: int) -> None:
        self.seen(worker_id)
        job = self.get(job_id)
        if not job.status.is_final:
            job.stream.append((chunk, size))

    def result_limit_bytes(self, job_id: str) -> int:
        sync = self.get(job_id).sync
        return self.limits.runsync_payload_bytes if sync else self.limits.run_payload_bytes

    # What time does.

    def tick(self) -> None:
        """Applies everything that is due: executionTimeout, lost workers, ttl, retention."""
        now = self._clock()
        for worker in list(self.workers.values()):
            if now - worker.last_seen > self.limits.lost_worker_seconds:
                self._lose(worker)
        for job in list(self.jobs.values()):
            if job.started_at is not None and self._overran(job, now - job.started_at):
                self._end(
                    job,
                    Status.TIMED_OUT,
                    {"error": "job timed out: executionTimeout exceeded"},
                    stop=True,
                )
            if now - job.submitted_at > job.policy.ttl_seconds or self._outlived(job, now):
                self._drop(job)

    @staticmethod
    def _overran(job: Job, running_seconds: float) -> bool:
        return (
            job.status is Status.IN_PROGRESS
            and running_seconds > job.policy.execution_timeout_seconds
        )

    def _outlived(self, job: Job, now: float) -> bool:
        keep = (
            self.limits.runsync_retention_seconds if job.sync else self.limits.run_retention_seconds
        )
        return job.finished_at is not None and now - job.finished_at > keep

    def _lose(self, worker: WorkerRecord) -> None:
        del self.workers[worker.id]
        for job_id in worker.running:
            job = self.jobs.get(job_id)
            if job is not None and job.status is Status.IN_PROGRESS and job.worker_id == worker.id:
                job.history.append("redelivered")
                self._requeue(job, front=True)

    def _requeue(self, job: Job, *, front: bool) -> None:
        job.answer, job.started_at, job.worker_id = {}, None, None
        job.stream.clear()
        job.enter(Status.IN_QUEUE)
        self.retried += 1
        if front:
            self._queue.appendleft(job.id)
        else:
            self._queue.append(job.id)

    def _end(self, job: Job, status: Status, answer: dict[str, Any], *, stop: bool) -> None:
        self._release(job, stop=stop)
        job.finished_at, job.answer = self._clock(), answer
        job.enter(status)
        if job.webhook:
            self.webhooks.append(
                (job.webhook, {**job.public(), "input": job.input, "webhook": job.webhook})
            )

    def _release(self, job: Job, *, stop: bool) -> None:
        """Takes the job from the queue and from its worker, which has to stop it."""
        if job.id in self._queue:
            self._queue.remove(job.id)
        worker = self.workers.get(job.worker_id or "")
        if worker is not None and job.id in worker.running:
            worker.running.discard(job.id)
            if stop:
                worker.to_stop.append(job.id)

    def _drop(self, job: Job) -> None:
        self._release(job, stop=True)
        del self.jobs[job.id]
