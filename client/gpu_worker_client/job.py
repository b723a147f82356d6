"""A job on an endpoint: its status, its events, its typed result, its end.

A `Job` is a handle: it holds an id and what was last seen, so it can be dropped and made again with
`Client.job(id)`. It is the blocking face of `async_job.AsyncJob`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Generic

from gpu_worker_client._portal import call, iterate
from gpu_worker_client.async_job import AsyncJob, OnTimeout, R
from gpu_worker_client.events import Event
from gpu_worker_client.status import JobStatus


class Job(Generic[R]):
    """One job. Made by `Client.submit` and `Client.job`.

    As a context manager it cancels the remote job when the block is left by an exception (Ctrl-C
    too) before the job ended.
    """

    def __init__(self, job: AsyncJob[R]) -> None:
        self.id = job.id
        """As the endpoint named it; `client.job(id)` makes a handle of it again."""
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job).removeprefix("Async")

    def __enter__(self) -> Job[R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            call(self._job.__aexit__, kind)

    def status(self) -> JobStatus:
        """Asks once. A job the endpoint no longer knows has the state `expired`."""
        return call(self._job.status)

    def events(
        self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave"
    ) -> Iterator[Event]:
        """Follows the job until its `Finished` event. Arguments and errors are those of `wait`."""
        return iterate(self._job.events(timeout, on_timeout=on_timeout))

    def wait(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> JobStatus:
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
        return call(partial(self._job.wait, timeout, on_timeout=on_timeout))

    def result(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> R:
        """Waits, then gives the typed result, from storage where the answer does not hold it. A
        result that the endpoint lost or forgot is read from the task's `result_get_url`, when the
        handle was made with the task and it had one.

        Raises:
            JobError: the job ended without one; its class says why.
            WaitTimeout, APIConnectionError, APIError: as `wait`.
        """
        return call(partial(self._job.result, timeout, on_timeout=on_timeout))

    def cancel(self, timeout: float | None = None) -> JobStatus:
        """Stops the job and says where it then stands; a job that has ended stays as it ended. No
        retry starts after `timeout` seconds."""
        return call(self._job.cancel, timeout)
