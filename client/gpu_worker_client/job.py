"""A job on an endpoint: look at it, follow its events, wait for it, take its typed result, cancel
it.

A `Job` is a handle: it holds an id and what was last seen, so it can be dropped and made again with
`Client.job(id)`. `async_client.AsyncJob` is the same, awaitable.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from gpu_worker_client._drive import SyncDriver
from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS, Endpoint
from gpu_worker_client._job_core import JobCore, OnTimeout, R
from gpu_worker_client.events import ColdStart, Event, Finished, ProgressEvent, Queued, Started
from gpu_worker_client.status import JobStatus
from gpu_worker_client.stored_result import KeptResult

__all__ = [
    "LAST_CANCEL_SECONDS",
    "ColdStart",
    "Event",
    "Finished",
    "Job",
    "OnTimeout",
    "ProgressEvent",
    "Queued",
    "R",
    "Started",
]


class Job(JobCore[R]):
    """One job. Made by `Client.submit` and `Client.job`.

    As a context manager it cancels the remote job when the block is left by an exception (Ctrl-C
    too) before the job ended.
    """

    def __init__(
        self,
        driver: SyncDriver,
        endpoint: Endpoint,
        job_id: str,
        result_type: type[R] | None = None,
        kept: KeptResult | None = None,
    ) -> None:
        super().__init__(endpoint, job_id, result_type, kept)
        self._driver = driver

    def __enter__(self) -> Job[R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._driver.run(self.abandon_flow())

    def status(self) -> JobStatus:
        """Looks once. A job the endpoint no longer knows has the state `expired`."""
        return self._driver.run(self.status_flow())

    def events(
        self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave"
    ) -> Iterator[Event]:
        """Follows the job until its `Finished` event. Arguments and errors are those of `wait`."""
        return self._driver.iterate(self.events_flow(timeout, on_timeout))

    def wait(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> JobStatus:
        """Waits for the job to end, however it ends.

        Args:
            timeout: seconds of wall time; None waits for ever.
            on_timeout: "cancel" stops the remote job when the time is over; "leave" lets it go on.

        Raises:
            WaitTimeout: the time is over; `error.job` is this job. The last look may outlive
                `timeout` by two seconds, a cancel by ten.
            APIConnectionError, APIError: six looks in a row failed, or one failed in a way that
                will not pass.
        """
        return self._driver.run(self.wait_flow(timeout, on_timeout))

    def result(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> R:
        """Waits, then gives the typed result, from storage where the answer does not hold it. A
        result that the endpoint lost or forgot is read from the task's `result_get_url`, when the
        handle was made with the task and it had one.

        Raises:
            JobError: the job ended without one; its class says why.
            WaitTimeout, APIConnectionError, APIError: as `wait`.
        """
        return self._driver.run(self.result_flow(timeout, on_timeout))

    def cancel(self, timeout: float | None = None) -> JobStatus:
        """Stops the job and says where it then stands; a job that has ended stays as it ended. No
        retry starts after `timeout` seconds."""
        return self._driver.run(self.cancel_flow(timeout))
