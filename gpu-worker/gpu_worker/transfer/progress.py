"""Adds up what all threads of a transfer moved and reports it, one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with (bytes done, bytes in all); never by two threads at once. `done` falls when a failed
try is taken back."""


class Meter:
    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._progress(self._done, self._total)
