"""One segment's way: into the bucket under the hash of its content, through a job with an idempotency key, and back.

A segment that fails is tried again alone. Whatever dies on the way, nothing is paid twice: the source's segment lies in the
bucket under its hash, a running job is found again by its id, and a finished one by the result that its key names.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu_worker_client.client import Client
from gpu_worker_client.exceptions import GpuWorkerError, JobError, JobExpired, ResultLost, StorageError
from gpu_worker_client.job import Job
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import UpscaleResult, UpscaleTask
from gpu_worker_client.split.book import JobBook
from gpu_worker_client.split.join import Piece, read_piece
from gpu_worker_client.split.plan import Segment, SplitPlan
from gpu_worker_client.storage import Storage

ATTEMPTS = 3
"""Jobs for one segment, when its errors are of the kind that can pass."""
VERSION = 1
"""Part of every key: raised when the same segment and parameters shall not find older results any more."""

CANCEL_SECONDS = 10.0
"""Longest that cancelling one job holds up the way out."""

Stage = Literal["uploaded", "submitted", "found", "failed", "done"]
_log = logging.getLogger("gpu_worker_client")


@dataclass(frozen=True)
class SegmentEvent:
    """Something happened to a segment.

    `uploaded`: its frames are in the bucket. `submitted`: a job was queued. `found`: a job of an earlier client goes on.
    `failed`: its job failed, and another follows. `done`: its result is here.
    """

    segment: Segment
    stage: Stage
    job_id: str | None = None

    def __str__(self) -> str:
        job = f", job {self.job_id}" if self.job_id else ""
        return f"segment {self.segment.index}: {self.stage}{job}"


@dataclass(frozen=True)
class Done:
    """A segment that came back."""

    piece: Piece
    result: UpscaleResult
    keys: tuple[str, ...]
    """Objects in the bucket that are of no use once the video is joined."""


class SegmentRunner:
    """Takes segments through their jobs. `run` may be called from several threads at a time.

    Args:
        suffix: of the files that workers write.
        policy: of every job.
        expires_seconds: life of the presigned URLs.
        on_event: told of every `SegmentEvent`, one at a time, in the thread of its segment.
    """

    def __init__(
        self,
        client: Client,
        storage: Storage,
        plan: SplitPlan,
        folder: Path,
        *,
        suffix: str,
        policy: Policy,
        expires_seconds: int,
        on_event: Callable[[SegmentEvent], object],
    ) -> None:
        self._client, self._storage, self._plan, self._folder = client, storage, plan, folder
        self._suffix, self._policy, self._expires_seconds, self._on_event = suffix, policy, expires_seconds, on_event
        self._book = JobBook(folder / "jobs.json")
        self._lock = threading.Lock()
        self._running: dict[str, Job[UpscaleResult]] = {}
        self._stopped = False

    def run(self, segment: Segment, path: Path) -> Done:
        """Uploads a segment, waits for its job, and fetches what it made. The uploaded file is removed here.

        Raises:
            JobError: the job failed for good, or `ATTEMPTS` times.
            SplitError: what came back is not the segment.
            StorageError, APIConnectionError, APIError: as their names say.
        """
        source_key = self._storage.upload(path)
        path.unlink()
        self._tell(segment, "uploaded")
        name = _name(source_key, self._plan, self._suffix)
        for attempt in range(1, ATTEMPTS + 1):
            job, found = self._job(segment, name, source_key)
            try:
                return self._fetched(segment, name, source_key, job.result())
            except (JobError, StorageError) as error:
                self._book.note(name, None)
                # However an earlier client's job ended (cancelled on its way out, perhaps), a new one may do better.
                if self._stopped or attempt == ATTEMPTS or not (self._may_pass(error, name) or found):
                    raise
                _log.info("segment %d: %s; attempt %d follows", segment.index, error, attempt + 1)
                self._tell(segment, "failed", job.id)
            finally:
                with self._lock:
                    self._running.pop(name, None)
        raise AssertionError("the last attempt returns or raises")

    def stop(self) -> None:
        """Cancels what runs and submits no more: nobody will take the results."""
        with self._lock:
            self._stopped = True
            running = list(self._running.values())
        for job in running:
            _cancel(job)

    def _job(self, segment: Segment, name: str, source_key: str) -> tuple[Job[UpscaleResult], bool]:
        """The segment's job, and whether it is one that an earlier client submitted."""
        known = self._book.job_id(name)
        if known is None:
            job = self._client.submit(self._task(name, source_key), policy=self._policy)
            self._book.note(name, job.id)
        else:
            job = self._client.job(known, self._task(name, source_key))
        with self._lock:
            self._running[name] = job
            stopped = self._stopped
        if stopped:
            _cancel(job)
        self._tell(segment, "found" if known else "submitted", job.id)
        return job, known is not None

    def _task(self, name: str, source_key: str) -> UpscaleTask:
        get, put, seconds = self._storage.presign_get, self._storage.presign_put, self._expires_seconds
        return UpscaleTask(
            input_url=get(source_key, seconds),
            output_url=put(self._output_key(name), seconds),
            result_url=put(self._result_key(name), seconds),
            result_get_url=get(self._result_key(name), seconds),
            idempotency_key=name,
            params=self._plan.params,
        )

    def _fetched(self, segment: Segment, name: str, source_key: str, result: UpscaleResult) -> Done:
        path = self._folder / f"{name}{self._suffix}"
        if not path.exists():
            self._storage.download(self._output_key(name), path)
        piece = read_piece(segment, path)
        self._tell(segment, "done")
        keys = (self._output_key(name), self._result_key(name))
        return Done(piece, result, keys if self._storage.keep_inputs else (*keys, source_key))

    def _may_pass(self, error: JobError | StorageError, name: str) -> bool:
        """Whether another job can end better. A result whose file is gone would only be found again, so it is deleted."""
        if isinstance(error, StorageError) and error.code == "not_found":
            self._storage.delete(self._result_key(name))
            return True
        return error.retryable or isinstance(error, JobExpired | ResultLost)

    def _output_key(self, name: str) -> str:
        return self._storage.key("split", name + self._suffix)

    def _result_key(self, name: str) -> str:
        return self._storage.key("split", name + ".json")

    def _tell(self, segment: Segment, stage: Stage, job_id: str | None = None) -> None:
        with self._lock:
            self._on_event(SegmentEvent(segment, stage, job_id))


def _name(source_key: str, plan: SplitPlan, suffix: str) -> str:
    """Of a segment's result: the same source, parameters and container have the same. 64 hexadecimal digits."""
    params = plan.params.model_dump(mode="json")
    return hashlib.sha256(json.dumps([VERSION, source_key, params, suffix], sort_keys=True).encode()).hexdigest()


def _cancel(job: Job[UpscaleResult]) -> None:
    with suppress(GpuWorkerError):  # it ends by its time limit then
        job.cancel(CANCEL_SECONDS)
