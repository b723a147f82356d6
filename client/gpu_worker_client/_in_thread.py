"""Work that blocks, beside an event loop: made on a thread, and stopped there (see
`_checkpoint.py`) when the asyncio task that waits is cancelled, or its event loop closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import wait
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from gpu_worker_client._checkpoint import checkpoint, stoppable
from gpu_worker_client._drive_async import look_at, told
from gpu_worker_client._stop import Stop
from gpu_worker_client._threads import Threads

STOP_SECONDS = 5.0
"""Longest that the cancellation of an asyncio task is held up by a call that does not come to a
checkpoint."""
LOOK_SECONDS = 1.0
"""How often a thread that waits for an answer looks whether its event loop is still there; at the
first look its place in the pool is lent, as the answer may need it."""
T = TypeVar("T")
Tell = Callable[[Any], None]

_threads = Threads()
"""Not the event loop's own executor: a few uploads of hours would keep the program's other calls
from a thread."""


async def in_thread(call: Callable[[], T]) -> T:
    """The value of a call that blocks. A cancel ends it at its next checkpoint, and that is waited
    for a little: it should not go on unseen."""
    return await _made(call, Stop())


async def in_thread_telling(call: Callable[[Tell], T], hear: Callable[[Any], object] | None) -> T:
    """The same of a call that tells. `hear`, a function or a coroutine function, hears it on the
    event loop, in the context of this task, and the call goes on when it has answered. A cancel
    reaches it too. Each thing told is a checkpoint."""
    loop, stop = asyncio.get_running_loop(), Stop()

    def tell(value: Any) -> None:
        checkpoint()
        if hear is None:
            return
        answer = asyncio.run_coroutine_threadsafe(told(hear, value), loop)
        with stop.calling(answer.cancel):
            if not wait([answer], LOOK_SECONDS).done:
                with _threads.lent():
                    while not wait([answer], LOOK_SECONDS).done:
                        checkpoint()
        checkpoint()
        answer.result()

    return await _made(partial(call, tell), stop)


async def _made(call: Callable[[], T], stop: Stop) -> T:
    loop = asyncio.get_running_loop()

    def here() -> T:
        with stoppable(lambda: stop.asked or loop.is_closed()):
            return call()

    begun = _threads.start(partial(copy_context().run, here))
    work: asyncio.Future[T] = asyncio.wrap_future(begun)
    work.add_done_callback(look_at)
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        stop.ask()
        begun.cancel()  # one that has not begun will not
        await asyncio.wait({work}, timeout=STOP_SECONDS)
        raise
    return work.result()
