"""Carries out the steps of a flow on the running event loop, as `_drive.py` does blocking. Only a
request in flight holds a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from inspect import isawaitable
from typing import Any, TypeVar

from gpu_worker_client._drive import Requests
from gpu_worker_client._flow import Came, Flow, Sleep, Step, Tell, came_of_awaited
from gpu_worker_client._http import too_slow
from gpu_worker_client._timing import Timing

T = TypeVar("T")


async def told(tell: Callable[[Any], object], value: object) -> Any:
    """Calls a function or a coroutine function of the caller's."""
    answer = tell(value)
    return await answer if isawaitable(answer) else None


def look_at(future: asyncio.Future[Any]) -> None:
    """Or the event loop complains of an error that nobody saw."""
    if not future.cancelled():
        future.exception()


class AsyncDriver:
    def __init__(self, requests: Requests, timing: Timing) -> None:
        self._requests = requests
        self._timing = timing

    async def run(self, flow: Flow[T], tell: Callable[[Any], object] | None = None) -> T:
        """The value of the flow; `tell`, a function or a coroutine function, is called with what it
        tells."""
        came = Came()
        while True:
            try:
                step = came.into(flow)
            except StopIteration as end:
                return end.value
            came = await came_of_awaited(self._do(step, tell))

    async def iterate(self, flow: Flow[Any]) -> AsyncGenerator[Any, None]:
        """What the flow tells."""
        came = Came()
        while True:
            try:
                step = came.into(flow)
            except StopIteration:
                return
            if isinstance(step, Tell):
                yield step.value
                came = Came()
            else:
                came = await came_of_awaited(self._do(step, None))

    async def _do(self, step: Step, tell: Callable[[Any], object] | None) -> Any:
        if isinstance(step, Sleep):
            return await self._timing.async_sleep(step.seconds)
        if isinstance(step, Tell):
            return None if tell is None else await told(tell, step.value)
        send, reply, seconds = self._requests.begun(step)
        waiter = asyncio.wrap_future(reply)
        waiter.add_done_callback(look_at)
        try:
            # Not wait_for: before Python 3.12 it forgets a cancellation that comes together with
            # the reply.
            done, _ = await asyncio.wait({waiter}, timeout=seconds)
        finally:
            if send.request.withdrawn:
                waiter.cancel()  # and with it the reply: takes back what has not begun
        if not done:
            raise too_slow(send.request)
        return waiter.result()
