"""Proof that a bucket honours conditional writes. Without them two workers would own one job, and
some stores ignore the headers without a word."""

from __future__ import annotations

import asyncio

from gpu_worker_client._retry import Timing
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.queue.store import InDoubt, LostRace, Store
from gpu_worker_client.queue.writes import WRITE_TRIES, pause

RACERS = 8


async def prove_conditional_writes(store: Store, timing: Timing, name: str) -> None:
    """Races for an object below `proof/`, and deletes it.

    Args:
        name: of this process, unlike any other's.

    Raises:
        ConfigError: the store ignores If-None-Match or If-Match.
        StorageError: it cannot be known now, or the store refuses.
    """
    key = ""
    for attempt in range(WRITE_TRIES):
        key = f"proof/{name}-{attempt}"
        bodies = [f"{name} {number}".encode() for number in range(RACERS)]
        won = await asyncio.gather(*(_won(store, key, body) for body in bodies))
        await pause(timing, 0)  # R2 answers 429 to a second write within a second
        won.append(await _won(store, key, b"late"))
        found = await store.get(key)
        if not any(won) or found is None:
            continue  # every answer was lost
        first = bodies[won.index(True)]
        if won.count(True) > 1 or found.body != first:
            raise _ignored("If-None-Match")
        await pause(timing, 0)
        try:
            await store.put(key, b"over", if_match="0" * 32)
        except LostRace:
            await store.delete(key)
            return
        except InDoubt:
            continue
        raise _ignored("If-Match")
    raise InDoubt(key)


async def _won(store: Store, key: str, body: bytes) -> bool | None:
    """Whether this create was made; None when there was no answer."""
    try:
        await store.put(key, body, if_absent=True)
    except LostRace:
        return False
    except InDoubt:
        return None
    return True


def _ignored(header: str) -> ConfigError:
    return ConfigError(
        f"this bucket ignores {header}: two workers would take one job; use R2, or another store"
        " with conditional writes"
    )
