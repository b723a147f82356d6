"""One HTTP exchange with a store, and the rule for trying again.

No redirects, no proxies, no cookies, no content encoding, one connection per request, every wait
bounded. Whatever goes wrong comes out as a `TaskError` (final) or as `Transient` (the next try may
work); nothing it raises or logs shows a URL's query.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from gpu_worker.transfer.connect import Dialer, Network
from gpu_worker.transfer.limits import MIB, TransferLimits
from gpu_worker.transfer.presign import Presign
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.store_errors import Direction, StoreRefusal, Transient, judge
from gpu_worker.transfer.urls import UrlPolicy
from gpu_worker.transfer.watchdog import Guard, Halted
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_client.protocol.http import full_jitter_seconds

logger = logging.getLogger(__name__)

CHUNK_BYTES = MIB // 4
SEND_BYTES = MIB // 4
"""`sendall` counts its timeout over all of it, so a piece must fit into it at the lowest allowed
rate."""
HEAD_BYTES = 65536
"""Most bytes of status lines and headers of one answer, interim ones (100) included."""
ERROR_BODY_BYTES = 65536
ERROR_BODY_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 20.0
TRAILING_SECONDS = 0.5
"""How long a server that should close the connection is given to do so, or to send more than it
declared."""
_DISCONNECTED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_TIMEOUT: dict[Direction, ErrorCode] = {
    "download": ErrorCode.download_timeout,
    "upload": ErrorCode.upload_failed,
}
_FAILED: dict[Direction, ErrorCode] = {
    "download": ErrorCode.download_failed,
    "upload": ErrorCode.upload_failed,
}


class Body(Protocol):
    """What an upload sends: readable again from any offset, because any try may be the second."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`."""
        ...


