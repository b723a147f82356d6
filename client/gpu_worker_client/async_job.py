"""A job on an endpoint, for programs with an event loop: every call on a job, written once.
`client.Job` is its blocking face.

Polling starts fast, slows down, and survives a short outage. A final state, once seen, is
remembered and never asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Literal, cast

from typing_extensions import TypeVar

from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS, Endpoint
from gpu_worker_client._http import LAST_TIMEOUT_SECONDS, Http
from gpu_worker_client._retry import RETRY_AFTER_CAP_SECONDS, Timing, should_retry
from gpu_worker_client.errors import APIConnectionError, APIError, NotFoundError, WaitTimeout
from gpu_worker_client.events import Event, Health, Watcher
from gpu_worker_client.protocol import State, TaskResult
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.status import JobStatus, read_result, read_status
from gpu_worker_client.stored_result import StoredResult, is_summary, read_stored, read_whole

POLL_FIRST_SECONDS = 0.25
POLL_CAP_SECONDS = 5.0
POLL_FACTOR = 1.5
"""First pause, longest pause and growth of polling, the values of RunPod's own newer client
(runpod/flash)."""
POLL_ERRORS_TOLERATED = 5
"""Consecutive failed polls of a job that waiting survives; a bad gateway must not lose an hour's
job (runpod/flash #340)."""
HEALTH_EVERY_SECONDS = 5.0
"""How often the queue is inspected while the job's events are followed and it waits there."""

R = TypeVar("R", bound=TaskResult, default=TaskResult)
OnTimeout = Literal["leave", "cancel"]
_log = logging.getLogger("gpu_worker_client")


def outage_seconds(errors: int, jitter: float) -> float:
    """Pause after the `errors`-th failed poll in a row (from 1): 1, 2, 4, 8, 16 s, so that half a
    minute without answers is survived. `jitter` as in `poll_seconds`."""
    return 2 ** (errors - 1) * (0.75 + 0.5 * jitter)


def poll_seconds(polls: int, jitter: float) -> float:
    """Pause after `polls` polls (from 0) at the same state. `jitter` in [0, 1) spreads it by a
    quarter to both sides."""
    pause = min(POLL_CAP_SECONDS, POLL_FIRST_SECONDS * POLL_FACTOR ** min(polls, 100))
    return pause * (0.75 + 0.5 * jitter)


@dataclass(frozen=True)
class Connection:
    """One endpoint and the way to it."""

    endpoint: Endpoint
    http: Http
    timing: Timing


class AsyncJob(Generic[R]):
    """One job. Made by `AsyncClient.submit` and `AsyncClient.job`.

    `async with job:` cancels the remote job when the block is left by an exception before the job
    ended, the cancellation of the asyncio task included.
    """

    def __init__(
        self,
        connection: Connection,
        job_id: str,
        result_type: type[R] | None = None,
        stored: StoredResult | None = None,
        answer: dict[str, Any] | None = None,
    ) -> None:
        self.id = job_id
        """As the endpoint named it; `client.job(id)` makes a handle of it again."""
        self._connection = connection
        self._timing = connection.timing
        self._result_type = result_type
        self._stored = stored
        self._final: JobStatus | None = None
        self.handle: Any = self
        """What an error of this job carries: this job, or its blocking face."""
        if answer is not None:
            self._remember(read_status(job_id, answer))

    def __repr__(self) -> str:
        state = self._final.state.value if self._final else "not known to have ended"
        return f"AsyncJob({self.id!r}, {state})"

    async def __aenter__(self) -> AsyncJob[R]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        try:
            await self.cancel(LAST_CANCEL_SECONDS)
        except GpuWorkerError as failed:  # it must not hide why the block was left
            _log.warning("job %s could not be cancelled: %s", self.id, failed)

    async def status(self) -> JobStatus:
        """Asks once. A job the endpoint no longer knows has the state `expired`."""
        return self._final or await self._poll(deadline=None, patient=True)

    async def events(
        self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave"
    ) -> AsyncGenerator[Event, None]:
        """Follows the job until its `Finished` event. Arguments and errors are those of `wait`."""
        watcher = Watcher()
        next_health = float("-inf")
        async with aclosing(self._polls(timeout, on_timeout)) as polls:
            async for status in polls:
                health = None
                if status.state is State.queued and self._timing.clock() >= next_health:
                    health = await self._health()
                    next_health = self._timing.clock() + HEALTH_EVERY_SECONDS
                for event in watcher.see(status, health):
                    yield event

    async def wait(
        self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave"
    ) -> JobStatus:
        """Waits for the job to end, however it ends.

        Args:
            timeout: seconds of wall time; None waits for ever.
            on_timeout: "cancel" stops the remote job when the time is over; "leave" lets it go on.

        Raises:
            WaitTimeout: the time is over; `error.job` is this job. The last poll may outlive
                `timeout` by two seconds, a cancel by ten.
            APIConnectionError, APIError: six polls in a row failed, or one failed in a way that
                will not pass.
        """
        async with aclosing(self._polls(timeout, on_timeout)) as polls:
            async for status in polls:
                if status.state.is_final:
                    return status
        raise AssertionError("the last status is final")

    async def result(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> R:
        """Waits, then gives the typed result, from storage where the answer does not hold it. A
        result that the endpoint lost or forgot is read from the task's `result_get_url`, when the
        handle was made with the task and it had one.

        Raises:
            JobError: the job ended without one; its class says why.
            WaitTimeout, APIConnectionError, APIError: as `wait`.
        """
        deadline = self._timing.deadline(timeout)
        status = await self.wait(timeout, on_timeout=on_timeout)
        output = await self._whole_output(status, deadline)
        return cast(R, read_result(status, output, self._result_type, self.handle))

    async def cancel(self, timeout: float | None = None) -> JobStatus:
        """Stops the job and says where it then stands; a job that has ended stays as it ended. No
        retry starts after `timeout` seconds."""
        if self._final is not None:
            return self._final
        deadline = self._timing.deadline(timeout)
        try:
            request = self._connection.endpoint.cancel(self.id)
            status = read_status(self.id, await self._connection.http.send(request, deadline))
        except NotFoundError:
            return self._remember(JobStatus(self.id, State.expired))
        except APIError as error:
            if should_retry(error, "any"):
                raise  # the endpoint is in trouble; a refusal may mean that the job has ended
            status = await self._poll(deadline=deadline, patient=True)
            if not status.state.is_final:
                raise
        if status.state is State.cancelled:
            return self._remember(status)
        # Any other state is asked for again: the answer to a cancel holds no result.
        return await self._poll(deadline=deadline, patient=True)

    async def _whole_output(self, status: JobStatus, deadline: float | None) -> object:
        """The result as JSON values, from wherever it lies; None when there is none."""
        http, allow_http = self._connection.http, self._connection.endpoint.on_loopback
        output = await read_whole(http, status.output, deadline, allow_http=allow_http)
        is_lost = status.state is State.expired or (
            status.state is State.completed and output is None
        )
        if self._stored is None or not (is_lost or is_summary(output)):
            return output
        try:
            return await read_stored(http, self._stored, deadline) or output
        except APIConnectionError as error:
            # Nothing there: what became of the job says more. Storage in trouble: asking again may
            # find it.
            if not is_lost or error.transient:
                raise
            return output

    async def _polls(
        self, timeout: float | None, on_timeout: OnTimeout
    ) -> AsyncGenerator[JobStatus, None]:
        """Polls the job again and again; the last status is final. There is one poll at least,
        whatever the timeout."""
        if self._final is not None:
            yield self._final
            return
        timing, deadline = self._timing, self._timing.deadline(timeout)
        state, polls, errors = None, 0, 0
        while True:
            least_seconds = 0.0
            try:
                status = await self._poll(deadline, patient=False)
            except (APIConnectionError, APIError) as error:
                errors += 1
                if errors > POLL_ERRORS_TOLERATED or not should_retry(error, "any"):
                    raise
                asked_seconds = error.retry_after_seconds if isinstance(error, APIError) else None
                least_seconds = max(
                    outage_seconds(errors, timing.random()),
                    min(asked_seconds or 0.0, RETRY_AFTER_CAP_SECONDS),
                )
            else:
                yield status
                if status.state.is_final:
                    return
                errors = 0
                polls = polls if status.state is state else 0
                state = status.state
            pause = max(poll_seconds(polls, timing.random()), least_seconds)
            polls += 1
            remaining = pause if deadline is None else deadline - timing.clock()
            if remaining <= 0:
                yield await self._time_over(on_timeout)
                return
            await timing.async_sleep(min(pause, remaining))

    async def _time_over(self, on_timeout: OnTimeout) -> JobStatus:
        """Raises WaitTimeout, unless the job ended by itself before the cancel reached it: then its
        status."""
        end = f"job {self.id} did not end in time"
        if on_timeout == "leave":
            raise WaitTimeout(f"{end}; it was left running", job=self.handle)
        try:
            status = await self.cancel(LAST_CANCEL_SECONDS)
        except GpuWorkerError as error:
            raise WaitTimeout(
                f"{end} and could not be cancelled: {error}", job=self.handle
            ) from error
        if status.state.is_final and status.state is not State.cancelled:
            return status
        raise WaitTimeout(f"{end} and was cancelled", job=self.handle)

    async def _poll(self, deadline: float | None, *, patient: bool) -> JobStatus:
        request = self._connection.endpoint.status(self.id, retries="any" if patient else "none")
        try:
            answer = await self._connection.http.send(request, deadline)
        except NotFoundError:
            return self._remember(JobStatus(self.id, State.expired))
        return self._remember(read_status(self.id, answer))

    async def _health(self) -> Health | None:
        """What is known of the queue: nothing, when the endpoint does not answer at once. It is
        only for show."""
        request = self._connection.endpoint.health(retries="none")
        try:
            deadline = self._timing.clock() + LAST_TIMEOUT_SECONDS
            return Health.read(await self._connection.http.send(request, deadline))
        except (APIConnectionError, APIError):
            return None

    def _remember(self, status: JobStatus) -> JobStatus:
        """Remembers the first final status; whatever comes after it does not count."""
        if self._final is None and status.state.is_final:
            self._final = status
        return self._final or status
