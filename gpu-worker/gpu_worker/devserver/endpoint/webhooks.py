"""Sends a finished job to its webhook: a 200 ends it, anything else is tried twice more. Unsigned,
as RunPod's are."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from gpu_worker.devserver.limits import PlatformLimits

ATTEMPT_SECONDS = 10.0


class Webhooks:
    """Owns the deliveries under way. `close` abandons them."""

    def __init__(self, limits: PlatformLimits) -> None:
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Nothing is being delivered."""
        return not self._tasks

    def send(self, url: str, body: dict[str, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, url: str, body: dict[str, Any]) -> None:
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for attempt in range(1 + self._limits.webhook_retries):
                if attempt:
                    await asyncio.sleep(self._limits.webhook_retry_seconds)
                if await _post(session, url, body):
                    return


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bool:
    try:
        async with session.post(url, json=body, allow_redirects=False) as response:
            return response.status == 200
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
        return False
