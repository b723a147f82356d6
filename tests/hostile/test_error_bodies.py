"""A store's refusal is read for its code, a few kilobytes of it, however its body claims to be cut
into chunks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu_worker.transfer import Source, TransferLimits, UrlPolicy, fetch
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
