"""The pipe: three stages that overlap, each in its own thread, with bounded queues between them.

`prefetched` runs a source ahead of its consumer (decoding), `drained` runs a sink behind its
producer (encoding); what stands between them runs in the caller's thread (the network). FFmpeg and
torch release the interpreter lock, so all three really overlap. Memory is bounded by the queues'
depth. A failure of any stage ends the other two and reaches the caller as raised; no thread
outlives the `with` block.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Channel(Generic[T]):
    """A bounded queue between two threads that either side can end."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False

    def put(self, item: T) -> bool:
        """Waits for room. False when the consumer has gone and the item was dropped."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """The producer has no more; what is queued is still delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """The consumer wants no more; what is queued is dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ended or bool(self._items))
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item


@contextmanager
def prefetched(source: Iterable[T], depth: int) -> Generator[Iterator[T]]:
    """The items of `source`, computed in a thread up to `depth` ahead. An exception of the source
    is raised after the items that came before it."""
    channel: Channel[T] = Channel(depth)
    with ThreadPoolExecutor(1, "prefetch") as pool:
        feeding = pool.submit(_feed, source, channel)
        try:
            yield _delivered(channel, feeding)
        finally:
            channel.close()


@contextmanager
def drained(consume: Callable[[T], object], depth: int) -> Generator[Callable[[T], None]]:
    """A function that queues items for `consume`, which runs in a thread. Its exception is raised
    by the next call, or at the end of the block, where all items have been consumed. A block that
    fails drops what is still queued."""
    channel: Channel[T] = Channel(depth)
    with ThreadPoolExecutor(1, "drain") as pool:
        consuming = pool.submit(_consume, channel, consume)

        def put(item: T) -> None:
            if not channel.put(item):
                consuming.result()

        try:
            yield put
        except BaseException:
            channel.close()
            raise
        channel.end()
        consuming.result()


def mapped(
    items: Iterable[T],
    work: Callable[[T], R],
    threads: int,
    *,
    ahead: int = 0,
    start: Callable[[], object] | None = None,
) -> Generator[R]:
    """`work` of each item, in the items' order, computed side by side.

    Args:
        threads: that compute.
        ahead: items that may be in work or done beyond the `threads` that are in work.
        start: called once in each thread before its first item.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, "mapped", start) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == threads + ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for unwanted in waiting:
                unwanted.cancel()


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` consecutive items, the last one shorter: hands cheap items over without
    waking a thread for each."""
    source = iter(items)
    while group := list(islice(source, size)):
        yield group


def _feed(source: Iterable[T], channel: Channel[T]) -> None:
    items = iter(source)
    try:
        for item in items:
            if not channel.put(item):
                return
    finally:
        if isinstance(items, Generator):
            items.close()  # files it holds are closed here, in the thread that opened them
        channel.end()


def _delivered(channel: Channel[T], feeding: Future[None]) -> Iterator[T]:
    yield from channel
    feeding.result()


def _consume(channel: Channel[T], consume: Callable[[T], object]) -> None:
    try:
        for item in channel:
            consume(item)
    finally:
        channel.close()
