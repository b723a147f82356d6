"""Several asynchronous calls at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from gpu_worker_client._flow import Came, came_of_awaited

T = TypeVar("T")


async def as_they_end(
    calls: AsyncGenerator[Coroutine[Any, Any, T], None], at_most: int
) -> AsyncGenerator[T, None]:
    """What the calls give, first done first.

    Args:
        calls: taken one by one as places become free; closed in the end.
        at_most: in progress at once.

    Raises:
        BaseException: the first error of a call. However the loop is left, what runs is cancelled
            and waited for until it has cleaned up: use it up, or close it.
    """
    running: dict[asyncio.Task[Came], Coroutine[Any, Any, T]] = {}
    try:
        while True:
            while len(running) < at_most and (call := await anext(calls, None)) is not None:
                running[asyncio.create_task(came_of_awaited(call))] = call
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                del running[ended]
                yield ended.result().result()
    finally:
        for unfinished in running:
            unfinished.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for call in running.values():
            call.close()  # one that was cancelled before it began
        await calls.aclose()
