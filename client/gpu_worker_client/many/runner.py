"""A `JobManager` at work: it keeps `max_parallel` jobs on the endpoint and writes down what becomes
of them. Everything here, the state file included, is used on the event loop: a row is a write of
milliseconds. What may be large, a result's JSON, is read and written on threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from gpu_worker_client._blocking import as_they_end, in_thread, retrieve
from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS
from gpu_worker_client._retry import backoff_seconds
from gpu_worker_client.async_client import AsyncClient
from gpu_worker_client.async_job import POLL_ERRORS_TOLERATED, AsyncJob, outage_seconds
from gpu_worker_client.errors import APIConnectionError, APIError, RateLimitError, ServerError
from gpu_worker_client.events import Health
from gpu_worker_client.many.state_file import (
    IN_DOUBT,
    RUNNING,
    SUBMITTING,
    WAITING,
    JobOutcome,
    JobSummary,
    Row,
    Store,
    written,
)
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TASKS, ErrorBody, State, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import (
    GpuWorkerError,
    JobCancelled,
    JobError,
    ResultUnreadable,
    SubmitInDoubt,
)
from gpu_worker_client.status import JobStatus, read_result
from gpu_worker_client.stored_result import StoredResult, read_stored

DOUBT_POLL_SECONDS = 5.0
"""Between two polls of an endpoint that may still be working on a job in doubt."""
DOUBT_SECONDS = 900.0
"""Longest wait for such an endpoint to come to rest: other programs may use it without end."""
SUBMIT_SECONDS = 60.0
"""Longest that leaving waits for the answer to a submit: only the answer names the job."""

ENDPOINT_FAULTS = frozenset({401, 403, 404, 429})
"""Statuses of a refusal that would meet every job."""

InDoubt = Literal["fail", "resubmit"]
_log = logging.getLogger("gpu_worker_client")


@dataclass
class Runner:
    """Follows the rows of a store."""

    client: AsyncClient
    store: Store
    """The rows; written before and after everything that can cost."""
    max_parallel: int
    """Jobs on the endpoint at once."""
    retries: int
    """More attempts of a job that failed in a way that may pass."""
    in_doubt: InDoubt
    """What becomes of a job that the endpoint may have taken and that cannot be found again."""

    def __post_init__(self) -> None:
        self._timing = self.client.connection.timing
        self._changed = asyncio.Event()
        """A row was added or has ended, or the work itself has."""
        self._serving: asyncio.Task[None] | None = None
        self._working: set[int] = set()
        """Numbers of the rows in work."""
        self._submits: set[asyncio.Task[AsyncJob[Any] | None]] = set()
        self._outages = 0

    async def add(self, entries: Iterable[tuple[str, TaskBase, Policy | None]]) -> None:
        """`Store.add`; they are sent as soon as there are slots."""
        self.store.add(entries)
        self._serve()
        self._changed.set()

    async def outcomes(self) -> AsyncGenerator[JobOutcome, None]:
        """As `JobManager.results`."""
        serving, position = self._serve(), 0
        while True:
            self._changed.clear()
            if (ended := self.store.ended_after(position)) is not None:
                position = ended.position
                yield await in_thread(ended.read)
            elif serving.done() and not serving.cancelled():
                serving.result()  # raises what ended the work
            elif serving.done() or self.store.all_ended():
                return
            else:
                await self._changed.wait()

    async def summary(self) -> JobSummary:
        return self.store.summary()

    async def cancel(self) -> None:
        """Stops every job on the endpoint and ends every row."""
        await self._stop()
        await _used_up(self._cancels(), self.max_parallel)

    async def close(self) -> None:
        """Stops following; jobs on the endpoint go on."""
        try:
            await self._stop()
        finally:
            self.store.close()

    def _serve(self) -> asyncio.Task[None]:
        if self._serving is None:
            self._serving = asyncio.create_task(self._work())
            self._serving.add_done_callback(retrieve)  # `outcomes` raises it, if anybody asks
            self._serving.add_done_callback(lambda _: self._changed.set())
        return self._serving

    async def _stop(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})

    async def _work(self) -> None:
        """Works until it is cancelled. Raises GpuWorkerError: the endpoint cannot be used any
        more."""
        try:
            await _used_up(self._attempts(), self.max_parallel)
        finally:
            if self._submits:
                await asyncio.wait(self._submits, timeout=SUBMIT_SECONDS)

    async def _attempts(self) -> AsyncGenerator[Coroutine[Any, Any, None], None]:
        while True:
            self._changed.clear()
            if (row := self.store.next(self._working)) is not None:
                self._working.add(row.number)
                yield self._attempt(row)
            elif not self._working and self.store.in_doubt() is not None:
                await self._settle()
            else:
                await self._changed.wait()

    async def _attempt(self, row: Row) -> None:
        """One attempt, from wherever it stands to its end; the next one is another row's turn."""
        try:
            job = self._attached(row) if row.job_id else await self._submit(row)
            if job is None:
                return
            await job.wait()
            outcome = await _outcome(job)
            attempts = row.attempts + (0 if row.job_id else 1)
            if isinstance(outcome, JobError) and outcome.retryable and attempts <= self.retries:
                _log.info("job %s failed (%s); it is tried again", job.id, outcome.code)
                pause = backoff_seconds(attempts, None, self._timing.random())
                await self._timing.async_sleep(pause)
                self.store.move(row, WAITING)
            else:
                await self._end(row, outcome)
        finally:
            self._working.discard(row.number)
            self._changed.set()

    def _attached(self, row: Row) -> AsyncJob[Any]:
        job: Any = self.client.job  # its overloads want the task's own type
        return job(row.job_id, row.task)

    async def _submit(self, row: Row) -> AsyncJob[Any] | None:
        """The job on the endpoint, its id written down; None when it ended here or is in doubt."""
        refusals = 0
        while True:
            if self._outages:
                # Costs nothing, while a submit into an outage may cost a job.
                await self.client.health()
            sending = asyncio.create_task(self._send(row))
            self._submits.add(sending)
            sending.add_done_callback(self._submits.discard)
            sending.add_done_callback(retrieve)
            try:
                # A submit that has begun is never cut short: its answer names the job.
                job = await asyncio.shield(sending)
            except RateLimitError as error:
                refusals += 1
                if refusals > POLL_ERRORS_TOLERATED:
                    raise
                least = error.retry_after_seconds or 0.0
                pause = max(least, outage_seconds(refusals, self._timing.random()))
                await self._timing.async_sleep(pause)
                continue
            if job is None and self._outages:
                outages = 1 + self._outages // self.max_parallel
                await self._timing.async_sleep(outage_seconds(outages, self._timing.random()))
            return job

    async def _send(self, row: Row) -> AsyncJob[Any] | None:
        self.store.move(row, SUBMITTING, attempts=1)
        try:
            task: Any = row.task  # whose result's type only its row knows
            job = await self.client.submit(task, policy=row.policy)
        except GpuWorkerError as error:
            await self._unsent(row, error)
            return None
        self.store.move(row, RUNNING, job_id=job.id)
        self._outages = 0
        return job

    async def _unsent(self, row: Row, error: GpuWorkerError) -> None:
        """A submit brought no job. The fault of this job ends it; that of the endpoint is
        raised."""
        if isinstance(error, ServerError) or (
            isinstance(error, APIConnectionError) and error.may_have_arrived
        ):
            self.store.move(row, IN_DOUBT)
            self._outages += 1
            if self._outages > POLL_ERRORS_TOLERATED * self.max_parallel:
                raise error
            _log.warning(
                "a submit got no answer; it is looked into when all else has ended: %s", error
            )
            return
        if isinstance(error, APIError) and error.status not in ENDPOINT_FAULTS:
            error = JobError(ErrorBody(code="submit_refused", message=str(error)))
        if not isinstance(error, JobError):
            self.store.move(row, WAITING, attempts=-1)  # nothing left this machine
            raise error
        await self._end(row, error)

    async def _settle(self) -> None:
        """Decides the rows in doubt. Nothing else of this manager is on the endpoint, so whatever
        works there may be one."""
        while (row := self.store.in_doubt()) is not None:
            stored = StoredResult.of(row.task)
            outcome = None if stored is None else await self._lost_outcome(row, stored)
            if outcome is None and (stored is not None or self.in_doubt == "resubmit"):
                self.store.move(row, WAITING)
            else:
                await self._end(row, outcome or _doubt())

    async def _lost_outcome(self, row: Row, stored: StoredResult) -> TaskResult | JobError | None:
        """What the job whose id was lost left in storage; None when nothing of this task and key
        is there. Waits for it while the endpoint may be working on it."""
        deadline = self._timing.clock() + DOUBT_SECONDS
        while True:
            try:
                fields = await read_stored(self.client.connection.http, stored)
                if fields is not None:
                    status = JobStatus("", State.completed)
                    return read_result(status, fields, TASKS[row.task.task].result)
            except JobError as error:
                return error
            except APIConnectionError as error:
                if error.transient:
                    raise
                # There is no such object.
            at_work = Health.read(await self.client.health()).at_work
            if not at_work or self._timing.clock() >= deadline:
                # The worker looks once more before it works: the job may have ended between.
                return None
            await self._timing.async_sleep(DOUBT_POLL_SECONDS)

    async def _cancels(self) -> AsyncGenerator[Coroutine[Any, Any, None], None]:
        for row in self.store.unended():
            if row.job_id is not None:
                yield self._cancel(row)
            elif row.state == WAITING:
                message = "cancelled before it was submitted"
                await self._end(row, JobCancelled(ErrorBody(code="cancelled", message=message)))
            else:
                await self._end(row, _doubt())

    async def _cancel(self, row: Row) -> None:
        job = self._attached(row)
        try:
            await job.cancel(LAST_CANCEL_SECONDS)
            outcome = await job.result(0)  # it may have ended before the cancel came
        except JobError as error:
            outcome = error
        except GpuWorkerError as error:
            _log.warning("job %s could not be cancelled: %s", row.job_id, error)
            return
        await self._end(row, outcome)

    async def _end(self, row: Row, outcome: TaskResult | JobError) -> None:
        self.store.end(row, *await in_thread(partial(written, outcome)))
        self._changed.set()


async def _used_up(calls: AsyncGenerator[Coroutine[Any, Any, None], None], at_most: int) -> None:
    async with aclosing(as_they_end(calls, at_most)) as ended:
        async for _ in ended:
            pass


async def _outcome(job: AsyncJob[Any]) -> TaskResult | JobError:
    """How a job that has ended did. Storage that does not hand out its result is this job's
    failure, not the endpoint's."""
    try:
        return await job.result()
    except JobError as error:
        return error
    except (APIConnectionError, APIError) as error:
        return ResultUnreadable(ErrorBody(code="result_unreadable", message=str(error)))


def _doubt() -> SubmitInDoubt:
    message = (
        "the submit got no answer, so the endpoint may have run it; if it is to run again, submit"
        " it under another key"
    )
    return SubmitInDoubt(ErrorBody(code="submit_in_doubt", message=message))
