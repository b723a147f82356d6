"""How one thread ends what another one waits for: a job of `execute_all`, when the loop over its
results is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from gpu_worker_client._stage import FileWork
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import ErrorBody, ErrorCode, TaskResult
from gpu_worker_client.protocol.errors import JobError, job_error

if TYPE_CHECKING:
    from gpu_worker_client.client import Client
    from gpu_worker_client.files import OnEvent

T = TypeVar("T")


class Stop:
    """Asked for once, by any thread; heard by all that work under it, and by those that begin
    later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callable[[], object]] = []
        self._asked = False

    @property
    def asked(self) -> bool:
        return self._asked

    def ask(self) -> None:
        """Makes the calls of all `calling` blocks."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
            for call in self._calls:
                call()

    @contextmanager
    def calling(self, call: Callable[[], object]) -> Generator[None, None, None]:
        """A block in which `ask` makes this call, which must return at once. Entered after `ask`,
        the block begins with it; once it is left, the call is not made and is not being made."""
        with self._lock:
            self._calls.append(call)
            if self._asked:
                call()
        try:
            yield
        finally:
            with self._lock:
                self._calls.remove(call)


def stopped() -> JobError:
    """What a job ends with that was stopped from here."""
    return job_error(
        ErrorBody(code=ErrorCode.cancelled.value, message="the job was stopped before it ended")
    )


def run_until(stop: Stop, call: Coroutine[Any, Any, T]) -> T:
    """The value of the call, for a thread without an event loop: it runs on one of its own, as the
    cancelling of asyncio tasks is what stops at every point.

    Raises:
        asyncio.CancelledError: `stop` was asked for, and the call has cleaned up.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(call)
    try:
        with stop.calling(lambda: loop.call_soon_threadsafe(task.cancel)):
            return loop.run_until_complete(task)
    finally:
        loop.close()


def run_files_until(
    stop: Stop,
    client: Client,
    work: FileWork,
    timeout: float | None,
    on_event: OnEvent | None,
    policy: Policy | None,
) -> TaskResult:
    """`run_files` that ends at once when `stop` is asked for: the remote job is cancelled, and so
    is a transfer. For a thread without an event loop, as `run_until`.

    Raises:
        JobCancelled: it was stopped.
    """
    from gpu_worker_client.async_client import AsyncClient  # here: it brings an event loop along
    from gpu_worker_client.async_files import run_files_async

    try:
        return run_until(
            stop, run_files_async(AsyncClient.sharing(client), work, timeout, on_event, policy)
        )
    except asyncio.CancelledError:
        raise stopped() from None
