"""Progress of one job: throttled to one report a second, numbered, in order, and never after the
answer.

The RunPod SDK's own `progress_update` starts a daemon thread per report; they overtake each other
and the answer (runpod-python issue 250). Here one sender awaits each report before the next, and
`close` waits for the one in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from gpu_worker_client.protocol import Progress, Stage

INTERVAL_SECONDS = 1.0
MIN_RATE_SECONDS = 0.1
"""No rate is computed from less: a stage that ends at once would report hundreds of thousands of
frames a second."""
SETTLE_SECONDS = 2.0
"""An answer waits this long at most for a report that is on its way."""

Send = Callable[[dict[str, object]], Awaitable[None]]


async def drop(_: dict[str, object]) -> None:
    """A `Send` for runs that nobody watches."""


class Reporter:
    """Collects reports from any thread and sends the newest one at most once a second.

    Args:
        send: delivers one report; its failures are its own to log.
        interval_seconds: least time between two reports.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        send: Send,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._send = send
        self._interval = interval_seconds
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._latest: Progress | None = None
        self._changed = asyncio.Event()
        self._seq = 0
        self._stage: Stage | None = None
        self._stage_started = clock()
        self._task = self._loop.create_task(self._pump())

    def report(self, stage: Stage, done: int, total: int | None = None, unit: str = "") -> None:
        """Takes one report; callable from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._take, stage, done, total, unit)

    async def close(self) -> None:
        """Sends nothing more. Returns when the report in flight, if any, has arrived or given
        up."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _take(self, stage: Stage, done: int, total: int | None, unit: str) -> None:
        now = self._clock()
        if stage != self._stage:
            self._stage, self._stage_started = stage, now
        self._seq += 1
        self._latest = measure(self._seq, stage, done, total, unit, now - self._stage_started)
        self._changed.set()

    async def _pump(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._latest is not None:
                await _settled(self._send(self._latest.model_dump(mode="json")))
            await asyncio.sleep(self._interval)


async def _settled(sending: Awaitable[None]) -> None:
    """Awaits a report so that a cancel of the pump still lets it arrive, for a bounded time."""
    task = asyncio.ensure_future(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=SETTLE_SECONDS)
        task.cancel()
        raise


def measure(
    seq: int, stage: Stage, done: int, total: int | None, unit: str, elapsed_seconds: float
) -> Progress:
    """A report with what follows from it: fraction of the stage, rate, time left.

    Args:
        done: units finished, 0 or more.
        total: units of the whole stage, None when unknown. A header's estimate may be short: the
            fraction stops at 1.
        elapsed_seconds: since the stage began.
    """
    fraction = min(1.0, done / total) if total else None
    rate = done / elapsed_seconds if done and elapsed_seconds >= MIN_RATE_SECONDS else None
    return Progress(
        seq=seq,
        stage=stage if stage != "validate" else "fetch",
        fraction=round(fraction, 4) if fraction is not None else None,
        done=done,
        total=total,
        unit=unit,
        fps=round(rate, 3) if rate is not None and unit == "frames" else None,
        eta_sec=round(max(0, total - done) / rate, 1) if rate and total else None,
    )
