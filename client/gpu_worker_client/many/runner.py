"""A `JobManager` in the background: it keeps `max_parallel` jobs on the endpoint and writes down
what becomes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal

from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS
from gpu_worker_client._retry import backoff_seconds
from gpu_worker_client.async_client import AsyncClient, AsyncJob
from gpu_worker_client.async_job import POLL_ERRORS_TOLERATED, outage_seconds
from gpu_worker_client.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from gpu_worker_client.many.state_file import WAITING, Row, Store
from gpu_worker_client.protocol import TASKS, ErrorBody, TaskResult
from gpu_worker_client.protocol.errors import (
    GpuWorkerError,
    JobCancelled,
    JobError,
    ResultUnreadable,
    SubmitInDoubt,
)
from gpu_worker_client.stored_result import StoredResult, read_stored

DOUBT_POLL_SECONDS = 5.0
"""Between two polls of an endpoint that may still be working on a job in doubt."""
DOUBT_SECONDS = 900.0
"""Longest wait for such an endpoint to come to rest: other programs may use it without end."""
SUBMIT_SECONDS = 60.0
"""Longest that leaving waits for the answer to a submit: only the answer names the job."""

InDoubt = Literal["fail", "resubmit"]
_log = logging.getLogger("gpu_worker_client")


class ManagedClient:
    """A client that can also search for the result of a job whose id is lost."""

    def __init__(self, client: AsyncClient) -> None:
        self._timing = client.connection.timing
        self._http = client.connection.http
        self.submit, self.health = client.submit, client.health
        self._job: Any = client.job

    def attached(self, row: Row) -> AsyncJob[Any]:
        """The row's job on the endpoint."""
        return self._job(row.job_id or "", row.task)

    async def stored_result(self, row: Row) -> TaskResult | None:
        """The finished result at the task's `result_get_url`; None when there is none of this task
        and key."""
        stored = StoredResult.of(row.task)
        if stored is None:
            return None
        try:
            fields = await read_stored(self._http, stored)
        except APIConnectionError as error:
            if error.transient:
                raise
            return None  # no such object
        return None if fields is None else TASKS[row.task.task].result.model_validate(fields)

    async def pause(self, seconds: float) -> None:
        await self._timing.async_sleep(seconds)

    def jitter(self) -> float:
        return self._timing.random()

    def seconds(self) -> float:
        return self._timing.clock()


