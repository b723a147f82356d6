"""Finds a job to work on, cheaply: an idle worker asks for the wake object (a HEAD) and lists only
when that has changed, or now and then. R2 bills a list like a write, twelve times a read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import floor

from gpu_worker_client.queue.keys import OPEN, WAKE, job_id_of
from gpu_worker_client.queue.lease import Lease, NotTaken, Taker

POLL_SECONDS = 10.0
LONGEST_PAUSE_POLLS = 6
"""An idle worker's pauses grow to this many times the first."""
LIST_SECONDS = 300.0
"""8,640 lists in 30 days, for submits whose wake was lost."""
WINDOW = 32
"""Workers that start together each take one of the first 32 by chance, not all the same."""


class Finder:
    """One worker's view of what is open."""

    def __init__(self, taker: Taker, poll_seconds: float = POLL_SECONDS) -> None:
        self._taker = taker
        self._store, self._timing = taker.store, taker.timing
        self._poll_seconds = poll_seconds
        self._open: list[str] = []
        """Jobs that were open at the last list, oldest first, without those that ended since."""
        self._has_more = False
        self._wake: str | None = None
        self._list_due = self._timing.clock()
        self._idle_polls = 0
        self._numbers = count(1)

    async def poll(self) -> Lease | None:
        """A lease on one of the oldest jobs that can be had, None when there is none. Raises
        StorageError."""
        wake = await self._store.head(WAKE)
        etag = wake.etag if wake else None
        if etag != self._wake or self._timing.clock() >= self._list_due:
            await self._list()
            self._wake = etag
        while True:
            for job_id in self._in_order():
                nonce = f"{self._taker.worker}.{next(self._numbers)}"
                taken = await self._taker.take(job_id, nonce)
                if isinstance(taken, Lease):
                    self._idle_polls = 0
                    return taken
                if taken is NotTaken.ended:
                    self._open.remove(job_id)
            if self._open or not self._has_more:
                self._idle_polls += 1
                return None
            await self._list()

    async def _list(self) -> None:
        page = await self._store.list_page(OPEN)
        self._open = [job_id_of(item.key) for item in page.objects]
        self._has_more = not page.is_last
        self._list_due = self._timing.clock() + LIST_SECONDS

    def _in_order(self) -> Iterator[str]:
        window, rest = self._open[:WINDOW], self._open[WINDOW:]
        while window:
            yield window.pop(floor(self._timing.random() * len(window)))
        yield from rest

    def pause_seconds(self) -> float:
        """How long to wait before the next poll. A job that another worker has may be free soon:
        pauses grow only while nothing is open."""
        polls = 1 if self._open else min(2 ** min(self._idle_polls - 1, 10), LONGEST_PAUSE_POLLS)
        return self._poll_seconds * polls * (0.75 + 0.5 * self._timing.random())
