"""Time as a value that is handed in: every deadline of the local platform is read from a `Clock`,
so tests need no sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds since the epoch."""

system_clock: Clock = time.time


class ManualClock:
    """A clock that stands still until it is advanced. Safe to advance from any thread."""

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds
