"""A job on an endpoint: look at it, follow its events, wait for it, take its typed result, cancel it.

A `Job` is a handle: it holds an id and what was last seen, so it can be dropped and made again with `Client.job(id)`. Polling
starts fast, slows down, and survives a short outage. A final state, once seen, is kept and never asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Literal, TypeVar, cast

from gpu_worker_client._elsewhere import whole
from gpu_worker_client._retry import RETRY_AFTER_CAP_SECONDS, should_retry
from gpu_worker_client._status import JobStatus, read_result, read_status
from gpu_worker_client.endpoint import Endpoint
from gpu_worker_client.exceptions import APIConnectionError, APIError, GpuWorkerError, NotFoundError, WaitTimeout
from gpu_worker_client.protocol import Progress, State, TaskResult

POLL_FIRST_SECONDS = 0.25
POLL_CAP_SECONDS = 5.0
POLL_FACTOR = 1.5
"""First pause, longest pause and growth of polling, the values of RunPod's own newer client (runpod/flash)."""
POLL_ERRORS_TOLERATED = 5
"""Consecutive failed looks at a job that waiting survives; a bad gateway must not lose an hour's job (runpod/flash #340)."""
LAST_CANCEL_SECONDS = 10.0
"""Longest that the end of the time, Ctrl-C or another way out is held up by cancelling the job."""

R = TypeVar("R", bound=TaskResult)
OnTimeout = Literal["leave", "cancel"]
_log = logging.getLogger("gpu_worker_client")


@dataclass(frozen=True)
class Queued:
    """The job waits for a worker; also when its worker died and it waits for another."""

    status: JobStatus


@dataclass(frozen=True)
class Started:
    """A worker has taken the job."""

    status: JobStatus


@dataclass(frozen=True)
class ProgressEvent:
    """The worker reported how far it is. `progress.seq` rises from event to event."""

    progress: Progress


@dataclass(frozen=True)
class Finished:
    """The last event. `status.state` says how it ended; `Job.result()` gives the result or raises the failure."""

    status: JobStatus


Event = Queued | Started | ProgressEvent | Finished


class Watcher:
    """Turns looks at a job into events: each change once, and no progress that came late."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._worker_id: str | None = None
        self._seq = -1

    def see(self, status: JobStatus) -> list[Event]:
        if status.state.is_final:
            return [Finished(status)]
        events: list[Event] = []
        # Another worker counts its reports from the start again.
        moved = status.worker_id is not None and self._worker_id not in (None, status.worker_id)
        if status.state is not self._state or moved:
            self._seq = -1
            events.append(Queued(status) if status.state is State.queued else Started(status))
        self._state = status.state
        self._worker_id = status.worker_id or self._worker_id
        if status.progress is not None and status.progress.seq > self._seq:
            self._seq = status.progress.seq
            events.append(ProgressEvent(status.progress))
        return events


def outage_seconds(errors: int, jitter: float) -> float:
    """Pause after the `errors`-th failed look in a row (from 1): 1, 2, 4, 8, 16 s, so that half a minute without answers is
    survived. `jitter` as in `poll_seconds`."""
    return 2 ** (errors - 1) * (0.75 + 0.5 * jitter)


def poll_seconds(looks: int, jitter: float) -> float:
    """Pause after `looks` looks (from 0) at the same state. `jitter` in [0, 1) spreads it by a quarter to both sides."""
    pause = POLL_CAP_SECONDS if looks > 10 else min(POLL_CAP_SECONDS, POLL_FIRST_SECONDS * POLL_FACTOR**looks)
    return pause * (0.75 + 0.5 * jitter)


class Job(Generic[R]):
    """One job. Made by `Client.submit` and `Client.job`.

    As a context manager it cancels the remote job when the block is left by an exception (Ctrl-C too) before the job ended.
    """

    def __init__(self, endpoint: Endpoint, job_id: str, result_type: type[R] | None = None) -> None:
        self.id = job_id
        self._endpoint = endpoint
        self._result_type = result_type
        self._final: JobStatus | None = None

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self._final.state.value if self._final else 'not known to have ended'})"

    def __enter__(self) -> Job[R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            return
        try:
            self.cancel(LAST_CANCEL_SECONDS)
        except GpuWorkerError as failed:
            _log.warning("job %s could not be cancelled: %s", self.id, failed)

    def status(self) -> JobStatus:
        """Looks once. A job the endpoint no longer knows has the state `expired`."""
        return self._final or self._look(deadline=None, patient=True)

    def events(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> Iterator[Event]:
        """Follows the job until its `Finished` event. Arguments and errors are those of `wait`."""
        watcher = Watcher()
        for status in self._looks(timeout, on_timeout):
            yield from watcher.see(status)

    def wait(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> JobStatus:
        """Waits for the job to end, however it ends.

        Args:
            timeout: seconds of wall time; None waits for ever.
            on_timeout: "cancel" stops the remote job when the time is over; "leave" lets it go on.

        Raises:
            WaitTimeout: the time is over; `error.job` is this job. The last look may outlive `timeout` by two seconds.
            APIConnectionError, APIError: six looks in a row failed, or one failed in a way that will not pass.
        """
        for status in self._looks(timeout, on_timeout):
            if status.state.is_final:
                return status
        raise AssertionError("looking ends with a final status or an error")

    def result(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> R:
        """Waits, then gives the typed result.

        Raises:
            JobError: the job ended without one; its class says why.
            WaitTimeout, APIConnectionError, APIError: as `wait`.
        """
        status = whole(self.wait(timeout, on_timeout=on_timeout))
        return cast(R, read_result(status, self._result_type, self))

    def cancel(self, timeout: float | None = None) -> JobStatus:
        """Stops the job and says where it then stands; a job that has ended stays as it ended. No retry starts after `timeout`
        seconds."""
        return self._final or self._cancel(None if timeout is None else self._endpoint.timing.clock() + timeout)

    def _cancel(self, deadline: float | None) -> JobStatus:
        try:
            status = read_status(self.id, self._endpoint.cancel(self.id, deadline=deadline))
        except NotFoundError:
            return self._keep(JobStatus(self.id, State.expired))
        except APIError as error:
            if should_retry(error, "any"):
                raise  # the endpoint is in trouble; a refusal may mean that the job has ended
            status = self._look(deadline=deadline, patient=True)
            if not status.state.is_final:
                raise
        # Any other state is asked for again: the answer to a cancel holds no result.
        return self._keep(status) if status.state is State.cancelled else self._look(deadline=deadline, patient=True)

    def _looks(self, timeout: float | None, on_timeout: OnTimeout) -> Iterator[JobStatus]:
        """Looks at the job again and again; the last look is final. At least one look is taken, whatever the timeout."""
        if self._final is not None:
            yield self._final
            return
        timing = self._endpoint.timing
        deadline = None if timeout is None else timing.clock() + timeout
        state, looks, errors = None, 0, 0
        while True:
            least_seconds = 0.0
            try:
                status = self._look(deadline, patient=False)
            except (APIConnectionError, APIError) as error:
                errors += 1
                if errors > POLL_ERRORS_TOLERATED or not _may_pass(error):
                    raise
                asked_seconds = error.retry_after_seconds if isinstance(error, APIError) else None
                least_seconds = max(outage_seconds(errors, timing.random()), min(asked_seconds or 0.0, RETRY_AFTER_CAP_SECONDS))
            else:
                yield status
                if status.state.is_final:
                    return
                errors = 0
                looks = looks if status.state is state else 0
                state = status.state
            pause = max(poll_seconds(looks, timing.random()), least_seconds)
            looks += 1
            remaining = pause if deadline is None else deadline - timing.clock()
            if remaining <= 0:
                yield self._time_over(on_timeout)
                return
            timing.sleep(min(pause, remaining))

    def _time_over(self, on_timeout: OnTimeout) -> JobStatus:
        """Raises WaitTimeout, unless the job ended by itself before the cancel reached it: then its status."""
        if on_timeout == "leave":
            raise WaitTimeout(f"job {self.id} did not end in time; it was left running", job=self)
        try:
            status = self.cancel(LAST_CANCEL_SECONDS)
        except GpuWorkerError as error:
            raise WaitTimeout(f"job {self.id} did not end in time and could not be cancelled: {error}", job=self) from error
        if status.state.is_final and status.state is not State.cancelled:
            return status
        raise WaitTimeout(f"job {self.id} did not end in time and was cancelled", job=self)

    def _look(self, deadline: float | None, *, patient: bool) -> JobStatus:
        try:
            answer = self._endpoint.status(self.id, retries="any" if patient else "none", deadline=deadline)
        except NotFoundError:
            return self._keep(JobStatus(self.id, State.expired))
        return self._keep(read_status(self.id, answer))

    def _keep(self, status: JobStatus) -> JobStatus:
        """Remembers the first final status; whatever is seen after it does not count."""
        if self._final is None and status.state.is_final:
            self._final = status
        return self._final or status


def _may_pass(error: GpuWorkerError) -> bool:
    """Whether looking again can go better. A 200 that is not JSON comes from something between us and the endpoint."""
    return should_retry(error, "any") or (isinstance(error, APIError) and error.status == 200)
