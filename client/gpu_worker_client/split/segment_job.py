"""One segment's way: into the bucket under the hash of its content, through a job with an
idempotency key, and back.

A segment that fails is tried again by itself. Whatever dies on the way, nothing is paid twice: the
source's segment lies in the bucket under its hash, a running job is found again by its id, and a
finished one by the result that its key names.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from gpu_worker_client._atomic_file import atomic_file
from gpu_worker_client._blocking import checkpoint, in_thread, notify
from gpu_worker_client.async_client import AsyncClient, AsyncJob
from gpu_worker_client.errors import StorageError
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import State, UpscaleResult, UpscaleTask
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError, JobExpired, ResultLost
from gpu_worker_client.split.plan import Segment, SplitPlan
from gpu_worker_client.split.remux import Piece, read_piece
from gpu_worker_client.storage import Storage

ATTEMPTS = 3
"""Jobs for one segment, when its errors are of the kind that can pass."""
VERSION = 1
"""Part of every key: raised when the same segment and parameters shall not find older results any
more."""

CANCEL_SECONDS = 10.0
"""Longest that cancelling one job holds up the way out."""

Stage = Literal["uploaded", "submitted", "found", "failed", "done"]
_log = logging.getLogger("gpu_worker_client")


@dataclass(frozen=True)
class SegmentEvent:
    """Something happened to a segment.

    `uploaded`: its frames are in the bucket. `submitted`: a job was queued. `found`: a job of an
    earlier client goes on. `failed`: its job failed, and another follows. `done`: its result is
    here.
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
    """Takes segments through their jobs, several at a time.

    Args:
        suffix: of the files that workers write.
        policy: of every job.
        expires_seconds: life of the presigned URLs.
        on_event: called with every `SegmentEvent`, one at a time.
    """

    def __init__(
        self,
        client: AsyncClient,
        storage: Storage,
        plan: SplitPlan,
        folder: Path,
        *,
        suffix: str,
        policy: Policy,
        expires_seconds: int,
        on_event: Callable[[SegmentEvent], object] | None,
    ) -> None:
        self._client, self._storage, self._plan, self._folder = client, storage, plan, folder
        self._suffix, self._policy, self._expires_seconds, self._on_event = (
            suffix,
            policy,
            expires_seconds,
            on_event,
        )
        self._job_ids = JobIds(folder / "jobs.json")
        self._notifying = asyncio.Lock()

    async def run(self, segment: Segment, path: Path) -> Done:
        """Uploads a segment, waits for its job, and fetches what it made. The uploaded file is
        removed here. Whatever ends this before the job has ended (a cancel, an error of `on_event`)
        cancels the job: nobody will take its result.

        Raises:
            JobError: the job failed for good, or `ATTEMPTS` times.
            SplitError: what came back is not the segment.
            StorageError, APIConnectionError, APIError: as their names say.
        """
        source_key = await in_thread(partial(self._storage.upload, path, on_progress=_heed))
        path.unlink()
        await self._notify(segment, "uploaded")
        name = _name(source_key, self._plan, self._suffix)
        for attempt in range(1, ATTEMPTS + 1):
            job, found = await self._job(name, source_key)
            try:
                result = await self._result(segment, name, job, "found" if found else "submitted")
                return await self._fetched(segment, name, source_key, result)
            except (JobError, StorageError) as error:
                self._job_ids.note(name, None)
                # However an earlier client's job ended (cancelled on its way out, perhaps), a new
                # one may do better.
                if attempt == ATTEMPTS or not (await self._may_pass(error, name) or found):
                    raise
                _log.info("segment %d: %s; attempt %d follows", segment.index, error, attempt + 1)
            await self._notify(segment, "failed", job.id)
        raise AssertionError("the last attempt returns or raises")

    async def _job(self, name: str, source_key: str) -> tuple[AsyncJob[UpscaleResult], bool]:
        """The segment's job, and whether it is one that an earlier client submitted."""
        task = await in_thread(partial(self._task, name, source_key))
        known = self._job_ids.job_id(name)
        if known is not None:
            return self._client.job(known, task), True
        job = await self._client.submit(task, policy=self._policy)
        self._job_ids.note(
            name, job.id
        )  # on the spot: were it awaited, a cancel could come between, and the job be lost
        return job, False

    async def _result(
        self, segment: Segment, name: str, job: AsyncJob[UpscaleResult], stage: Stage
    ) -> UpscaleResult:
        try:
            await self._notify(segment, stage, job.id)
            return await job.result()
        except BaseException:
            with suppress(GpuWorkerError):  # it ends by its time limit then
                if (await job.cancel(CANCEL_SECONDS)).state is State.cancelled:
                    self._job_ids.note(name, None)
            raise

    def _task(self, name: str, source_key: str) -> UpscaleTask:
        get, put, seconds = (
            self._storage.presign_get,
            self._storage.presign_put,
            self._expires_seconds,
        )
        return UpscaleTask(
            input_url=get(source_key, seconds),
            output_url=put(self._output_key(name), seconds),
            result_url=put(self._result_key(name), seconds),
            result_get_url=get(self._result_key(name), seconds),
            idempotency_key=name,
            params=self._plan.params,
        )

    async def _fetched(
        self, segment: Segment, name: str, source_key: str, result: UpscaleResult
    ) -> Done:
        path = self._folder / f"{name}{self._suffix}"
        if not path.exists():
            await in_thread(partial(self._storage.download, self._output_key(name), path, _heed))
        piece = await in_thread(partial(read_piece, segment, path))
        await self._notify(segment, "done")
        keys = (self._output_key(name), self._result_key(name))
        return Done(piece, result, keys if self._storage.keep_inputs else (*keys, source_key))

    async def _may_pass(self, error: JobError | StorageError, name: str) -> bool:
        """Whether another job can end better. A result whose file is gone would only be found
        again, so it is deleted."""
        if isinstance(error, StorageError) and error.code == "not_found":
            await in_thread(partial(self._storage.delete, self._result_key(name)))
            return True
        return error.retryable or isinstance(error, JobExpired | ResultLost)

    def _output_key(self, name: str) -> str:
        return self._storage.key("split", name + self._suffix)

    def _result_key(self, name: str) -> str:
        return self._storage.key("split", name + ".json")

    async def _notify(self, segment: Segment, stage: Stage, job_id: str | None = None) -> None:
        if self._on_event is not None:
            async with self._notifying:
                await notify(self._on_event, SegmentEvent(segment, stage, job_id))


