"""Several asynchronous calls at the same time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


async def as_they_end(
    calls: AsyncGenerator[Coroutine[Any, Any, T], None], at_most: int
) -> AsyncGenerator[T, None]:
    """What the calls give, first done first.

    Args:
        calls: taken one by one as slots become free; closed in the end.
        at_most: in progress at once.

    Raises:
        BaseException: the first error of a call. However the loop is left, what runs is cancelled
            and waited for until it has cleaned up: use it up, or close it.
    """
    import asyncio  # here: it doubles the time of importing the package

    running: dict[asyncio.Task[T], Coroutine[Any, Any, T]] = {}
    try:
        while True:
            while len(running) < at_most and (call := await anext(calls, None)) is not None:
                running[asyncio.create_task(call)] = call
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                del running[ended]
                yield ended.result()
    finally:
        for unfinished in running:
            unfinished.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for call in running.values():
            call.close()  # one that was cancelled before it began
        await calls.aclose()