class _Head:
    """The lines before an answer's body, so many bytes of them at most, none of them cut:
    `http.client` takes the end of the connection for the end of the headers, and would call half an
    answer a success."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._left = HEAD_BYTES

    def readline(self, limit: int) -> bytes:
        line = self.file.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.HTTPException("the head of the answer is too long")
        if not line.endswith(b"\n"):
            raise http.client.RemoteDisconnected("the head of the answer was cut")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _Answer(http.client.HTTPResponse):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.fp: Any = _Head(self.fp)

    def end_head(self) -> None:
        """From here on `fp` is the body."""
        self.fp = self.fp.file


class Response:
    """An answer whose body is still on the wire."""

    def __init__(
        self,
        raw: http.client.HTTPResponse,
        sock: socket.socket,
        where: str,
        direction: Direction,
        presign: Presign | None,
        guard: Guard,
    ) -> None:
        self._raw = raw
        self._sock = sock
        self._where = where
        self._direction: Direction = direction
        self._presign = presign
        self._guard = guard
        self.status = raw.status

    def header(self, name: str) -> str | None:
        return self._raw.headers.get(name)

    @property
    def etag(self) -> str | None:
        return self.header("ETag")

    @property
    def length(self) -> int | None:
        """Declared length of the body; None when it is absent, ambiguous or the body is chunked."""
        values = {value.strip() for value in self._raw.headers.get_all("Content-Length", [])}
        if self.header("Transfer-Encoding") is not None or len(values) != 1:
            return None
        (value,) = values
        return parse_integer(value)

    def chunks(self, size: int, count: Callable[[int], None]) -> Iterator[memoryview]:
        """The body in pieces of one reused buffer, exactly `size` bytes together.

        Raises:
            Transient: the body ended early.
            TaskError: more came than was declared.
        """
        buffer = memoryview(bytearray(min(CHUNK_BYTES, max(size, 1))))
        body = self._raw.fp
        left = size
        # What came along with the headers. `readinto1` would wait for more although it has
        # something to return.
        ready = len(body.peek(1)) if left else 0
        while left:
            # One receive at a time: waiting for a full buffer would hide a slow sender from the
            # guard.
            got = body.readinto1(buffer[: min(left, ready or len(buffer))])
            ready = 0
            if not got:
                message = (
                    f"{self._where}: the connection ended {left} bytes before the end of the body"
                )
                raise Transient(
                    TaskError(ErrorCode.download_truncated, message, missing_bytes=left)
                )
            count(got)
            left -= got
            yield buffer[:got]
        self._expect_end()

    def _expect_end(self) -> None:
        self._sock.settimeout(TRAILING_SECONDS)
        try:
            extra = self._raw.fp.read(1)
        except OSError:
            return
        if extra:
            raise TaskError(
                ErrorCode.download_failed,
                f"{self._where}: the store sent more bytes than it declared",
            )

    def text(self, limit: int = ERROR_BODY_BYTES, *, seconds: float | None = None) -> bytes:
        """The first bytes of the body: an error's XML. Empty when it cannot be read, or not in that
        time, `ERROR_BODY_SECONDS` by default."""
        text = b""
        try:
            with self._guard.within(self._sock, seconds or ERROR_BODY_SECONDS):
                # Not `read`: for a chunk that calls itself -1 bytes long it takes all that comes,
                # whatever the limit.
                while len(text) < limit and (piece := self._raw.read1(limit - len(text))):
                    text += piece
        except (OSError, ValueError, http.client.HTTPException):
            return b""
        return text[:limit]

    def refusal(self) -> TaskError | Transient:
        """The error for this answer, when it is not the wanted one."""
        refusal = StoreRefusal(
            self.status,
            self.text(),
            self.header("Date"),
            self.header("Retry-After"),
            is_version_2=self._presign is not None and self._presign.version == 2,
        )
        return judge(refusal, self._where, self._direction, datetime.now(timezone.utc))


@dataclass
class _Progress:
    """How far a request got; decides what a lost connection means."""

    body_sent: bool = False


class HttpChannel:
    """The way of one transfer to its store: where it may dial, how long it may take. Thread-safe
    context manager."""

    def __init__(
        self,
        policy: UrlPolicy,
        limits: TransferLimits,
        cancelled: threading.Event,
        direction: Direction,
        network: Network | None = None,
    ) -> None:
        self.limits = limits
        self.guard = Guard(limits, cancelled, _TIMEOUT[direction])
        self._direction: Direction = direction
        self._network = network or Network()
        self._dialer = Dialer(policy, limits, self._network, self.guard)

    def __enter__(self) -> HttpChannel:
        self.guard.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.guard.__exit__(kind, error, trace)

    def retry(self) -> Retry:
        return Retry(self.limits, self._network, self.guard)

    @contextmanager
    def request(
        self,
        method: str,
        url: SafeUrl,
        where: str,
        headers: Mapping[str, str],
        *,
        body: Body | None = None,
        sent: Callable[[int], None] | None = None,
    ) -> Generator[Response]:
        """Sends one request and yields its answer; reading the answer's body inside the block is
        covered too.

        Args:
            where: field of the task that holds the URL, for messages.
            sent: called with the size of every piece of the body that left.
        """
        self.guard.check()
        progress = _Progress()
        sock: socket.socket | None = None
        try:
            sock = self._dialer.open(url)
            with self._send(sock, method, url, headers, body, sent, progress) as raw:
                yield Response(raw, sock, where, self._direction, url.presign, self.guard)
        except (OSError, http.client.HTTPException, Transient) as error:
            raise self._translated(error, where, progress) from None
        finally:
            if sock is not None:
                self._dialer.close(sock)

    @contextmanager
    def _send(
        self,
        sock: socket.socket,
        method: str,
        url: SafeUrl,
        headers: Mapping[str, str],
        body: Body | None,
        sent: Callable[[int], None] | None,
        progress: _Progress,
    ) -> Generator[http.client.HTTPResponse]:
        limits = self.limits
        sock.settimeout(limits.idle_seconds)
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.auto_open = 0  # it would dial by name
        connection.response_class = _Answer
        connection.sock = sock
        connection.putrequest(method, url.target, skip_host=True, skip_accept_encoding=True)
        size = body.size if body is not None else None
        for name, value in _wire_headers(url, headers, size).items():
            connection.putheader(name, value)
        connection.endheaders()
        if body is not None:
            self._send_body(sock, body, sent, progress)
            sock.settimeout(limits.response_seconds)
        with self.guard.within(sock, limits.response_seconds):
            raw = connection.getresponse()
        assert isinstance(raw, _Answer)
        raw.end_head()
        with raw:
            yield raw

    def _send_body(
        self,
        sock: socket.socket,
        body: Body,
        sent: Callable[[int], None] | None,
        progress: _Progress,
    ) -> None:
        offset = 0
        with self.guard.moving() as count:
            while offset < body.size:
                self.guard.check()
                piece = body.read(offset, min(SEND_BYTES, body.size - offset))
                try:
                    sock.sendall(piece)
                except (BrokenPipeError, ConnectionResetError):
                    # the store may have answered early and closed; the answer tells more than the
                    # reset
                    return
                offset += len(piece)
                count(len(piece))
                if sent is not None:
                    sent(len(piece))
        progress.body_sent = True

    def _translated(self, error: Exception, where: str, progress: _Progress) -> Exception:
        """What a failure of the wire means. The guard's reason comes first: it may have cut the
        connection itself."""
        try:
            self.guard.check()
        except (TaskError, Halted) as reason:
            return reason
        if isinstance(error, Transient):
            return error
        if isinstance(error, ssl.SSLError) and not isinstance(error, _DISCONNECTED):
            reason = (
                error.verify_message
                if isinstance(error, ssl.SSLCertVerificationError)
                else "the handshake failed"
            )
            return TaskError(
                ErrorCode.tls_error,
                f"{where}: no secure connection to the host: {reason}",
                path=where,
            )
        late = isinstance(error, TimeoutError)
        if late:
            what = "the store did not answer in time"
        elif isinstance(error, socket.gaierror):
            what = "the URL's host has no address; check its spelling, and this worker's DNS"
        else:
            what = f"the store closed or refused the connection ({type(error).__name__})"
        code = (_TIMEOUT if late else _FAILED)[self._direction]
        return Transient(
            TaskError(code, f"{where}: {what}", path=where), ambiguous=progress.body_sent
        )


def _wire_headers(
    url: SafeUrl, headers: Mapping[str, str], body_size: int | None
) -> dict[str, str]:
    wire = {
        "Host": url.authority,
        "Accept-Encoding": "identity",
        "User-Agent": "gpu-worker",
        "Connection": "close",
        **headers,
    }
    if body_size is not None:
        wire["Content-Length"] = str(body_size)
    return wire


class Retry:
    """Counts the failures of one request in a row and waits between its tries: full jitter,
    Retry-After honoured."""

    def __init__(self, limits: TransferLimits, network: Network, guard: Guard) -> None:
        self._limits = limits
        self._network = network
        self._guard = guard
        self.progressed()

    def progressed(self) -> None:
        """Bytes arrived since: the next failure is the first again."""
        self._failures = 0
        self._since = time.monotonic()
        self._paused_seconds = 0.0

    def pause(self, failure: Transient) -> None:
        """Waits before the next try.

        Raises:
            TaskError: the failure's own, when tries or time are used up.
        """
        if self._failures == 0:
            self._since = time.monotonic()
        self._failures += 1
        seconds = pause_seconds(self._failures, failure.retry_after_seconds, self._network.random())
        spent = max(time.monotonic() - self._since, self._paused_seconds)
        if (
            self._failures >= self._limits.attempts
            or spent + seconds > self._limits.retry_budget_seconds
        ):
            raise failure.error
        self._paused_seconds += seconds
        logger.info(
            "%s; try %d failed, the next is in %.1f s",
            failure.error.message,
            self._failures,
            seconds,
        )
        self._network.pause(self._guard, seconds)


def pause_seconds(failures: int, retry_after_seconds: float | None, jitter: float) -> float:
    """Full jitter, never less than Retry-After."""
    pause = full_jitter_seconds(failures - 1, LONGEST_PAUSE_SECONDS, jitter)
    return max(pause, retry_after_seconds or 0.0)
