"""One segment's way: into the bucket, through a job with an idempotency key, and back, as that of
any file (`files/transfer.py`).

A segment that fails is tried again by itself. Whatever dies on the way, nothing is paid twice: the
source's segment lies in the bucket under its hash, a running job is found again by its id, and a
finished one by the result that its key names.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, cast

from pydantic import TypeAdapter

from gpu_worker_client._blocking import checkpoint, in_thread, notify
from gpu_worker_client.errors import StorageError
from gpu_worker_client.files.transfer import RemoteJob, TaskClient, prepare
from gpu_worker_client.files.work import FileWork, atomic_file
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import State, UpscaleResult, UpscaleTask
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError, JobExpired, ResultLost
from gpu_worker_client.split.plan import Segment, SplitPlan
from gpu_worker_client.split.remux import Piece, read_piece
from gpu_worker_client.storage import Storage

ATTEMPTS = 3
"""Jobs for one segment, when its errors are of the kind that can pass."""
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


@dataclass
class SegmentRunner:
    """Takes segments through their jobs, several at a time."""

    client: TaskClient
    storage: Storage
    plan: SplitPlan
    folder: Path
    """Has `jobs.json`: segment's name -> id of its last job, here or of a client before."""
    suffix: str
    """How the files that workers write end."""
    policy: Policy
    on_event: Callable[[SegmentEvent], object] | None
    """Called with every event, one at a time."""
    _job_ids: dict[str, str] = field(default_factory=dict[str, str], init=False)
    _notifying: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        # No file, or a broken one: a finished segment is found by its idempotency key all the same.
        with suppress(OSError, ValueError):
            data = (self.folder / "jobs.json").read_bytes()
            self._job_ids = TypeAdapter(dict[str, str]).validate_json(data)

    async def run(self, segment: Segment, path: Path) -> Done:
        """Uploads a segment, waits for its job, and fetches what it made; then the segment's file
        is removed. Whatever ends this before the job has ended (a cancel, an error of `on_event`)
        cancels the job: nobody will take its result. Raises what `split_upscale` does."""
        params = self.plan.params.model_dump(mode="json", exclude_unset=True)
        output = self.folder / f"{segment.index}{self.suffix}"
        work = FileWork("upscale", params, {"input_url": path}, output=output)
        bucket = self.storage
        # In one PUT: the next client could not complete the parts that this one has opened.
        upload = partial(prepare, work, lambda: bucket, self.policy, _checked, in_parts=False)
        for attempt in range(1, ATTEMPTS + 1):
            prepared = await in_thread(upload)
            task, key = cast(UpscaleTask, prepared.task), str(prepared.output_key)
            name = str(task.idempotency_key)
            if attempt == 1:
                await self._notify(segment, "uploaded")
            stage: Stage = "found" if name in self._job_ids else "submitted"
            job = await self._job(name, task)
            try:
                result = await self._result(segment, name, job, stage)
                made = self.folder / f"{name}{self.suffix}"
                if not made.exists():
                    await in_thread(partial(bucket.download, key, made, _checked))
                piece = await in_thread(partial(read_piece, segment, made))
                await self._notify(segment, "done")
                path.unlink()
                return Done(piece, result, tuple(prepared.temporary_keys))
            except (JobError, StorageError) as error:
                self._note(name, None)
                # However an earlier client's job ended (cancelled on its way out, perhaps), a new
                # one may do better.
                if attempt == ATTEMPTS or not (stage == "found" or _may_pass(error)):
                    raise
                _log.info("segment %d: %s; attempt %d follows", segment.index, error, attempt + 1)
            await self._notify(segment, "failed", job.id)
        raise AssertionError("the last attempt returns or raises")

    async def _job(self, name: str, task: UpscaleTask) -> RemoteJob[UpscaleResult]:
        """The segment's job: one that an earlier client submitted, or a new one."""
        if name in self._job_ids:
            return self.client.job(self._job_ids[name], task)
        job = await self.client.submit(task, policy=self.policy)
        self._note(name, job.id)
        return job

    def _note(self, name: str, job_id: str | None) -> None:
        """Remembers a job, on disk too; None forgets it, so that the next attempt submits. Not in a
        thread: were it awaited, a cancel could come between, and the job be lost."""
        self._job_ids.pop(name, None)
        if job_id is not None:
            self._job_ids[name] = job_id
        with atomic_file(self.folder / "jobs.json") as file:
            file.write(json.dumps(self._job_ids).encode())

    async def _result(
        self, segment: Segment, name: str, job: RemoteJob[UpscaleResult], stage: Stage
    ) -> UpscaleResult:
        try:
            await self._notify(segment, stage, job.id)
            return await job.result()
        except BaseException:
            with suppress(GpuWorkerError):  # it ends by its time limit then
                if (await job.cancel(CANCEL_SECONDS)).state is State.cancelled:
                    self._note(name, None)
            raise

    async def _notify(self, segment: Segment, stage: Stage, job_id: str | None = None) -> None:
        if self.on_event is not None:
            async with self._notifying:
                await notify(self.on_event, SegmentEvent(segment, stage, job_id))


def _checked(*_: object) -> None:
    """Every progress of a transfer is a checkpoint."""
    checkpoint()


def _may_pass(error: JobError | StorageError) -> bool:
    """Whether another job can end better. A result whose file is gone is deleted by `prepare`."""
    is_gone = isinstance(error, StorageError) and error.code == "not_found"
    return is_gone or error.retryable or isinstance(error, JobExpired | ResultLost)
