"""An endpoint on loopback that misbehaves as ordered, byte by byte where it must, and counts what
it was asked."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DRIP_SECONDS = 0.02
MAX_DRIP_BYTES = 500
"""Ten seconds of it: no test waits for the end."""


class HostileEndpoint:
    """Answers as RunPod's endpoint does, but for the requests that a fault is ordered for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses: list[dict[str, Any]] = []
        """Answers of `/status`; the last one repeats."""
        self.fault: Callable[[Conversation], None] | None = None
        self.times: int | None = None
        """How often the fault strikes; None is always."""
        self.spares = ""
        """The last word of a path that the fault does not strike."""
        self.asked: list[str] = []
        """`run`, `status`, `cancel`, `health`, in order."""
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def strikes(self, what: str) -> bool:
        with self._lock:
            self.asked.append(what)
            if self.fault is None or what == self.spares or self.times == 0:
                return False
            self.times = None if self.times is None else self.times - 1
            return True

    def good_answer(self, what: str) -> dict[str, Any]:
        if what == "status":
            with self._lock:
                return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        state = {"run": "IN_QUEUE", "cancel": "CANCELLED"}.get(what)
        return {"id": "j", "status": state} if state else {"jobs": {}, "workers": {}}


class Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: HostileEndpoint

    def converse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        what = self.path.split("?")[0].split("/")[3]
        if self.endpoint.strikes(what):
            assert self.endpoint.fault is not None
            self.endpoint.fault(self)
        else:
            self.say(self.endpoint.good_answer(what))

    do_GET = do_POST = converse

    def say(self, body: Any, status: int = 200, missing_bytes: int = 0, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data) + missing_bytes))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = self.close_connection or missing_bytes > 0

    def hang(self) -> None:
        """Not a byte of answer."""
        self.close_connection = True
        self.endpoint.closing.wait(10)

    def drip(self, data: bytes) -> None:
        """A byte at a time; each of them comes long before a socket's time is over."""
        self.close_connection = True
        for byte in data[:MAX_DRIP_BYTES]:
            if self.endpoint.closing.wait(DRIP_SECONDS):
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # reset
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what is tested. Anything else (a thread that could not be
        started) would be to the client a connection that was reset: it is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextmanager
def hostile_endpoint() -> Iterator[HostileEndpoint]:
    class Handler(Conversation):
        pass

    server = Server(("127.0.0.1", 0), Handler)
    endpoint = Handler.endpoint = HostileEndpoint(f"http://127.0.0.1:{server.server_address[1]}/v2")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
