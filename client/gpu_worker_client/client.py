"""The SDK's front door: `Client` submits tasks to one endpoint and hands out jobs.

It accepts the typed tasks of `protocol` or plain dicts of the same shape, and validates them here,
so that a misspelt parameter fails in milliseconds and not in a queue. Results come back typed by
the task that was submitted. It is the blocking face of `async_client.AsyncClient`, which is for
programs with an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

from gpu_worker_client._blocking import in_thread
from gpu_worker_client._portal import call, iterate, on_callers_thread, sleeper
from gpu_worker_client._retry import Timing
from gpu_worker_client.async_client import AsyncClient, Outcome
from gpu_worker_client.async_job import AsyncJob, R
from gpu_worker_client.events import Event
from gpu_worker_client.files.methods import FileTasks
from gpu_worker_client.job import Job
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import AnsweredBy, TaskBase, TaskResult

if TYPE_CHECKING:  # a program without a bucket loads none of it
    from gpu_worker_client.storage import Storage

__all__ = ["Client", "Policy"]


class Client(FileTasks):
    """A client of one endpoint.

    Args:
        endpoint_id: default: `GPU_WORKER_ENDPOINT_ID` of the environment.
        api_key: default: `RUNPOD_API_KEY`.
        base_url: default: `GPU_WORKER_BASE_URL`, else RunPod's.
        env: where the defaults are read from.
        timing: clock, sleep and random numbers; for tests.
        storage: the bucket for tasks on files; default: `Storage.from_env()`, when it is first
            needed.

    Raises:
        ConfigError: one of them is missing or cannot work.
    """

    def __init__(
        self,
        endpoint_id: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        timing: Timing | None = None,
        storage: Storage | None = None,
    ) -> None:
        timing = timing or Timing()
        timing = replace(timing, async_sleep=sleeper(timing.sleep, timing.async_sleep))
        self.core: AsyncClient = _Core(
            endpoint_id, api_key, base_url, env=env, timing=timing, storage=storage
        )
        """Carries the calls out, for what calls more than one thing at once."""

    def __repr__(self) -> str:
        return repr(self.core).removeprefix("Async")

    @property
    def storage(self) -> Storage:
        """The bucket for files. Raises ConfigError: none was given, and the environment names
        none."""
        return self.core.storage

    @storage.setter
    def storage(self, storage: Storage | None) -> None:
        self.core.storage = storage

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Jobs on the endpoint go on."""
        self.core.connection.http.close()

    @overload
    def submit(
        self, task: AnsweredBy[R], *, policy: Policy | None = None, webhook: str | None = None
    ) -> Job[R]: ...
    @overload
    def submit(
        self,
        task: TaskBase | Mapping[str, Any] | bytes,
        *,
        policy: Policy | None = None,
        webhook: str | None = None,
    ) -> Job[TaskResult]: ...
    def submit(
        self, task: object, *, policy: Policy | None = None, webhook: str | None = None
    ) -> Job[Any]:
        """Queues a task.

        A submit whose answer got lost is sent again only when the task has a `result_get_url`, at
        which a second job would find the first one's result. Without it the task could run, and
        cost, twice; an `idempotency_key` without it gives a `UserWarning`.

        Args:
            task: a typed task, or the same as a dict or as JSON text in UTF-8.
            policy: how long it may wait and run; None is `Policy.for_task(task)`, and `Policy()`
                the endpoint's own setting.
            webhook: URL that RunPod calls when the job has ended. The call is not signed and
                repeats the task, presigned URLs included, so give the URLs short lives.

        Raises:
            InvalidTask: the task does not fit; nothing was sent.
            ConfigError: a setting is missing or not valid.
            APIConnectionError: the endpoint was not reached.
            APIError: the endpoint refused a request.
        """
        submit: Any = partial(self.core.submit, policy=policy, webhook=webhook)
        return call(submit, task).handle

    @overload
    def run(
        self,
        task: AnsweredBy[R],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> R: ...
    @overload
    def run(
        self,
        task: TaskBase | Mapping[str, Any] | bytes,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> TaskResult: ...
    def run(
        self,
        task: object,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> Any:
        """Submits, waits, and gives the typed result. When the waiting ends by an error, Ctrl-C or
        the timeout, the remote job is cancelled: nobody would take its result.

        Args:
            task: a typed task, or the same as a dict or as JSON text in UTF-8.
            timeout: seconds of wall time for the whole; None waits for ever.
            on_event: called with every `Event`.
            policy: how long the job may wait and run; None is `Policy.for_task(task)`.
            wait_seconds: for jobs that take seconds: asks the endpoint to answer the submit when
                the job has ended, or after this long (`runsync?wait=`, 1 to 10 s), which saves the
                polls. Ctrl-C then waits for that answer, as only it names the job to cancel, and
                RunPod keeps the result of such a job for 1 minute instead of 30.

        Raises:
            JobError: the job ended without a result; its class says why.
            WaitTimeout: `timeout` passed before the job ended.
            ConfigError: a setting is missing or not valid.
            APIConnectionError: the endpoint was not reached.
            APIError: the endpoint refused a request.
        """
        listener = on_callers_thread(on_event)
        run: Any = partial(self.core.run, policy=policy, wait_seconds=wait_seconds)
        return call(run, task, timeout, listener)

    @overload
    def map(
        self,
        tasks: Iterable[AnsweredBy[R]],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Iterator[Outcome[R]]: ...
    @overload
    def map(
        self,
        tasks: Iterable[TaskBase | Mapping[str, Any] | bytes],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Iterator[Outcome[TaskResult]]: ...
    def map(
        self,
        tasks: Iterable[Any],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Iterator[Outcome[Any]]:
        """Runs many tasks and yields how each ended, first done first. A failure ends its own task
        only. Leaving the loop early, by `break`, an exception or Ctrl-C, cancels the jobs that
        run.

        Args:
            tasks: taken one by one as slots become free, so they may be endless.
            max_parallel: jobs on the endpoint at once, 1 or more.
            timeout: seconds of wall time for each task, its queue included.
            policy: how long each job may wait and run.
        """
        outcomes = self.core.map(tasks, max_parallel=max_parallel, timeout=timeout, policy=policy)
        return iterate(outcomes)

    @overload
    def job(self, job_id: str, task: type[AnsweredBy[R]] | AnsweredBy[R]) -> Job[R]: ...
    @overload
    def job(self, job_id: str, task: str | None = None) -> Job[TaskResult]: ...
    def job(self, job_id: str, task: object = None) -> Job[Any]:
        """A handle on a job submitted earlier, here or by another program. Sends nothing.

        Args:
            job_id: `Job.id`.
            task: what makes the result typed: the task's model or name, or the task itself, of
                which a lost result is then recovered when it has a `result_get_url`. None goes by
                the name in the result.
        """
        return self.core.job(job_id, cast(Any, task)).handle

    def health(self, timeout: float | None = None) -> dict[str, Any]:
        """Counts of jobs and workers by state, as the endpoint gives them. No worker of any state
        and a queue that does not move: the endpoint was scaled to zero.

        Args:
            timeout: seconds for one request that is not tried again, 2 or more; None tries again as
                every call does.
        """
        return call(self.core.health, timeout)


class _Core(AsyncClient):
    """An `AsyncClient` for blocking callers: its errors carry blocking jobs, and what the tasks of
    a `map` come from may block."""

    async def _each(self, tasks: Iterable[Any]) -> AsyncGenerator[Any, None]:
        source = iter(tasks)
        while (task := await in_thread(partial(next, source, _END))) is not _END:
            yield task

    def _made(self, job: AsyncJob[Any]) -> AsyncJob[Any]:
        job.handle = Job(job)
        return job


_END = object()
