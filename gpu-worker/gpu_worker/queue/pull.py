"""The loop of a worker that pulls: find a job, work while the lease is renewed, publish, again.

What the work is, is handed in. This module decides what becomes of the job: nothing is published
after the lease was lost, a failure that may pass gives the job back, a shutdown gives it back at
once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol.errors import ErrorBody
from gpu_worker_client.queue.documents import Manifest, ResultDocument, StatusDocument
from gpu_worker_client.queue.finder import Finder
from gpu_worker_client.queue.keys import open_key, status_key
from gpu_worker_client.queue.lease import Lease, LeaseLost, Taker
from gpu_worker_client.queue.states import QueueState
from gpu_worker_client.queue.writes import replace

logger = logging.getLogger(__name__)

BROKEN_AFTER_JOBS = 3
"""So many jobs in a row that failed in a way that may pass: it is the machine. It ends before it
has used up the tries of the whole queue."""

Perform = Callable[[Lease, Manifest], Awaitable[ResultDocument]]
"""Does one job. Its result is completed or failed; a cancel ends it within seconds."""


class Ended(Enum):
    """What became of one attempt."""

    completed = "completed"
    failed = "failed"
    retried = "given back after a failure"
    lost = "cancelled, or another's"
    released = "given back, shutting down"
    unpublished = "done, but the bucket did not take the result"


@dataclass
class Tally:
    """What a worker did since it started."""

    completed: int = 0
    failed: int = 0
    attempts: int = 0
    was_stopped: bool = False
    is_broken: bool = False


class Puller:
    """One worker. `stop` may be set from a signal handler on the loop."""

    def __init__(self, taker: Taker, finder: Finder, perform: Perform) -> None:
        self._taker = taker
        self._store, self._timing = taker.store, taker.timing
        self._finder = finder
        self._perform = perform
        self._spoiled: set[str] = set()
        """Jobs that failed in a way that may pass, since one went well."""
        self.stop = asyncio.Event()
        self.tally = Tally()
        self.job_id: str | None = None
        """What is being worked on."""

    async def run(self, *, once: bool = False, idle_exit_seconds: float | None = None) -> Tally:
        """Works until stopped.

        Args:
            once: ends after one job, or at once when there is none.
            idle_exit_seconds: ends when there was nothing to do for so long.
        """
        idle_since = self._timing.clock()
        while not self.stop.is_set():
            lease = await self._poll()
            if lease is not None:
                await self._work(lease)
                idle_since = self._timing.clock()
            if once or self._is_broken():
                break
            if lease is None:
                idle_seconds = self._timing.clock() - idle_since
                if idle_exit_seconds is not None and idle_seconds >= idle_exit_seconds:
                    break
                await self._wait(self._finder.pause_seconds())
        self.tally.was_stopped = self.stop.is_set()
        return self.tally

    async def _poll(self) -> Lease | None:
        try:
            return await self._finder.poll()
        except StorageError as error:
            if not error.retryable:
                raise
            logger.warning("the bucket is in trouble, the next poll may find it well: %s", error)
            return None

    async def _wait(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    async def _work(self, lease: Lease) -> None:
        self.job_id = lease.job_id
        self.tally.attempts += 1
        logger.info("job %s: attempt %d", lease.job_id, lease.attempt)
        try:
            ended = await self._attempt(lease)
        except LeaseLost as error:
            logger.warning("%s", error)
            ended = Ended.lost
        except StorageError as error:
            logger.error("job %s: %s", lease.job_id, error)
            ended = Ended.unpublished
        self._count(lease.job_id, ended)
        logger.info("job %s: %s", lease.job_id, ended.value)
        self.job_id = None

    def _count(self, job_id: str, ended: Ended) -> None:
        if ended is Ended.completed:
            self.tally.completed += 1
            self._spoiled.clear()
        elif ended is Ended.failed:
            self.tally.failed += 1
        elif ended is Ended.retried:
            self._spoiled.add(job_id)

    def _is_broken(self) -> bool:
        self.tally.is_broken = len(self._spoiled) >= BROKEN_AFTER_JOBS
        if self.tally.is_broken:
            logger.error(
                "%d jobs in a row failed here: this machine takes no more", BROKEN_AFTER_JOBS
            )
        return self.tally.is_broken

    async def _attempt(self, lease: Lease) -> Ended:
        result = await self._perform_leased(lease)
        if result is None:
            await lease.release()
            return Ended.released
        if result.error is not None and result.error.retryable:
            await lease.release(result.error)
            return Ended.retried
        await lease.commit(result)
        await self._say_final(lease, result)
        return Ended.failed if result.error is not None else Ended.completed

    async def _perform_leased(self, lease: Lease) -> ResultDocument | None:
        """The work's result; None when the worker was stopped before. Raises LeaseLost."""
        working = asyncio.ensure_future(self._result(lease))
        renewing = asyncio.ensure_future(lease.renew_until_lost())
        stopping = asyncio.ensure_future(self.stop.wait())
        tasks: set[asyncio.Future[object]] = {working, renewing, stopping}  # pyright: ignore
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if renewing.done():
                renewing.result()
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _result(self, lease: Lease) -> ResultDocument:
        manifest = Manifest.read(lease.manifest)
        if manifest is None or manifest.job_id != lease.job_id:
            message = "the manifest is no JSON of a job, or of another job"
            return failed(lease.job_id, ErrorBody(code="invalid_task", message=message))
        result = await self._perform(lease, manifest)
        about = {"video_id": manifest.video_id, "completed_at": self._timing.now()}
        return result.model_copy(update=about)

    async def _say_final(self, lease: Lease, result: ResultDocument) -> None:
        """What readers poll, and the list of what is open. Whoever finds it undone does it."""
        status = StatusDocument(
            job_id=lease.job_id,
            attempt=lease.attempt,
            current=result.frames_processed or 0,
            total=result.frames_processed,
            unit="frames",
            final=QueueState(result.status),
            updated_at=self._timing.now(),
        )
        try:
            await self._store.delete(open_key(lease.job_id))
            await replace(self._store, status_key(lease.job_id), status.to_bytes(), self._timing)
        except StorageError as error:
            logger.debug("job %s: %s", lease.job_id, error)


def failed(job_id: str, error: ErrorBody) -> ResultDocument:
    return ResultDocument(job_id=job_id, status=QueueState.failed, error=error)
