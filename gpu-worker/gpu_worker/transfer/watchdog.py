"""Ends a transfer that was cancelled, ran out of time or became too slow, whatever call its threads
are blocked in.

Socket timeouts bound one call; a drip of one byte a second never trips them. A guard watches from a
thread of its own and shuts the sockets down, so every blocked `recv`, `send`, `connect` or TLS
handshake returns at once and finds the reason in `check`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from types import TracebackType

from gpu_worker.transfer.limits import TransferLimits
from gpu_worker_client.protocol import ErrorCode, TaskError

WATCH_SECONDS = 0.1
"""How often the guard checks; a cancel is felt within that."""


class Halted(Exception):
    """A sibling thread of the same transfer failed; its error is the one to report."""


class Guard:
    """Context manager around one transfer. Thread-safe."""

    def __init__(
        self, limits: TransferLimits, cancelled: threading.Event, timeout_code: ErrorCode
    ) -> None:
        """
        Args:
            timeout_code: the error of a transfer that took too long or was too slow.
        """
        self._limits = limits
        self._cancelled = cancelled
        self._timeout_code = timeout_code
        self._deadline = time.monotonic() + limits.total_seconds
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._ends: dict[socket.socket, float] = {}
        """When a socket is shut down by itself."""
        self._halted = False
        self._error: TaskError | None = None
        self._moving = 0
        self._moved_bytes = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="transfer-guard", daemon=True)

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def check(self) -> None:
        """Raises the reason when the transfer has ended.

        Raises:
            TaskError: `cancelled`, or the timeout code.
            Halted: a sibling failed.
        """
        self._inspect()
        if self._error is not None:
            raise self._error
        if self._halted:
            raise Halted

    def halt(self) -> None:
        """Stops every thread of the transfer, until `resume`."""
        with self._lock:
            self._halted = True
            _shut_down(self._sockets)

    def resume(self) -> None:
        with self._lock:
            self._halted = False

    def watch(self, sock: socket.socket) -> None:
        """From now on the socket is shut down with the transfer."""
        with self._lock:
            self._sockets.add(sock)

    def forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(sock)

    @contextmanager
    def within(self, sock: socket.socket, seconds: float) -> Generator[None]:
        """Shuts the socket down when the block takes longer, however many bytes drip into it.

        Raises:
            TimeoutError: it did.
        """
        with self._lock:
            end = self._ends[sock] = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                del self._ends[sock]
            if time.monotonic() >= end:
                raise TimeoutError("the answer took too long")

    @contextmanager
    def moving(self) -> Generator[Callable[[int], None]]:
        """While inside, bytes are expected to flow. Yields the function that counts them."""
        with self._lock:
            self._moving += 1
        try:
            yield self._count
        finally:
            with self._lock:
                self._moving -= 1
                if self._moving == 0:
                    self._samples.clear()

    def pause(self, seconds: float) -> None:
        """Sleeps, but wakes for the end of the transfer."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            self._cancelled.wait(min(left, WATCH_SECONDS))
        self.check()

    def _count(self, size: int) -> None:
        with self._lock:
            self._moved_bytes += size

    def _watch(self) -> None:
        while not self._done.wait(WATCH_SECONDS):
            self._inspect()
            with self._lock:
                now = time.monotonic()
                if self._error is not None or self._halted:
                    # Again at every turn: a thread may have opened a socket since.
                    _shut_down(self._sockets)
                _shut_down(sock for sock, end in self._ends.items() if now >= end)

    def _inspect(self) -> None:
        with self._lock:
            if self._error is None:
                self._error = self._reason()

    def _reason(self) -> TaskError | None:
        if self._cancelled.is_set():
            return TaskError(ErrorCode.cancelled, "the job was cancelled")
        now = time.monotonic()
        if now >= self._deadline:
            limit = self._limits.total_seconds
            return TaskError(
                self._timeout_code,
                f"the transfer took longer than {limit:g} s",
                limit_seconds=limit,
            )
        return self._slowness(now) if self._moving else None

    def _slowness(self, now: float) -> TaskError | None:
        """The error when too few bytes moved during the last window, None when enough did or the
        window is not full."""
        window = self._limits.min_rate_window_seconds
        if not self._samples or now - self._samples[-1][0] >= WATCH_SECONDS:
            self._samples.append((now, self._moved_bytes))
        while len(self._samples) > 1 and self._samples[1][0] <= now - window:
            self._samples.popleft()
        start, before = self._samples[0]
        floor = self._limits.min_bytes_per_second
        if now - start < window or self._moved_bytes - before >= floor * window:
            return None
        message = f"the transfer was slower than {floor} bytes/s for {window:g} s"
        return TaskError(self._timeout_code, message, min_bytes_per_second=floor)


def _shut_down(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        # The plain socket's method: SSLSocket.shutdown would change state that another thread is
        # using.
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
