"""Writing to the queue when answers get lost: every write that was not plainly answered is read
back, and its writer knows its own by what it wrote."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gpu_worker_client._retry import Timing, backoff_seconds
from gpu_worker_client.queue.store import KEY_SECONDS, InDoubt, LostRace, Store, Stored

WRITE_TRIES = 6


async def put_once(store: Store, key: str, body: bytes) -> Stored | None:
    """One attempt to write a key that nobody has written. Gives what is there now: this body, or
    another's; None when nothing is, and the write may still arrive."""
    try:
        etag = await store.put(key, body, if_absent=True)
    except (LostRace, InDoubt):
        return await store.get(key)
    return Stored(key, etag, modified=0.0, date=0.0, body=body)


async def create(store: Store, key: str, body: bytes, timing: Timing) -> Stored:
    """Writes a key once and for all. Gives what is there in the end: this body, or another's.

    Raises:
        InDoubt: `WRITE_TRIES` times there was neither an answer nor an object.
        StorageError: the store refuses.
    """
    for attempt in range(WRITE_TRIES):
        if (found := await put_once(store, key, body)) is not None:
            return found
        await pause(timing, attempt)
    raise InDoubt(key)


async def replace(store: Store, key: str, body: bytes, timing: Timing) -> None:
    """Writes a key whatever is there. Raises StorageError."""
    for attempt in range(WRITE_TRIES):
        try:
            await store.put(key, body)
        except (LostRace, InDoubt):
            await pause(timing, attempt)
        else:
            return
    raise InDoubt(key)


async def pause(timing: Timing, attempt: int) -> None:
    """Waits until the same key takes another write, and a little, that two writers do not meet
    again."""
    await timing.async_sleep(KEY_SECONDS + backoff_seconds(attempt, None, timing.random()))


async def listed(store: Store, prefix: str, after: str = "") -> AsyncGenerator[Stored, None]:
    """Every object below a prefix by rising key, page by page."""
    while True:
        page = await store.list_page(prefix, after)
        for item in page.objects:
            yield item
        if page.is_last or not page.objects:
            return
        after = page.objects[-1].key
