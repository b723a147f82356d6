"""`AsyncClient`: every call on an endpoint, written once. `client.Client` is its blocking face.

It accepts the typed tasks of `protocol` or plain dicts of the same shape, and validates them here,
so that a misspelt parameter fails in milliseconds and not in a queue. Results come back typed by
the task that was submitted.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from gpu_worker_client._blocking import as_they_end, notify
from gpu_worker_client._endpoint import (
    DEFAULT_BASE_URL,
    LAST_CANCEL_SECONDS,
    Endpoint,
    check_api_key,
    check_id,
    job_id_of,
)
from gpu_worker_client._http import Http
from gpu_worker_client._retry import Timing
from gpu_worker_client.async_job import AsyncJob, Connection, R
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.events import Event
from gpu_worker_client.files.methods import AsyncFileTasks
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import TASKS, AnsweredBy, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.protocol.parse import is_web_url, web_task, wire_of
from gpu_worker_client.stored_result import StoredResult

if TYPE_CHECKING:  # a program without a bucket loads none of it
    from gpu_worker_client.storage import Storage

MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 10.0
"""Bounds of `run(wait_seconds=...)`. The lower one is RunPod's; the upper one is how long Ctrl-C
may be held up, since only the answer names the job to cancel.
https://docs.runpod.io/serverless/endpoints/operation-reference"""
Task = AnsweredBy[R] | Mapping[str, Any] | bytes
"""A typed task, or the same as a dict or as JSON text in UTF-8."""
_log = logging.getLogger("gpu_worker_client")


def _required(env: Mapping[str, str], variable: str, argument: str) -> str:
    value = env.get(variable, "")
    if not value:
        raise ConfigError(f"no {argument}: give it to the client or set {variable}")
    return value


