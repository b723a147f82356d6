"""A store's answer is bounded in bytes and in time, whatever it claims: its head, the interim
answers before it, its error's body. A head that was cut is no success."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpu_worker.transfer import (
    Network,
    Source,
    Target,
    TransferLimits,
    UrlPolicy,
    deliver,
    fetch,
    http,
)
from gpu_worker.transfer.safe_url import parse_url
from gpu_worker_client.protocol import ErrorCode, TaskError

MIB = 1024 * 1024
MOST_BYTES = 64 * MIB
LET_THROUGH_BYTES = 16 * MIB
"""What the buffers of both ends and the kernel may take before the reader hangs up."""


@contextmanager
def flood(head: bytes, sent: list[int]) -> Generator[str]:
    """A server that answers 403 and then sends until the reader hangs up. Yields its host and
    port."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(
                    b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n" + head
                )
                while sum(sent) < MOST_BYTES:
                    connection.sendall(bytes(MIB))
                    sent.append(MIB)
            except OSError:
                pass

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(20)


@pytest.mark.parametrize("size", [b"-1", b"-5", b"ffffffff", b"zz"])
def test_no_chunk_size_makes_the_worker_read_without_end(tmp_path: Path, size: bytes) -> None:
    sent: list[int] = []
    with flood(size + b"\r\n<Error><Code>AccessDenied</Code></Error>", sent) as host:
        with pytest.raises(TaskError) as caught:
            fetch(
                Source(parse_url(f"http://{host}/in.mp4", "input_url")),
                tmp_path / "input",
                policy=UrlPolicy(exempt_hosts=frozenset({host})),
                limits=TransferLimits(),
                progress=lambda done, total: None,
                cancelled=threading.Event(),
            )
    assert caught.value.code is ErrorCode.url_denied
    assert sum(sent) <= LET_THROUGH_BYTES


@contextmanager
def slow_store(first: bytes, then: bytes) -> Generator[tuple[str, list[int]]]:
    """A server that takes a PUT, answers `first` and then sends `then`, in turns of 50 ms, until
    the writer hangs up. Yields its host and port, and the number of turns."""
    server = socket.create_server(("127.0.0.1", 0))
    turns: list[int] = []

    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                while b"whole body" not in connection.recv(65536):
                    pass
                connection.sendall(first)
                while then and len(turns) < 2000:
                    connection.sendall(then)
                    turns.append(len(then))
                    connection.settimeout(0.05)
                    with suppress(TimeoutError):
                        if not connection.recv(1):
                            break

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with server:
        yield f"127.0.0.1:{server.getsockname()[1]}", turns
        server.shutdown(socket.SHUT_RDWR)
    thread.join(20)


SLOW = {
    "interim answers without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim answers with headers": (
        b"",
        b"HTTP/1.1 100 Continue\r\nA: " + b"x" * 30000 + b"\r\n\r\n",
    ),
    "a head that drips": (b"HTTP/1.1 200 OK\r\nETag: ", b"x"),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"A: " + b"x" * 30000 + b"\r\n"),
    "a head that is cut": (b"HTTP/1.1 200 OK\r\nETag: abc", b""),
    "a status line that is cut": (b"HTTP/1.1 200 OK", b""),
    "a head without its end": (b"HTTP/1.1 200 OK\r\nETag: abc\r\n", b""),
    "an error body that drips": (b"HTTP/1.1 403 No\r\nContent-Length: 99999\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("row", SLOW.values(), ids=SLOW)
def test_no_answer_holds_an_upload_and_half_a_one_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: tuple[bytes, bytes]
) -> None:
    monkeypatch.setattr(http, "ERROR_BODY_SECONDS", 0.5)
    made = tmp_path / "made.mp4"
    made.write_bytes(b"whole body")
    with slow_store(*row) as (host, turns):
        with pytest.raises(TaskError) as caught:
            deliver(
                Target(parse_url(f"http://{host}/out.mp4", "output_url")),
                made,
                policy=UrlPolicy(exempt_hosts=frozenset({host})),
                limits=TransferLimits(response_seconds=0.5, attempts=2),
                progress=lambda done, total: None,
                cancelled=threading.Event(),
                network=Network(pause=lambda guard, _: guard.check()),
            )
    assert caught.value.code in (ErrorCode.upload_failed, ErrorCode.url_denied)
    assert len(turns) < 100
