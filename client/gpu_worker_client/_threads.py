"""A small pool of daemon threads for requests in flight. Not `ThreadPoolExecutor`: the interpreter
waits for that one's threads when it exits, and a server that answers a byte a minute would hold up
the end of a program that gave up on it long ago."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

MAX_THREADS = 32
"""Requests in flight at once; further ones wait for their turn."""
IDLE_SECONDS = 10.0
"""A thread with nothing to do ends after this long."""

T = TypeVar("T")
_Call = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """Starts threads as calls need them, `MAX_THREADS` at most. A forked process, which has none of
    them, begins anew."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._alive = 0
        self._idle = 0

    def start(self, call: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """Makes the call on a thread. Cancelling the future keeps a call that has not begun from
        beginning. A future that is given is in the caller's hands even when Ctrl-C interrupts
        this."""
        future = Future() if future is None else future
        if self._process != os.getpid():
            self.__init__()
        with self._changed:
            self._calls.append((future, call))
            if len(self._calls) <= self._idle:
                self._changed.notify()
            else:
                self._add()
        return future

    @contextmanager
    def lent(self) -> Generator[None, None, None]:
        """A block in which a call made by one of these threads only waits, perhaps for what another
        call here will do: that one gets a thread meanwhile, were there none left."""
        with self._changed:
            self._alive -= 1
            if len(self._calls) > self._idle:
                self._add()
        try:
            yield
        finally:
            with self._changed:
                self._alive += 1

    def _add(self) -> None:
        if self._alive < MAX_THREADS:
            self._alive += 1
            threading.Thread(target=self._serve, name="gpu-worker-client", daemon=True).start()

    def _serve(self) -> None:
        while (next_call := self._next()) is not None:
            _make(*next_call)
            del next_call  # or what came of it would be kept until there is another

    def _next(self) -> _Call | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._calls, IDLE_SECONDS)
            self._idle -= 1
            if self._calls:
                return self._calls.popleft()
            self._alive -= 1
            return None


def _make(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(value)
