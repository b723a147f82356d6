"""Carries out the steps of a flow and blocks meanwhile; `_drive_async.py` does the same on an event
loop.

Requests are sent on a few daemon threads, so that a request ends at its limit however a server
drags it out, Ctrl-C and cancellation come through at once, and a submit that was interrupted can
still be asked for its job's id.
"""

from __future__ import annotations

import concurrent.futures as futures
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from gpu_worker_client._flow import Came, Finish, Flow, Send, Sleep, Step, Tell, came_of
from gpu_worker_client._http import Transport, too_slow
from gpu_worker_client._threads import Threads
from gpu_worker_client._timing import Timing
from gpu_worker_client.errors import APIConnectionError

T = TypeVar("T")
_GRACE_SECONDS = 0.25
"""The request's own limit comes first, as its errors say more."""


class Requests:
    """Requests in flight."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._threads = Threads()

    def begun(self, step: Send | Finish) -> tuple[Send, futures.Future[Any], float]:
        """The request of a step, its reply to come, and how many seconds to wait for it."""
        if isinstance(step, Send):
            request = step.request
            step.reply = futures.Future()
            self._threads.start(partial(self._transport.exchange, request), step.reply)
            return step, step.reply, request.limit_seconds + _GRACE_SECONDS
        if step.send.reply is None or step.send.reply.cancel():
            raise APIConnectionError(
                f"{step.send.request.what}: interrupted before it was sent", may_have_arrived=False
            )
        return step.send, step.send.reply, step.seconds


class SyncDriver:
    def __init__(self, requests: Requests, timing: Timing) -> None:
        self._requests = requests
        self._timing = timing

    def run(self, flow: Flow[T], tell: Callable[[Any], object] | None = None) -> T:
        """The value of the flow; `tell` is called with what it tells."""
        came = Came()
        while True:
            try:
                step = came.into(flow)
            except StopIteration as end:
                return end.value
            came = came_of(partial(self._do, step, tell))

    def iterate(self, flow: Flow[Any]) -> Iterator[Any]:
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
                came = came_of(partial(self._do, step, None))

    def _do(self, step: Step, tell: Callable[[Any], object] | None) -> Any:
        if isinstance(step, Sleep):
            return self._timing.sleep(step.seconds)
        if isinstance(step, Tell):
            return None if tell is None else tell(step.value)
        send, reply, seconds = self._requests.begun(step)
        try:
            return reply.result(seconds)
        except futures.TimeoutError:
            raise too_slow(send.request) from None
        finally:
            if send.request.withdrawn:
                reply.cancel()  # takes back what has not begun
