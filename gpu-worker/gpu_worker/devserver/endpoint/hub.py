"""What the control plane's handlers share: the job queue, and waiting until something in it
changes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeVar

from gpu_worker.devserver.clock import Clock, system_clock
from gpu_worker.devserver.endpoint.jobs import JobQueue
from gpu_worker.devserver.limits import PlatformLimits

T = TypeVar("T")


class Hub:
    """Everything the worker side and the public side of one endpoint have in common. Lives in one
    event loop."""

    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        *,
        limits: PlatformLimits,
        clock: Clock = system_clock,
        poll_seconds: float,
    ) -> None:
        self.endpoint_id = endpoint_id
        self.api_key = api_key
        """Callers'."""
        self.worker_key = secrets.token_urlsafe(24)
        """Workers', a part of the path of what they ask."""
        self.limits = limits
        self.clock = clock
        self.poll_seconds = poll_seconds
        """How long job-take and job-stop hold a request open. A draining worker waits for it."""
        self.queue = JobQueue(limits, clock)
        self._change = asyncio.Event()

    def changed(self) -> None:
        """Wakes every waiter."""
        waiting, self._change = self._change, asyncio.Event()
        waiting.set()

    async def until(self, attempt: Callable[[], T | None], seconds: float) -> T | None:
        """The first answer of `attempt` that is not None, tried at every change; None after
        `seconds` of real time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (found := attempt()) is None:
            remaining = deadline - loop.time()
            if remaining <= 0:
                return None
            try:
                await asyncio.wait_for(self._change.wait(), remaining)
            except asyncio.TimeoutError:
                return attempt()
        return found
