"""The blocking face of the SDK: `Client` submits tasks to one endpoint and hands out `Job`s.

What the calls do is written in `async_client` and `async_job`; here they are carried out on the
SDK's event loop while the caller waits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from gpu_worker_client._blocking import in_thread
from gpu_worker_client._portal import blocking, call, iterating, on_callers_thread, sleeper
from gpu_worker_client._retry import Timing
from gpu_worker_client.async_client import AsyncClient, Task
from gpu_worker_client.async_job import AsyncJob, OnTimeout, R
from gpu_worker_client.events import Event
from gpu_worker_client.files.methods import FileTasks
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import AnsweredBy

if TYPE_CHECKING:  # a program without a bucket loads none of it
    from gpu_worker_client.storage import Storage

__all__ = ["Client", "Job", "Policy"]


class Job(Generic[R]):
    """One job. Made by `Client.submit` and `Client.job`. A handle: it holds an id and what was last
    seen, so it can be dropped and made again with `Client.job(id)`.

    As a context manager it cancels the remote job when the block is left by an exception (Ctrl-C
    too) before the job ended.
    """

    def __init__(self, job: AsyncJob[R]) -> None:
        self.id = job.id
        """As the endpoint named it; `client.job(id)` makes a handle of it again."""
        self.core = job

    def __repr__(self) -> str:
        return repr(self.core).removeprefix("Async")

    def __enter__(self) -> Job[R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            call(self.core.__aexit__, kind)

    status = blocking(AsyncJob.status)
    events = iterating(AsyncJob.events)
    wait = blocking(AsyncJob.wait)
    cancel = blocking(AsyncJob.cancel)

    def result(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> R:
        return call(partial(self.core.result, timeout, on_timeout=on_timeout))

    result.__doc__ = AsyncJob.result.__doc__


class Client(FileTasks):
    """A client of one endpoint. Arguments and errors as of `AsyncClient`."""

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
        """As `AsyncClient.storage`."""
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

    def submit(
        self, task: Task[R], *, policy: Policy | None = None, webhook: str | None = None
    ) -> Job[R]:
        return call(partial(self.core.submit, task, policy=policy, webhook=webhook)).handle

    submit.__doc__ = AsyncClient.submit.__doc__

    map = iterating(AsyncClient.map)
    health = blocking(AsyncClient.health)

    def run(  # by `blocking`, mypy would not know the result of a task that is a dict
        self,
        task: Task[R],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> R:
        run: Any = partial(self.core.run, policy=policy, wait_seconds=wait_seconds)
        return call(run, task, timeout, on_callers_thread(on_event))

    run.__doc__ = AsyncClient.run.__doc__

    def job(
        self, job_id: str, task: type[AnsweredBy[R]] | AnsweredBy[R] | str | None = None
    ) -> Job[R]:
        return self.core.job(job_id, task).handle

    job.__doc__ = AsyncClient.job.__doc__


class _Core(AsyncClient):
    """An `AsyncClient` for blocking callers: its errors carry blocking jobs, and what the tasks of
    a `map` come from may block."""

    async def _each(self, tasks: Iterable[Any]) -> AsyncGenerator[Any, None]:
        source = iter(tasks)
        while (task := await in_thread(partial(next, source, _END))) is not _END:
            yield task

    def _job(self, *args: Any, **fields: Any) -> AsyncJob[Any]:
        job = super()._job(*args, **fields)
        job.handle = Job(job)
        return job


_END = object()
