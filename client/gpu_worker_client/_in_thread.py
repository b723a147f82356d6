"""Work that blocks, beside an event loop: made on a thread, and stopped there when the asyncio task that waits is cancelled.

A thread cannot be interrupted from outside. So what may take long calls `checkpoint` wherever it can be left in good order: at
each piece of a transfer, at each packet of a video.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from gpu_worker_client._threads import Threads

STOP_SECONDS = 5.0
"""Longest that the cancellation of an asyncio task is held up by a call that does not come to a checkpoint."""
T = TypeVar("T")

_threads = Threads()
"""Not the event loop's own executor: a few uploads of hours would keep the program's other calls from a thread."""
_here = threading.local()


class Stopped(Exception):
    """Nobody waits for this call any more."""


def checkpoint() -> None:
    """Raises Stopped where the call is one of `in_thread` whose asyncio task was cancelled. Anywhere else nothing happens."""
    asked: threading.Event | None = getattr(_here, "asked", None)
    if asked is not None and asked.is_set():
        raise Stopped


async def in_thread(call: Callable[[], T]) -> T:
    """The value of a call that blocks. A cancel ends it at its next checkpoint, and that is waited for a little: it should not
    go on unseen."""
    asked = threading.Event()

    def stoppable() -> T:
        _here.asked = asked
        try:
            return call()
        finally:
            _here.asked = None

    begun = _threads.start(stoppable)
    work = asyncio.wrap_future(begun)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        asked.set()
        begun.cancel()  # one that has not begun will not
        await asyncio.wait({work}, timeout=STOP_SECONDS)
        if work.done() and not work.cancelled():
            work.exception()  # seen: it was stopped
        raise
