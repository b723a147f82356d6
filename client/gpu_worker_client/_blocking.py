"""Several calls at the same time: asynchronous ones, `as_they_end`; and work that blocks (boto3,
PyAV, files) beside an event loop, made on a thread, and stopped there when the asyncio task that
waits is cancelled, or its event loop closed.

A thread cannot be interrupted from outside. So what may take long comes to a `checkpoint` where it
can be left in good order: at each request to the bucket, at each piece of a transfer or a file, at
each packet of a video.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar

from gpu_worker_client._portal import Threads

if TYPE_CHECKING:
    import asyncio

STOP_SECONDS = 5.0
"""Longest that the cancellation of an asyncio task is held up by a call that does not come to a
checkpoint."""
POLL_SECONDS = 1.0
"""How often a thread that waits for a listener checks that its event loop is still there. From the
first check on it is lent: the listener may need a thread."""
T = TypeVar("T")
Notify = Callable[[Any], None]

_threads = Threads()
"""Not the event loop's own executor: a few uploads of hours would keep the program's other calls
from a thread."""
_here = threading.local()


class Stopped(Exception):
    """Nobody waits for this call any more."""


def checkpoint() -> None:
    """Raises Stopped in a call of `in_thread` that is to stop. Anywhere else nothing happens."""
    is_stopped: Callable[[], bool] | None = getattr(_here, "is_stopped", None)
    if is_stopped is not None and is_stopped():
        raise Stopped


async def notify(listener: Callable[..., object], *args: object) -> Any:
    """Calls a function or a coroutine function of the caller's."""
    answer = listener(*args)
    return await answer if isawaitable(answer) else None


async def in_thread(call: Callable[[], T]) -> T:
    """The value of a call that blocks. A cancel ends it at its next checkpoint, and that is waited
    for a little: it should not go on unseen."""
    return await _made(call, [])


async def in_thread_notifying(
    call: Callable[[Notify], T], listener: Callable[[Any], object] | None
) -> T:
    """The same of a call that is given a function to notify with. `listener`, a function or a
    coroutine function, is called on the event loop, in the context of this task, and the call goes
    on when it has answered. A cancel reaches it too. Each notification is a checkpoint."""
    import asyncio

    loop = asyncio.get_running_loop()
    answers: list[Future[Any]] = []

    def notified(value: Any) -> None:
        checkpoint()
        if listener is None:
            return
        answer = asyncio.run_coroutine_threadsafe(notify(listener, value), loop)
        answers[:] = [answer]
        try:
            checkpoint()
            if not wait([answer], POLL_SECONDS).done:
                with _threads.lent():
                    while not wait([answer], POLL_SECONDS).done:
                        checkpoint()
        finally:
            answer.cancel()
        checkpoint()
        answer.result()

    return await _made(partial(call, notified), answers)


async def _made(call: Callable[[], T], answers: list[Future[Any]]) -> T:
    import asyncio

    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def stoppable() -> T:
        _here.is_stopped = lambda: stop.is_set() or loop.is_closed()
        try:
            return call()
        finally:
            _here.is_stopped = None

    started = _threads.start(partial(copy_context().run, stoppable))
    work: asyncio.Future[T] = asyncio.wrap_future(started)
    work.add_done_callback(retrieve)
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        stop.set()
        for future in (started, *answers):
            future.cancel()  # a call that has not started will not; a listener is not waited for
        await asyncio.wait({work}, timeout=STOP_SECONDS)
        raise
    return work.result()


def retrieve(future: asyncio.Future[Any]) -> None:
    """Retrieves the outcome, or the event loop complains of an error that nobody saw."""
    if not future.cancelled():
        future.exception()


async def as_they_end(
    calls: AsyncGenerator[Coroutine[Any, Any, T], None], at_most: int
) -> AsyncGenerator[T, None]:
    """What the calls give, first done first, `at_most` in progress at once; raises the first error.

    The calls are taken one by one as slots become free, and closed in the end. While the next one
    is waited for, those that end are yielded. However the loop is left, what runs is cancelled and
    waited for until it has cleaned up: use it up, or close it.
    """
    import asyncio

    running: dict[asyncio.Task[T], Coroutine[Any, Any, T]] = {}
    drawing: set[asyncio.Task[bool]] = set()
    has_more = True

    async def draw() -> bool:
        if (call := await anext(calls, None)) is None:
            return False
        running[asyncio.create_task(call)] = call
        return True

    try:
        while True:
            if has_more and not drawing and len(running) < at_most:
                drawing.add(asyncio.create_task(draw()))
            if not drawing and not running:
                return
            done, _ = await asyncio.wait([*drawing, *running], return_when=asyncio.FIRST_COMPLETED)
            for drawn in drawing & done:
                drawing.discard(drawn)
                has_more = drawn.result()
            for ended in [task for task in running if task in done]:
                del running[ended]
                yield ended.result()
    finally:
        unfinished: list[asyncio.Task[Any]] = [*drawing, *running]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for call in running.values():
            call.close()  # one that was cancelled before it began
        await calls.aclose()