class Runner:
    """Follows the rows of a store. Lives in one event loop.

    Args:
        client: of the endpoint.
        store: the rows; written before and after everything that can cost.
        max_parallel: jobs on the endpoint at once.
        retries: more attempts of a job that failed in a way that may pass.
        in_doubt: what becomes of a job that the endpoint may have taken and that cannot be found
            again.
        ended: called whenever a row has ended.
    """

    def __init__(
        self,
        client: ManagedClient,
        store: Store,
        *,
        max_parallel: int,
        retries: int,
        in_doubt: InDoubt,
        ended: Callable[[], None],
    ) -> None:
        self._client = client
        self._store = store
        self._max_parallel = max_parallel
        self._retries = retries
        self._in_doubt: InDoubt = in_doubt
        self._ended = ended
        self._more = asyncio.Event()
        self._outages = 0
        self._submits: set[asyncio.Task[AsyncJob[Any] | None]] = set()

    def more(self) -> None:
        """Rows were added. Loop thread only."""
        self._more.set()

    async def serve(self) -> None:
        """Works until it is cancelled; jobs on the endpoint then go on.

        Raises:
            GpuWorkerError: the endpoint cannot be used any more. The rows say how far everything
                is.
        """
        working: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                self._more.clear()
                while (
                    len(working) < self._max_parallel
                    and (row := self._store.next(working.keys())) is not None
                ):
                    working[row.number] = asyncio.create_task(self._follow(row))
                if not working and self._store.in_doubt() is not None:
                    await self._settle()
                    continue
                await self._any(working)
        finally:
            for task in working.values():
                task.cancel()
            await asyncio.gather(*working.values(), return_exceptions=True)
            if self._submits:
                await asyncio.wait(self._submits, timeout=SUBMIT_SECONDS)

    async def cancel_all(self) -> None:
        """Stops every job on the endpoint and ends every row. `serve` must have ended."""
        limit = asyncio.Semaphore(self._max_parallel)

        async def cancel(row: Row) -> None:
            async with limit:
                await self._cancel(row)

        for row in self._store.unended():
            if row.state == WAITING:
                self._end(
                    row,
                    JobCancelled(
                        ErrorBody(code="cancelled", message="cancelled before it was submitted")
                    ),
                )
            elif row.job_id is None:
                self._end(row, _doubt())
        await asyncio.gather(*(cancel(row) for row in self._store.unended()))

    async def _any(self, working: dict[int, asyncio.Task[None]]) -> None:
        """Waits until a row has ended or came; raises what ended one that should not have."""
        woken = asyncio.create_task(self._more.wait())
        try:
            await asyncio.wait([woken, *working.values()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        for number in [number for number, task in working.items() if task.done()]:
            working.pop(number).result()

    async def _follow(self, row: Row) -> None:
        """One attempt, from wherever it stands to its end; the next one is another turn of
        `serve`."""
        job = self._client.attached(row) if row.job_id else await self._submit(row)
        if job is None:
            return
        await job.wait()
        try:
            result = await _result(job)
        except JobError as error:
            attempts = row.attempts + (row.job_id is None)
            if error.retryable and attempts <= self._retries:
                _log.info(
                    "job %s failed (%s); attempt %d follows", job.id, error.code, attempts + 1
                )
                await self._client.pause(backoff_seconds(attempts, None, self._client.jitter()))
                self._store.again(row)
            else:
                self._end(row, error)
        else:
            self._store.completed(row, result)
            self._ended()

    async def _submit(self, row: Row) -> AsyncJob[Any] | None:
        """The job on the endpoint, its id written down; None when it ended here or is in doubt."""
        for refusals in range(1, POLL_ERRORS_TOLERATED + 2):
            if self._outages:
                await (
                    self._client.health()
                )  # costs nothing, while a submit into an outage may cost a job
            sending = asyncio.create_task(self._send(row))
            self._submits.add(sending)
            sending.add_done_callback(self._submitted)
            try:
                job = await asyncio.shield(
                    sending
                )  # a submit that has begun is never cut short: its answer names the job
                if job is None and self._outages:
                    await self._client.pause(
                        outage_seconds(
                            1 + self._outages // self._max_parallel, self._client.jitter()
                        )
                    )
                return job
            except RateLimitError as error:
                if refusals > POLL_ERRORS_TOLERATED:
                    raise
                await self._client.pause(
                    max(
                        error.retry_after_seconds or 0.0,
                        outage_seconds(refusals, self._client.jitter()),
                    )
                )
        raise AssertionError("the last attempt returns or raises")

    def _submitted(self, sending: asyncio.Task[AsyncJob[Any] | None]) -> None:
        self._submits.discard(sending)
        if not sending.cancelled():
            sending.exception()  # looked at, or the event loop complains that nobody did

    async def _send(self, row: Row) -> AsyncJob[Any] | None:
        self._store.sending(row)
        try:
            job = await self._client.submit(row.task, policy=row.policy)
        except GpuWorkerError as error:
            return self._unsent(row, error)
        self._store.sent(row, job.id)
        self._outages = 0
        return job

    def _unsent(self, row: Row, error: GpuWorkerError) -> None:
        """A submit brought no job. The fault of this job ends it; that of the endpoint is
        raised."""
        if isinstance(error, ServerError) or (
            isinstance(error, APIConnectionError) and error.may_have_arrived
        ):
            self._store.doubted(row)
            self._outages += 1
            if self._outages > POLL_ERRORS_TOLERATED * self._max_parallel:
                raise error
            _log.warning(
                "a submit got no answer; it is looked into when all else has ended: %s", error
            )
            return
        if isinstance(
            error, APIConnectionError | AuthenticationError | NotFoundError | RateLimitError
        ):
            self._store.not_sent(row)
            raise error
        if isinstance(error, APIError):
            error = JobError(ErrorBody(code="submit_refused", message=str(error)))
        if not isinstance(error, JobError):
            raise error
        self._end(row, error)

    async def _settle(self) -> None:
        """Decides the rows in doubt. Nothing else of this manager is on the endpoint, so whatever
        works there may be one."""
        while (row := self._store.in_doubt()) is not None:
            recoverable = row.task.result_get_url is not None
            if recoverable and await self._adopted(row):
                continue
            if recoverable or self._in_doubt == "resubmit":
                self._store.again(row)
            else:
                self._end(row, _doubt())

    async def _adopted(self, row: Row) -> bool:
        """Whether the result of the lost job was found. Waits for it while the endpoint may be
        working on it."""
        deadline = self._client.seconds() + DOUBT_SECONDS
        while True:
            result = await self._client.stored_result(row)
            if result is not None:
                self._store.completed(row, result)
                self._ended()
                return True
            if self._client.seconds() >= deadline or not _at_work(await self._client.health()):
                # Looked at once more by the worker before it works: it may have ended between the
                # two looks.
                return False
            await self._client.pause(DOUBT_POLL_SECONDS)

    async def _cancel(self, row: Row) -> None:
        job = self._client.attached(row)
        try:
            await job.cancel(LAST_CANCEL_SECONDS)
            result = await job.result(0)  # it may have ended before the cancel came
        except JobError as error:
            self._end(row, error)
        except GpuWorkerError as error:
            _log.warning("job %s could not be cancelled: %s", row.job_id, error)
        else:
            self._store.completed(row, result)
            self._ended()

    def _end(self, row: Row, error: JobError) -> None:
        self._store.failed(row, error)
        self._ended()


async def _result(job: AsyncJob[Any]) -> TaskResult:
    """The result of a job that has ended. Storage that does not hand it out is this job's failure,
    not the endpoint's."""
    try:
        return await job.result()
    except (APIConnectionError, APIError) as error:
        raise ResultUnreadable(ErrorBody(code="result_unreadable", message=str(error))) from error


def _doubt() -> SubmitInDoubt:
    message = (
        "the submit got no answer, so the endpoint may have run it; if it is to run again, submit"
        " it under another key"
    )
    return SubmitInDoubt(ErrorBody(code="submit_in_doubt", message=message))


def _at_work(health: dict[str, Any]) -> bool:
    """Whether any job waits or runs on the endpoint."""
    jobs = health.get("jobs")
    counts: dict[str, Any] = jobs if isinstance(jobs, dict) else {}
    return any(
        isinstance(counts.get(name), int) and counts[name] > 0 for name in ("inQueue", "inProgress")
    )
