"""When a request may be sent again, and how long to wait before: pure functions, so that every rule
is one row of a test, and the clock they go by. `_http.py` has the loop."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from gpu_worker_client.errors import APIConnectionError, APIError, RateLimitError
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.protocol.http import TRANSIENT_STATUS, full_jitter_seconds

MAX_RETRIES = 5
BACKOFF_CAP_SECONDS = 8.0
"""The longest pause of openai-python's client."""
RETRY_AFTER_CAP_SECONDS = 120.0
"""A longer `Retry-After` is raised to the caller instead of slept."""
RETRIED_STATUS = TRANSIENT_STATUS | {200}
"""200 is an error when no JSON object comes with it: something between here and the endpoint
answered."""

Retries = Literal["any", "not_accepted", "none"]
"""`any`: the request may have its effect twice. `not_accepted`: retry only what the endpoint
certainly did not take."""


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


def should_retry(error: GpuWorkerError, retries: Retries) -> bool:
    """Whether sending the same request again is both safe and of use."""
    if retries == "none":
        return False
    if isinstance(error, APIConnectionError):
        return error.transient and (retries == "any" or not error.may_have_arrived)
    if isinstance(error, RateLimitError):
        return True  # 429 is given before the request is queued
    return isinstance(error, APIError) and error.status in RETRIED_STATUS and retries == "any"


def backoff_seconds(attempt: int, retry_after_seconds: float | None, jitter: float) -> float:
    """Seconds to wait after failure number `attempt` (from 0). `jitter` is a random number in [0,
    1)."""
    spread = full_jitter_seconds(attempt, BACKOFF_CAP_SECONDS, jitter)
    return spread if retry_after_seconds is None else retry_after_seconds + spread


def retry_seconds(
    error: GpuWorkerError, attempt: int, retries: Retries, timing: Timing, deadline: float | None
) -> float | None:
    """Seconds until the request is sent again after failure number `attempt` (from 0); None when it
    is not. `deadline` is on the timing's clock."""
    if attempt >= MAX_RETRIES or not should_retry(error, retries):
        return None
    asked = error.retry_after_seconds if isinstance(error, APIError) else None
    if asked is not None and asked > RETRY_AFTER_CAP_SECONDS:
        return None
    pause = backoff_seconds(attempt, asked, timing.random())
    return None if deadline is not None and timing.clock() + pause >= deadline else pause
