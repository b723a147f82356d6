"""Several asynchronous calls at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from gpu_worker_client._flow import Came, came_of_awaited

T = TypeVar("T")


async def as_they_end(calls: AsyncIterator[Coroutine[Any, Any, T]], at_most: int) -> AsyncGenerator[T, None]:
    """What the calls give, first done first.

    Args:
        calls: taken one by one as places become free.
        at_most: in progress at once.

    Raises:
        BaseException: the first error of a call. However the loop is left, what runs is cancelled and waited for until it has
            cleaned up: use it up, or close it.
    """
    running: set[asyncio.Task[Came]] = set()
    try:
        while True:
            while len(running) < at_most and (call := await anext(calls, None)) is not None:
                running.add(asyncio.create_task(came_of_awaited(call)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                yield ended.result().result()
    finally:
        for unfinished in running:
            unfinished.cancel()
        await asyncio.gather(*running, return_exceptions=True)
