"""`AsyncClient` and `AsyncJob`: the surface of `Client` and `Job`, awaitable. Both carry out the
same flows, so what is said there of arguments, errors, retries and time limits holds here;
cancelling an asyncio task does what Ctrl-C does there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, overload

from gpu_worker_client._at_once import as_they_end
from gpu_worker_client._client_core import ClientCore, Connection
from gpu_worker_client._drive_async import AsyncDriver
from gpu_worker_client._endpoint import Endpoint
from gpu_worker_client._job_core import JobCore, OnTimeout, R
from gpu_worker_client._timing import Timing
from gpu_worker_client.async_files import AsyncFileTasks
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.events import Event
from gpu_worker_client.outcome import Outcome
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import AnsweredBy, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.status import JobStatus
from gpu_worker_client.storage import Storage
from gpu_worker_client.stored_result import KeptResult

if TYPE_CHECKING:
    from gpu_worker_client.client import Client


class AsyncJob(JobCore[R]):
    """One job. Made by `AsyncClient.submit` and `AsyncClient.job`.

    `async with job:` cancels the remote job when the block is left by an exception before the job
    ended, the cancellation of the asyncio task included.
    """

    def __init__(
        self,
        driver: AsyncDriver,
        endpoint: Endpoint,
        job_id: str,
        result_type: type[R] | None = None,
        kept: KeptResult | None = None,
    ) -> None:
        super().__init__(endpoint, job_id, result_type, kept)
        self._driver = driver

    async def __aenter__(self) -> AsyncJob[R]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            await self._driver.run(self.abandon_flow())

    async def status(self) -> JobStatus:
        """As `Job.status`."""
        return await self._driver.run(self.status_flow())

    def events(
        self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave"
    ) -> AsyncIterator[Event]:
        """As `Job.events`, for `async for`."""
        return self._driver.iterate(self.events_flow(timeout, on_timeout))

    async def wait(
        self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave"
    ) -> JobStatus:
        """As `Job.wait`."""
        return await self._driver.run(self.wait_flow(timeout, on_timeout))

    async def result(self, timeout: float | None = None, *, on_timeout: OnTimeout = "leave") -> R:
        """As `Job.result`."""
        return await self._driver.run(self.result_flow(timeout, on_timeout))

    async def cancel(self, timeout: float | None = None) -> JobStatus:
        """As `Job.cancel`."""
        return await self._driver.run(self.cancel_flow(timeout))


class AsyncClient(ClientCore, AsyncFileTasks):
    """A client of one endpoint for programs with an event loop. Arguments and errors as of
    `Client`."""

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
        self._storage, self._env = storage, env
        self._set_up(
            Connection.open(
                endpoint_id, api_key, base_url, os.environ if env is None else env, timing
            )
        )

    def _set_up(self, connection: Connection) -> None:
        ClientCore.__init__(self, connection)
        self._driver = AsyncDriver(connection.requests, connection.timing)

    @classmethod
    def sharing(cls, client: Client) -> AsyncClient:
        """A client with the connections and the bucket of a blocking one."""
        shared = cls.__new__(cls)
        shared._set_up(client._connection)
        shared._storage, shared._env = client._storage, client._env
        return shared

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. Jobs on the endpoint go on."""
        self._connection.transport.close()

    @overload
    async def submit(
        self, task: AnsweredBy[R], *, policy: Policy | None = None, webhook: str | None = None
    ) -> AsyncJob[R]: ...
    @overload
    async def submit(
        self,
        task: TaskBase | Mapping[str, Any] | bytes,
        *,
        policy: Policy | None = None,
        webhook: str | None = None,
    ) -> AsyncJob[TaskResult]: ...
    async def submit(
        self, task: object, *, policy: Policy | None = None, webhook: str | None = None
    ) -> AsyncJob[Any]:
        """As `Client.submit`."""
        return await self._driver.run(self._submit_flow(task, policy, webhook))

    @overload
    async def run(
        self,
        task: AnsweredBy[R],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        task: TaskBase | Mapping[str, Any] | bytes,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> TaskResult: ...
    async def run(
        self,
        task: object,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
        wait_seconds: float | None = None,
    ) -> Any:
        """As `Client.run`. `on_event` may be a coroutine function. The remote job is cancelled with
        the asyncio task."""
        flow = self._run_flow(task, timeout, policy, wait_seconds, watched=on_event is not None)
        return await self._driver.run(flow, on_event)

    @overload
    def map(
        self,
        tasks: Iterable[AnsweredBy[R]],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> AsyncGenerator[Outcome[R], None]: ...
    @overload
    def map(
        self,
        tasks: Iterable[TaskBase | Mapping[str, Any] | bytes],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> AsyncGenerator[Outcome[TaskResult], None]: ...
    async def map(
        self,
        tasks: Iterable[Any],
        *,
        max_parallel: int = 8,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> AsyncGenerator[Outcome[Any], None]:
        """As `Client.map`, for `async for`; `aclose()` it, or use it up, so that no job is left
        running."""
        if max_parallel < 1:
            raise ConfigError("max_parallel must be 1 or more")

        async def calls() -> AsyncGenerator[Coroutine[Any, Any, Outcome[Any]], None]:
            for index, task in enumerate(tasks):
                yield self._outcome(index, task, timeout, policy)

        async with aclosing(as_they_end(calls(), max_parallel)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def _outcome(
        self, index: int, task: Any, timeout: float | None, policy: Policy | None
    ) -> Outcome[Any]:
        try:
            return Outcome(index, result=await self.run(task, timeout, policy=policy))
        except GpuWorkerError as error:
            return Outcome(index, error=error)

    @overload
    def job(self, job_id: str, task: type[AnsweredBy[R]] | AnsweredBy[R]) -> AsyncJob[R]: ...
    @overload
    def job(self, job_id: str, task: str | None = None) -> AsyncJob[TaskResult]: ...
    def job(self, job_id: str, task: object = None) -> AsyncJob[Any]:
        """As `Client.job`. Sends nothing, so there is nothing to await."""
        return cast("AsyncJob[Any]", self._job(job_id, task))

    async def health(self, timeout: float | None = None) -> dict[str, Any]:
        """As `Client.health`."""
        return await self._driver.run(self._health_flow(timeout))

    def _handle(
        self, job_id: str, result_type: type[TaskResult] | None, kept: KeptResult | None
    ) -> AsyncJob[Any]:
        return AsyncJob(self._driver, self._endpoint, job_id, result_type, kept)