class JobIds:
    """Segment's name -> job id. Every change is on disk before `note` returns; methods may be
    called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._jobs = _read_ids(path)

    def job_id(self, name: str) -> str | None:
        """The job submitted last for a segment, here or by a client before."""
        with self._lock:
            return self._jobs.get(name)

    def note(self, name: str, job_id: str | None) -> None:
        """Remembers a job; None forgets it, so that the next attempt submits."""
        with self._lock:
            self._jobs.pop(name, None)
            if job_id is not None:
                self._jobs[name] = job_id
            with atomic_file(self._path) as file:
                file.write(json.dumps(self._jobs).encode())


def _read_ids(path: Path) -> dict[str, str]:
    """What is on disk; nothing where that is no such file. Nothing is lost then but the ids: a
    finished segment is found by its idempotency key all the same."""
    try:
        data: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    entries = cast(dict[object, object], data) if isinstance(data, dict) else {}
    return {
        key: value
        for key, value in entries.items()
        if isinstance(key, str) and isinstance(value, str)
    }


def _heed(_done: int, _total: int) -> None:
    """A transfer can be stopped at each of its pieces."""
    checkpoint()


def _name(source_key: str, plan: SplitPlan, suffix: str) -> str:
    """Of a segment's result: the same source, parameters and container have the same. 64
    hexadecimal digits."""
    params = plan.params.model_dump(mode="json")
    return hashlib.sha256(
        json.dumps([VERSION, source_key, params, suffix], sort_keys=True).encode()
    ).hexdigest()
