"""What a store answers, byte by byte: a lie about the body is no success, a redirect is followed
from none of the places where a task has a URL, and no error is a bug of ours or shows a secret."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.transfer import Network, Source, Target, TransferLimits, UrlPolicy, deliver, fetch
from gpu_worker.transfer.deliver import deliver_result
from gpu_worker.transfer.fetch import read_result
from gpu_worker.transfer.safe_url import SafeUrl, parse_url
from gpu_worker_client.protocol import ErrorCode, TaskError

SECRET = "CANARY0123456789"
LIMITS = TransferLimits(
    connect_seconds=5,
    idle_seconds=5,
    response_seconds=5,
    total_seconds=20,
    attempts=1,
    retry_budget_seconds=0,
)
BODY = b"0123456789"


@dataclass
class Store:
    """Gives every request the same answer and hangs up."""

    host: str
    answer: bytes
    asked: list[str] = field(default_factory=list[str])

    def url(self, where: str) -> SafeUrl:
        return parse_url(f"http://{self.host}/object?token={SECRET}", where)

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                head, _, body = self._head(connection).partition(b"\r\n\r\n")
                self.asked.append(head.split(b"\r\n")[0].decode())
                while self.asked[-1].startswith("PUT") and len(body) < len(BODY):
                    body += connection.recv(65536)
                connection.sendall(self.answer)

    def _head(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
            data += more
        return data


@contextmanager
def store(answer: bytes) -> Generator[Store]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Store(f"127.0.0.1:{server.getsockname()[1]}", answer)
        thread = threading.Thread(target=made.serve, args=(server,), daemon=True)
        thread.start()
        yield made
        server.shutdown(socket.SHUT_RDWR)
    thread.join(20)


def get(store: Store, folder: Path) -> None:
    source = Source(store.url("input_url"))
    fetch(source, folder / "input", **common(store), progress=lambda *_: None)


def get_result(store: Store, folder: Path) -> None:
    del folder
    read_result(Source(store.url("result_get_url"), where="result_get_url"), **common(store))


def put(store: Store, folder: Path) -> None:
    made = folder / "made.mp4"
    made.write_bytes(BODY)
    deliver(Target(store.url("output_url")), made, **common(store), progress=lambda *_: None)


def put_result(store: Store, folder: Path) -> None:
    target = Target(store.url("result_url"), where="result_url")
    deliver_result(target, [BODY], **common(store), folder=folder)


def common(store: Store) -> dict[str, Any]:
    return {
        "policy": UrlPolicy(exempt_hosts=frozenset({store.host})),
        "limits": LIMITS,
        "cancelled": threading.Event(),
        "network": Network(pause=lambda guard, _: guard.check()),
    }


PLACES: dict[str, Callable[[Store, Path], None]] = {
    "input": get,
    "earlier result": get_result,
    "output": put,
    "result": put_result,
}


def failure(
    store: Store, place: Callable[[Store, Path], None], folder: Path, log: pytest.LogCaptureFixture
) -> TaskError:
    with log.at_level(0), pytest.raises(TaskError) as caught:
        place(store, folder)
    assert caught.value.code is not ErrorCode.internal
    assert SECRET not in str(caught.value.body()) + log.text
    assert not (folder / "input").exists()
    return caught.value


def part(content_range: str) -> bytes:
    return (
        f"HTTP/1.1 206 P\r\nContent-Range: {content_range}\r\nContent-Length: 10\r\n\r\n".encode()
    )


LIES = {
    "a range of nothing": part("bytes 0-9/0") + BODY,
    "a range beyond the whole": part("bytes 0-9/5") + BODY,
    "a range backwards": part("bytes 9-0/10") + BODY,
    "a range of an unknown whole": part("bytes 0-9/*") + BODY,
    "a range of thirty digits": part("bytes 0-9/" + "9" * 30) + BODY,
    "no range": b"HTTP/1.1 206 P\r\nContent-Length: 10\r\n\r\n" + BODY,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 9\r\n\r\n" + BODY,
    "a length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + BODY,
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +10\r\n\r\n" + BODY,
    "chunks and a length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 10\r\n\r\n"
        b"a\r\n0123456789\r\n0\r\n\r\n"
    ),
    "a chunk without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\nab",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "another version": b"HTTP/9.9 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY,
    "a status of no kind": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "a long status": b"HTTP/1.1 200 " + b"A" * 200_000 + b"\r\n\r\n",
    "no HTTP": b"\0" * 1000,
}


@pytest.mark.parametrize("answer", LIES.values(), ids=LIES)
def test_a_lie_about_the_input_is_no_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    with store(answer) as lying:
        failure(lying, get, tmp_path, caplog)


REDIRECTS = ("file:///etc/passwd", "http://169.254.169.254/latest", "/other", "data:,x", "")


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("target", REDIRECTS)
@pytest.mark.parametrize("status", [301, 303, 308])
def test_no_redirect_is_followed(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    place: Callable[[Store, Path], None],
    target: str,
    status: int,
) -> None:
    answer = f"HTTP/1.1 {status} R\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
    with store(answer.encode()) as redirecting:
        error = failure(redirecting, place, tmp_path, caplog)
        assert error.code is ErrorCode.redirect_not_allowed and not error.code.retryable
        assert len(redirecting.asked) == 1


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_an_error_quotes_of_the_url_stays_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: Callable[[Store, Path], None]
) -> None:
    body = f"<Error><Code>AccessDenied</Code><Message>token={SECRET}</Message></Error>"
    answer = f"HTTP/1.1 403 F\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with store(answer.encode()) as quoting:
        assert failure(quoting, place, tmp_path, caplog).code is ErrorCode.url_denied
