"""Where time and chance come from."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone


async def _async_sleep(seconds: float) -> None:
    import asyncio  # here, because a program without an event loop need not import it

    await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Timing:
    """Where time and chance come from; tests put their own in."""

    clock: Callable[[], float] = time.monotonic
    """Seconds, never going back. Deadlines are points on it."""
    sleep: Callable[[float], None] = time.sleep
    async_sleep: Callable[[float], Awaitable[None]] = _async_sleep
    """The same for `AsyncClient` and `map`."""
    random: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    """Wall time, for `Retry-After` dates."""

    def deadline(self, timeout: float | None) -> float | None:
        """The point on the clock that lies `timeout` seconds ahead."""
        return None if timeout is None else self.clock() + timeout
