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
        calls: taken one by one as slots become free; closed in the end. While the next one is
            waited for, those that end are yielded.
        at_most: in progress at once.

    Raises:
        BaseException: the first error of a call. However the loop is left, what runs is cancelled
            and waited for until it has cleaned up: use it up, or close it.
    """
    import asyncio  # here: it doubles the time of importing the package

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
            for drawn in [task for task in drawing if task in done]:
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
