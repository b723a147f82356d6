"""An HTTP server on loopback that gives prepared answers and keeps what it was asked; and a clock
that nobody waits for."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpu_worker_client import Timing


@dataclass
class Answer:
    """One prepared answer. `hang_up` closes the connection after the request was read, without a
    byte of answer."""

    body: Any = None
    status: int = 200
    reason: str | None = None
    """In the status line; None is the usual one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    cut_body: bool = False
    """Announces more bytes than come."""

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Seen:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class ScriptedServer:
    def __init__(self, url: str) -> None:
        self.url = url
        self.script: list[Answer] = []
        self.seen: list[Seen] = []
        self.aside: dict[str, Answer] = {}
        """Answers by the end of a path, beside the script and not stored in `seen`."""
        self.asked_aside: list[str] = []

    def say(self, *answers: Answer | dict[str, Any]) -> None:
        """Prepares the next answers. The last one repeats."""
        self.script.extend(a if isinstance(a, Answer) else Answer(a) for a in answers)

    def answer(self, seen: Seen) -> Answer:
        for end, answer in self.aside.items():
            if seen.path.endswith(end):
                self.asked_aside.append(f"{seen.method} {seen.path}")
                return answer
        self.seen.append(seen)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    @property
    def asked(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen]


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            answer = script.answer(
                Seen(
                    self.command, self.path, dict(self.headers), json.loads(body) if body else None
                )
            )
            if answer.hang_up:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            data = answer.encoded()
            self.send_response(answer.status, answer.reason)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) + (10 if answer.cut_body else 0)))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = self.close_connection or answer.cut_body

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = ScriptedServer(f"http://127.0.0.1:{server.server_address[1]}/v2")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FakeTime:
    """Time that passes only by sleeping, and random numbers that are always one half."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.seconds += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)

    def timing(self) -> Timing:
        start = datetime(2030, 1, 1, tzinfo=timezone.utc)
        return Timing(
            clock=lambda: self.seconds,
            sleep=self.sleep,
            async_sleep=self.async_sleep,
            random=lambda: 0.5,
            now=lambda: start + timedelta(seconds=self.seconds),
        )


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
