"""An asynchronous call made by a blocking one, on an event loop of its own: so what does many things at once, and can stop at
every point, is written once for both clients."""

from __future__ import annotations

from collections.abc import Coroutine
from concurrent.futures import wait
from functools import partial
from typing import Any, TypeVar

from gpu_worker_client._stop import Stop, run_until
from gpu_worker_client._threads import Threads

T = TypeVar("T")


def run_in_background(call: Coroutine[Any, Any, T]) -> T:
    """The value of the call, for any thread; one that has an event loop (a notebook's has) is blocked meanwhile. Ctrl-C cancels
    the call and waits until it has cleaned up."""
    stop = Stop()
    value = Threads().start(partial(run_until, stop, call))
    try:
        return value.result()
    except BaseException:
        stop.ask()
        wait([value])
        raise
