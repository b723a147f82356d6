"""How long the event loop could not go on, on a machine that may be busy with other work.

A wall clock would count the time in which the machine ran something else. Counted is processor
time: of the loop's own thread between two of its turns, and of every other thread between two
moments at which it can let the loop run: a call in C that keeps the interpreter is one such span.
What blocks without computing (a file, a folder, a process, a name lookup) is caught by its audit
event.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections.abc import AsyncGenerator
from types import FrameType
from typing import Any

TURN_SECONDS = 0.001
BLOCKING = frozenset(
    {
        "open",
        "os.listdir",
        "os.scandir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
        "time.sleep",
    }
)
SHARING = frozenset({"decompress", "flush", "listdir", "pread", "read", "truncate", "write"})
"""Functions in C that let other threads run while they work."""


class LoopWatch:
    """What was seen of one loop and of the threads that began meanwhile."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self.longest = ""
        """What held the loop for as long."""
        self.blocking: list[str] = []
        """Audit events of `BLOCKING` in the loop's thread."""
        self._is_on = True
        self._thread = threading.get_ident()
        self._turned_at = time.thread_time()
        self._threads = threading.local()

    def on_audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook; it cannot be taken away again, so it is switched off."""
        if self._is_on and event in BLOCKING and threading.get_ident() == self._thread:
            self.blocking.append(f"{event} {arguments[:1]}")

    def profile(self, frame: FrameType, event: str, arg: Any) -> None:
        """A profile hook of the other threads: both ends of every call."""
        name = getattr(arg, "__name__", "") if event.startswith("c_") else ""
        if event != "c_return" or name not in SHARING:
            before = getattr(self._threads, "at", time.thread_time())
            self._held(time.thread_time() - before, f"{name} in {frame.f_code.co_name}")
        self._threads.at = time.thread_time()

    def turn(self) -> None:
        before, self._turned_at = self._turned_at, time.thread_time()
        self._held(self._turned_at - before, "a turn")

    async def turn_for_ever(self) -> None:
        while True:
            self.turn()
            await asyncio.sleep(TURN_SECONDS)

    def end(self) -> None:
        """What follows is no longer watched; the last turn counts."""
        self.turn()
        self._is_on = False

    def _held(self, seconds: float, what: str) -> None:
        if seconds > self.longest_seconds:
            self.longest_seconds, self.longest = seconds, what


@contextlib.asynccontextmanager
async def watched() -> AsyncGenerator[LoopWatch]:
    """Watches the running loop inside the block."""
    gc.collect()
    gc.freeze()  # what the tests have made so far is none of the worker's to go through
    watch = LoopWatch()
    sys.addaudithook(watch.on_audit)
    turning = asyncio.ensure_future(watch.turn_for_ever())
    threading.setprofile(watch.profile)
    try:
        yield watch
    finally:
        threading.setprofile(None)
        watch.end()
        gc.unfreeze()
        turning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turning