def _is_repeatable(task: TaskBase) -> bool:
    """Whether a second job from the same task would find the first one's result."""
    if task.idempotency_key is not None and task.result_get_url is None:
        warnings.warn(
            "an idempotency_key without result_url and result_get_url only names the work: a job"
            " that runs twice costs twice. Give the task both URLs",
            stacklevel=2,
        )
    return task.result_get_url is not None


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What `map` yields for a task: its result or its error."""

    index: int
    """The task's position among those given, from 0."""
    result: R | None = None
    error: GpuWorkerError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def get(self) -> R:
        """The result, or the error raised."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


class AsyncClient(AsyncFileTasks):
    """A client of one endpoint for programs with an event loop. `on_event` of its calls may be a
    coroutine function. Cancelling the asyncio task does what Ctrl-C does to a blocking call. Close
    what `map` gives (`aclose()`), or use it up, so that no job is left running.

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
        env = os.environ if env is None else env
        timing = timing or Timing()
        self._storage, self._env = storage, env
        endpoint = Endpoint(
            endpoint_id or _required(env, "GPU_WORKER_ENDPOINT_ID", "endpoint_id"),
            base_url or env.get("GPU_WORKER_BASE_URL") or DEFAULT_BASE_URL,
            timing.now,
        )
        key = check_api_key(api_key or _required(env, "RUNPOD_API_KEY", "api_key"))
        # A proxy named by the environment is for the world outside, not for a dev-server on this
        # machine.
        http = Http(key, timing, trust_environment=not endpoint.on_loopback)
        self.connection = Connection(endpoint, http, timing)

    def __repr__(self) -> str:
        endpoint = self.connection.endpoint
        return f"AsyncClient({endpoint.id!r}, base_url={endpoint.base_url!r})"

    @property
    def storage(self) -> Storage:
        """The bucket for files. Raises ConfigError: none was given, and the environment names
        none."""
        if self._storage is None:
            from gpu_worker_client.storage import Storage  # here: it belongs to an extra

            self._storage = Storage.from_env(self._env)
        return self._storage

    @storage.setter
    def storage(self, storage: Storage | None) -> None:
        self._storage = storage

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. Jobs on the endpoint go on."""
        self.connection.http.close()

    async def submit(
        self, task: Task[R], *, policy: Policy | None = None, webhook: str | None = None
    ) -> AsyncJob[R]:
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
        return await self._submit(task, policy, webhook)

    async def run(
        self,
        task: Task[R],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> R:
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
        deadline = self.connection.timing.deadline(timeout)
        job = await self._submit(task, policy, None, deadline, wait_seconds)
        async with job:
            remaining = None if deadline is None else deadline - self.connection.timing.clock()
            if on_event is None:
                await job.wait(remaining, on_timeout="cancel")
            else:
                async with aclosing(job.events(remaining, on_timeout="cancel")) as events:
                    async for event in events:
                        await notify(on_event, event)
            return await job.result()

    async def map(
        self,
        tasks: Iterable[Task[R]],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> AsyncGenerator[Outcome[R], None]:
        """Runs many tasks and yields how each ended, first done first. A failure ends its own task
        only. Leaving the loop early, by `break`, an exception or Ctrl-C, cancels the jobs that
        run.

        Args:
            tasks: taken one by one as slots become free, so they may be endless.
            max_parallel: jobs on the endpoint at once, 1 or more.
            timeout: seconds of wall time for each task, its queue included.
            policy: how long each job may wait and run.
        """
        if max_parallel < 1:
            raise ConfigError("max_parallel must be 1 or more")

        async def outcome(index: int, task: Any) -> Outcome[Any]:
            try:
                return Outcome(index, result=await self.run(task, timeout, policy=policy))
            except GpuWorkerError as error:
                return Outcome(index, error=error)

        async def calls() -> AsyncGenerator[Coroutine[Any, Any, Outcome[Any]], None]:
            index = 0
            async for task in self._each(tasks):
                yield outcome(index, task)
                index += 1

        async with aclosing(as_they_end(calls(), max_parallel)) as outcomes:
            async for ended in outcomes:
                yield ended

    async def _each(self, tasks: Iterable[Any]) -> AsyncGenerator[Any, None]:
        for task in tasks:
            yield task

    def job(
        self, job_id: str, task: type[AnsweredBy[R]] | AnsweredBy[R] | str | None = None
    ) -> AsyncJob[R]:
        """A handle on a job submitted earlier, here or by another program. Sends nothing.

        Args:
            job_id: `Job.id`.
            task: what makes the result typed: the task's model or name, or the task itself, of
                which a lost result is then recovered when it has a `result_get_url`. None goes by
                the name in the result.
        """
        check_id(job_id, "job id")
        if isinstance(task, TaskBase):
            return self._job(job_id, TASKS[task.task].result, StoredResult.of(task))
        if isinstance(task, str):
            if task not in TASKS:
                raise ConfigError(f"task must be one of: {', '.join(TASKS)}")
            return self._job(job_id, TASKS[task].result)
        model: Any = task
        kinds = [kind for kind in TASKS.values() if model is kind.request]
        return self._job(job_id, kinds[0].result if kinds else None)

    async def health(self, timeout: float | None = None) -> dict[str, Any]:
        """Counts of jobs and workers by state, as the endpoint gives them. No worker of any state
        and a queue that does not move: the endpoint was scaled to zero.

        Args:
            timeout: seconds for one request that is not tried again, 2 or more; None tries again as
                every call does.
        """
        request = self.connection.endpoint.health(retries="any" if timeout is None else "none")
        return await self.connection.http.send(request, self.connection.timing.deadline(timeout))

    async def _submit(
        self,
        task: object,
        policy: Policy | None,
        webhook: str | None,
        deadline: float | None = None,
        wait_seconds: float | None = None,
    ) -> AsyncJob[Any]:
        checked = web_task(task)
        body: dict[str, Any] = {"input": wire_of(checked)}
        limits = (checked_policy(policy) or Policy.for_task(checked)).to_wire()
        if limits:
            body["policy"] = limits
        if webhook is not None:
            if not is_web_url(webhook):
                raise ConfigError("webhook must be an absolute https or http URL")
            body["webhook"] = webhook
        if wait_seconds is not None:
            if not MIN_WAIT_SECONDS <= wait_seconds <= MAX_WAIT_SECONDS:
                problem = f"must be {MIN_WAIT_SECONDS:g} to {MAX_WAIT_SECONDS:g}"
                raise ConfigError(f"wait_seconds {problem}")
            clock = self.connection.timing.clock
            remaining = wait_seconds if deadline is None else deadline - clock()
            wait_seconds = min(wait_seconds, remaining) if remaining >= MIN_WAIT_SECONDS else None
        repeatable = _is_repeatable(checked)
        request = self.connection.endpoint.submit(
            body, repeatable=repeatable, wait_seconds=wait_seconds
        )
        answer = await self.connection.http.send(request, deadline, self._take_back)
        job_id, kind = job_id_of(answer), TASKS[checked.task].result
        return self._job(job_id, kind, StoredResult.of(checked), answer)

    async def _take_back(self, reply: Awaitable[Any]) -> None:
        """Cancels the job that a submit in flight may have queued: its answer is waited for, as
        only that names the job."""
        import asyncio

        timing, http = self.connection.timing, self.connection.http
        deadline = timing.clock() + LAST_CANCEL_SECONDS
        try:
            answer = await asyncio.wait_for(asyncio.shield(reply), LAST_CANCEL_SECONDS)
            await http.send(self.connection.endpoint.cancel(job_id_of(answer)), deadline)
        except (GpuWorkerError, asyncio.TimeoutError) as error:
            _log.warning(
                "interrupted while a job was submitted, and it could not be cancelled: %s",
                str(error) or "no answer",
            )

    def _job(
        self,
        job_id: str,
        result_type: type[TaskResult] | None,
        stored: StoredResult | None = None,
        answer: dict[str, Any] | None = None,
    ) -> AsyncJob[Any]:
        return AsyncJob(self.connection, job_id, result_type, stored, answer)
