"""A job on an endpoint, as flows: everything that `Job` and `AsyncJob` share, which is everything
but who carries it out.

Polling starts fast, slows down, and survives a short outage. A final state, once seen, is kept and
never asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar, cast

from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS, LAST_TIMEOUT_SECONDS, Endpoint
from gpu_worker_client._flow import Flow, Sleep, Tell
from gpu_worker_client._retry import RETRY_AFTER_CAP_SECONDS, should_retry
from gpu_worker_client.errors import APIConnectionError, APIError, NotFoundError, WaitTimeout
from gpu_worker_client.events import Health, Watcher
from gpu_worker_client.protocol import State, TaskResult
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.status import JobStatus, read_result, read_status
from gpu_worker_client.stored_result import KeptResult, is_summary, read_kept, read_whole

POLL_FIRST_SECONDS = 0.25
POLL_CAP_SECONDS = 5.0
POLL_FACTOR = 1.5
"""First pause, longest pause and growth of polling, the values of RunPod's own newer client
(runpod/flash)."""
POLL_ERRORS_TOLERATED = 5
"""Consecutive failed looks at a job that waiting survives; a bad gateway must not lose an hour's
job (runpod/flash #340)."""
HEALTH_EVERY_SECONDS = 5.0
"""How often the queue is looked at while the job's events are followed and it waits there."""

R = TypeVar("R", bound=TaskResult)
OnTimeout = Literal["leave", "cancel"]
See = Callable[[JobStatus], Flow[None]]
_log = logging.getLogger("gpu_worker_client")


def outage_seconds(errors: int, jitter: float) -> float:
    """Pause after the `errors`-th failed look in a row (from 1): 1, 2, 4, 8, 16 s, so that half a
    minute without answers is survived. `jitter` as in `poll_seconds`."""
    return 2 ** (errors - 1) * (0.75 + 0.5 * jitter)


def poll_seconds(looks: int, jitter: float) -> float:
    """Pause after `looks` looks (from 0) at the same state. `jitter` in [0, 1) spreads it by a
    quarter to both sides."""
    pause = (
        POLL_CAP_SECONDS
        if looks > 10
        else min(POLL_CAP_SECONDS, POLL_FIRST_SECONDS * POLL_FACTOR**looks)
    )
    return pause * (0.75 + 0.5 * jitter)


class JobCore(Generic[R]):
    """What a handle on a job knows and what it can ask for. The public handles derive from it and
    drive its flows."""

    def __init__(
        self,
        endpoint: Endpoint,
        job_id: str,
        result_type: type[R] | None = None,
        kept: KeptResult | None = None,
    ) -> None:
        self.id = job_id
        """As the endpoint named it; `client.job(id)` makes a handle of it again."""
        self._endpoint = endpoint
        self._timing = endpoint.timing
        self._result_type = result_type
        self._kept = kept
        self._final: JobStatus | None = None

    def __repr__(self) -> str:
        state = self._final.state.value if self._final else "not known to have ended"
        return f"{type(self).__name__}({self.id!r}, {state})"

    def take_over(self, other: JobCore[Any]) -> None:
        """What another client's handle on the same job knows."""
        self._result_type, self._kept, self._final = other._result_type, other._kept, other._final

    def status_flow(self) -> Flow[JobStatus]:
        return self._final or (yield from self._look(deadline=None, patient=True))

    def events_flow(self, timeout: float | None, on_timeout: OnTimeout) -> Flow[JobStatus]:
        """Tells every `Event`."""
        watcher = Watcher()
        next_health = float("-inf")

        def see(status: JobStatus) -> Flow[None]:
            nonlocal next_health
            health = None
            if status.state is State.queued and self._timing.clock() >= next_health:
                health = yield from self._health()
                next_health = self._timing.clock() + HEALTH_EVERY_SECONDS
            for event in watcher.see(status, health):
                yield Tell(event)

        return self._looks(timeout, on_timeout, see)

    def wait_flow(self, timeout: float | None, on_timeout: OnTimeout) -> Flow[JobStatus]:
        return self._looks(timeout, on_timeout, _see_nothing)

    def run_flow(self, deadline: float | None, *, watched: bool) -> Flow[R]:
        """Waits until the deadline, cancels then, gives the result. Tells the events when they are
        watched."""
        remaining = None if deadline is None else deadline - self._timing.clock()
        yield from (self.events_flow if watched else self.wait_flow)(remaining, "cancel")
        return (yield from self.result_flow(None, "leave"))

    def result_flow(self, timeout: float | None, on_timeout: OnTimeout) -> Flow[R]:
        deadline = self._timing.deadline(timeout)
        status = yield from self.wait_flow(timeout, on_timeout)
        output = yield from self._whole_output(status, deadline)
        return cast(R, read_result(status, output, self._result_type, self))

    def _whole_output(self, status: JobStatus, deadline: float | None) -> Flow[object]:
        """The result as JSON values, from wherever it lies; None when there is none."""
        allow_http = self._endpoint.on_loopback
        output = yield from read_whole(status.output, self._timing, deadline, allow_http=allow_http)
        lost = status.state is State.expired or (status.state is State.completed and output is None)
        if self._kept is None or not (lost or is_summary(output)):
            return output
        try:
            return (yield from read_kept(self._kept, self._timing, deadline)) or output
        except APIConnectionError as error:
            if not lost:
                raise
            # Nothing there: what became of the job says more. Storage in trouble: asking again may
            # find it.
            if error.transient:
                raise
            return output

    def cancel_flow(self, timeout: float | None) -> Flow[JobStatus]:
        if self._final is not None:
            return self._final
        deadline = self._timing.deadline(timeout)
        try:
            status = read_status(
                self.id, (yield from self._endpoint.cancel(self.id, deadline=deadline))
            )
        except NotFoundError:
            return self._keep(JobStatus(self.id, State.expired))
        except APIError as error:
            if should_retry(error, "any"):
                raise  # the endpoint is in trouble; a refusal may mean that the job has ended
            status = yield from self._look(deadline=deadline, patient=True)
            if not status.state.is_final:
                raise
        if status.state is State.cancelled:
            return self._keep(status)
        # Any other state is asked for again: the answer to a cancel holds no result.
        return (yield from self._look(deadline=deadline, patient=True))

    def abandon_flow(self) -> Flow[None]:
        """Cancels on the way out; that it failed must not hide why the way out was taken."""
        try:
            yield from self.cancel_flow(LAST_CANCEL_SECONDS)
        except GpuWorkerError as failed:
            _log.warning("job %s could not be cancelled: %s", self.id, failed)

    def _looks(self, timeout: float | None, on_timeout: OnTimeout, see: See) -> Flow[JobStatus]:
        """Looks at the job again and again and shows `see` every look; the last one is final and is
        returned. At least one look is taken, whatever the timeout."""
        if self._final is not None:
            yield from see(self._final)
            return self._final
        timing, deadline = self._timing, self._timing.deadline(timeout)
        state, looks, errors = None, 0, 0
        while True:
            least_seconds = 0.0
            try:
                status = yield from self._look(deadline, patient=False)
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
                yield from see(status)
                if status.state.is_final:
                    return status
                errors = 0
                looks = looks if status.state is state else 0
                state = status.state
            pause = max(poll_seconds(looks, timing.random()), least_seconds)
            looks += 1
            remaining = pause if deadline is None else deadline - timing.clock()
            if remaining <= 0:
                status = yield from self._time_over(on_timeout)
                yield from see(status)
                return status
            yield Sleep(min(pause, remaining))

    def _time_over(self, on_timeout: OnTimeout) -> Flow[JobStatus]:
        """Raises WaitTimeout, unless the job ended by itself before the cancel reached it: then its
        status."""
        if on_timeout == "leave":
            raise WaitTimeout(f"job {self.id} did not end in time; it was left running", job=self)
        try:
            status = yield from self.cancel_flow(LAST_CANCEL_SECONDS)
        except GpuWorkerError as error:
            raise WaitTimeout(
                f"job {self.id} did not end in time and could not be cancelled: {error}", job=self
            ) from error
        if status.state.is_final and status.state is not State.cancelled:
            return status
        raise WaitTimeout(f"job {self.id} did not end in time and was cancelled", job=self)

    def _look(self, deadline: float | None, *, patient: bool) -> Flow[JobStatus]:
        try:
            answer = yield from self._endpoint.status(
                self.id, retries="any" if patient else "none", deadline=deadline
            )
        except NotFoundError:
            return self._keep(JobStatus(self.id, State.expired))
        return self.seen(answer)

    def seen(self, answer: Mapping[str, Any]) -> JobStatus:
        """What the endpoint's answer says of the job, unless its end is known already."""
        return self._keep(read_status(self.id, answer))

    def _health(self) -> Flow[Health | None]:
        """What is known of the queue: nothing, when the endpoint does not tell at once. It is only
        for show."""
        try:
            deadline = self._timing.clock() + LAST_TIMEOUT_SECONDS
            return Health.read(
                (yield from self._endpoint.health(retries="none", deadline=deadline))
            )
        except (APIConnectionError, APIError):
            return None

    def _keep(self, status: JobStatus) -> JobStatus:
        """Remembers the first final status; whatever is seen after it does not count."""
        if self._final is None and status.state.is_final:
            self._final = status
        return self._final or status


def _see_nothing(_: JobStatus) -> Flow[None]:
    yield from ()
