"""`Client.map`: `AsyncClient.map` on an event loop of its own, in a thread of its own, so that many
jobs are followed by one thread and the caller's may have a loop already (a notebook's has)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gpu_worker_client._background import take_over
from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS
from gpu_worker_client.async_client import AsyncClient
from gpu_worker_client.outcome import Outcome

if TYPE_CHECKING:
    from gpu_worker_client.client import Client

_END = Outcome[Any](-1)


def in_background(client: Client, tasks: Iterable[Any], **options: Any) -> Iterator[Outcome[Any]]:
    """What `AsyncClient.map(tasks, **options)` yields. Closing it cancels the jobs that run."""
    outcomes = AsyncClient.sharing(client).map(tasks, **options)

    one_at_a_time = (
        asyncio.Lock()
    )  # an interrupted wait for the next one may still be cancelling jobs

    async def next_outcome() -> Outcome[Any]:
        async with one_at_a_time:
            return await anext(outcomes, _END)

    async def close() -> None:
        async with one_at_a_time:
            await outcomes.aclose()

    with _loop() as loop:
        try:
            while True:
                coming = asyncio.run_coroutine_threadsafe(next_outcome(), loop)
                try:
                    outcome = coming.result()
                finally:
                    coming.cancel()
                if outcome is _END:
                    return
                if outcome.error is not None:
                    take_over(client, outcome.error)
                yield outcome
        finally:
            asyncio.run_coroutine_threadsafe(close(), loop).result(2 * LAST_CANCEL_SECONDS)


@contextmanager
def _loop() -> Generator[asyncio.AbstractEventLoop, None, None]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gpu-worker-client-map", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
