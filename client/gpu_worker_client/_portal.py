"""The threads of the SDK. One runs an event loop, on which every blocking call is carried out as
the asynchronous call that it is (`call`); a few more make what blocks by nature (`Threads`).

All of them are daemons, so that none holds up the end of a program, and a forked process starts
its own. Callbacks and sleeps of a blocking call are made on its caller's thread.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial, wraps
from inspect import signature
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

MAX_THREADS = 32
"""Requests in flight at once; more wait for their turn."""
WAKE_SECONDS = 1.0
"""Longest that Ctrl-C is held up when the system gives it to another thread: that does not end the
main thread's wait."""

P = ParamSpec("P")
T = TypeVar("T")
_END = object()


class _Call(Generic[T]):
    """A blocking call: its task on the event loop, and the thread that waits for it."""

    def __init__(self) -> None:
        self.orders: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        """What the waiting thread is to do; None when the task has ended."""
        self.task: asyncio.Task[None] | None = None
        self.outcome: Future[T] = Future()

    def start(self, function: Callable[..., Awaitable[T]], args: Any) -> None:
        import asyncio  # here, as in this whole file: it doubles the time of importing the package

        async def made() -> None:
            _waiting.set(self)
            try:
                self.outcome.set_result(await function(*args))
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
                self.outcome.set_exception(error)

        self.task = asyncio.get_running_loop().create_task(made())
        self.task.add_done_callback(lambda _: self.orders.put(None))

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def order(self, function: Callable[..., T], *args: Any) -> T:
        """Has the waiting thread make a call. What it raises ends the whole blocking call."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(value: T) -> None:
            if not done.done():
                done.set_result(value)

        self.orders.put(lambda: loop.call_soon_threadsafe(settle, function(*args)))
        return await done


_waiting: ContextVar[_Call[Any]] = ContextVar("_waiting")


def call(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """The value of an asynchronous call, for any thread; one with an event loop (a notebook's) is
    blocked meanwhile. Ctrl-C, or an error of a callback, cancels the call and waits until it has
    cleaned up; a second one does not wait."""
    loop = _portal.loop()
    made = _Call[T]()
    failure: BaseException | None = None
    made.orders.put(partial(loop.call_soon_threadsafe, partial(made.start, function, args)))
    while True:
        try:
            try:
                order = made.orders.get(timeout=WAKE_SECONDS)
            except Empty:
                continue
            if order is None:
                break
            order()
        except BaseException as error:  # noqa: BLE001 - raised below, or here
            loop.call_soon_threadsafe(made.cancel)
            if failure is not None:
                raise
            failure = error
    try:
        if failure is not None:
            raise failure
        return made.outcome.result()
    finally:
        del made, failure  # a traceback holds this frame


def iterate(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """What an asynchronous generator yields. It is closed when the loop over it is left."""
    import asyncio

    one_at_a_time = asyncio.Lock()  # an interrupted wait may still be cleaning up

    async def following() -> Any:
        async with one_at_a_time:
            return await anext(source, _END)

    async def close() -> None:
        async with one_at_a_time:
            await source.aclose()

    try:
        while (value := call(following)) is not _END:
            yield value
    finally:
        if _portal.is_here():  # the garbage collector's doing: nobody may wait here
            asyncio.get_running_loop().create_task(close())
        elif not sys.is_finalizing():  # then the event loop's thread stands still for good
            call(close)


def on_callers_thread(function: Callable[..., T] | None) -> Callable[..., Awaitable[T]] | None:
    """The function as a coroutine function, that has it called on the thread of the blocking
    call."""
    if function is None:
        return None

    async def ordered(*args: Any) -> T:
        return await _waiting.get().order(function, *args)

    return ordered


class Blocking(Protocol):
    """A client or a job whose calls block, carried out by another."""

    @property
    def core(self) -> Any: ...


def blocking(
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking, P], T]:
    """An asynchronous call of a client or a job, for callers that wait: `on_event` and `on_plan`
    are called on their thread."""
    takes = signature(function)

    @wraps(function)
    def blocked(face: Blocking, *args: Any, **kwargs: Any) -> T:
        given = dict(**takes.bind_partial(face.core, *args).arguments, **kwargs)
        for name in given.keys() & {"on_event", "on_plan"}:
            given[name] = on_callers_thread(given[name])
        return call(partial(function, **given))

    blocked.__name__ = function.__name__.removesuffix("_async")
    return blocked


def iterating(
    function: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Blocking, P], Iterator[T]]:
    """`blocking`, of an asynchronous generator."""

    @wraps(function)
    def iterated(face: Blocking, *args: Any, **kwargs: Any) -> Iterator[T]:
        return iterate(function(face.core, *args, **kwargs))

    return iterated


def sleeper(
    blocking: Callable[[float], None], otherwise: Callable[[float], Awaitable[None]]
) -> Callable[[float], Awaitable[None]]:
    """Sleeps on the thread of a blocking call; `otherwise` where it waits for many tasks."""

    async def sleep(seconds: float) -> None:
        import asyncio

        waiting = _waiting.get(None)
        if waiting is None or waiting.task is not asyncio.current_task():
            await otherwise(seconds)
        else:
            await waiting.order(blocking, seconds)

    return sleep


PAUSE_SECONDS = 5.0
"""Longest that a fork waits for the callback under way to end."""


class _Portal:
    """The event loop and its thread, made when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._resume: list[threading.Event] = []

    def loop(self) -> asyncio.AbstractEventLoop:
        if self.is_here():
            raise RuntimeError("a blocking call on the SDK's own event loop would wait for itself")
        with self._lock:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="gpu-worker-client-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def pause(self) -> None:
        """Lets no callback run until `resume`."""
        if self._loop is None or self.is_here():
            return
        paused, resume = threading.Event(), threading.Event()
        self._resume.append(resume)

        def wait() -> None:
            paused.set()
            resume.wait()

        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(wait)
            paused.wait(PAUSE_SECONDS)

    def resume(self) -> None:
        while self._resume:
            self._resume.pop().set()


_portal = _Portal()
_left_behind: list[_Portal] = []
"""In a forked process, the loops of its parents: were one collected, it would complain."""


def _forked() -> None:
    global _portal  # noqa: PLW0603 - the fork has made all of this process's state another's
    _left_behind.append(_portal)
    _portal = _Portal()


if hasattr(os, "register_at_fork"):
    # Between two callbacks: what a library has locked in one, SQLite say, the child would find
    # locked for ever.
    os.register_at_fork(
        before=lambda: _portal.pause(),  # noqa: PLW0108 - a child's portal is another
        after_in_parent=lambda: _portal.resume(),  # noqa: PLW0108
        after_in_child=_forked,
    )


class Threads:
    """Makes calls on daemon threads, `MAX_THREADS` at most. Not `ThreadPoolExecutor`: the
    interpreter waits for that one's threads when it exits, and a server that answers a byte a
    minute would hold up the end of a program that gave up on it long ago."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = threading.Lock()
        self._alive = 0

    def start(self, function: Callable[[], T]) -> Future[T]:
        """Makes the call on a thread. Cancelling the future keeps a call that has not started from
        beginning."""
        if self._process != os.getpid():
            self.__init__()  # a forked process has none of the threads
        future: Future[T] = Future()
        with self._lock:
            self._calls.append((future, function))
            self._add()
        return future

    @contextmanager
    def lent(self) -> Generator[None, None, None]:
        """While inside, this thread does not count against `MAX_THREADS`, so the call it waits for
        can start."""
        with self._lock:
            self._alive -= 1
            self._add()
        try:
            yield
        finally:
            with self._lock:
                self._alive += 1

    def _add(self) -> None:
        if self._calls and self._alive < MAX_THREADS:
            self._alive += 1
            threading.Thread(target=self._serve, name="gpu-worker-client", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._alive -= 1
                    return
                future, function = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                    future.set_exception(error)
            del future, function  # or they would be held until there are others
