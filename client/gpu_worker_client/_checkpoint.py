"""Where a call that blocks can be stopped. A thread cannot be interrupted from outside; so what may
take long asks here, where it can be left in good order: at each request to the bucket, at each
piece of a transfer or a file, at each packet of a video. `_in_thread.py` is what stops calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


class Stopped(Exception):
    """Nobody waits for this call any more."""


_here = threading.local()


def checkpoint() -> None:
    """Raises Stopped in a block of `stoppable` whose call is to stop. Anywhere else nothing
    happens."""
    asked: Callable[[], bool] | None = getattr(_here, "asked", None)
    if asked is not None and asked():
        raise Stopped


@contextmanager
def stoppable(asked: Callable[[], bool]) -> Generator[None, None, None]:
    """A block, of this thread, that is left at its next checkpoint once `asked` says so."""
    _here.asked = asked
    try:
        yield
    finally:
        _here.asked = None
