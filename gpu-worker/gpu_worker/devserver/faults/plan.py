"""Faults that a test orders and a service carries out: which requests they hit, how often, and what
goes wrong.

    gate.faults.add(Fault.status(503, method="PUT", path="out/*", times=2))
    gate.faults.add(Fault.truncated(after_bytes=1000, method="GET"))

A fault is spent after `times` hits (one by default) and everything it does is bounded in bytes and
seconds. `Faults` may be used from any thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

MAX_FAULT_SECONDS = 30.0
"""No injected fault holds a connection for longer, whatever it asks for."""


class FaultKind(Enum):
    status = "answer this status without doing anything"
    redirect = "answer a redirect to a URL"
    delay = "wait, then serve as usual"
    reset_upload = "read some of the request body, then reset the connection"
    slow_upload = "read the request body slowly"
    lose_response = "do the work, then drop the connection without an answer"
    reset_download = "send some of the body, then reset the connection"
    truncated = "send some of the body, then close as if that were all"
    slow_download = "send the body slowly"
    longer = "send more bytes than Content-Length declares"
    endless = "send a chunked body that does not end"
    gzip = "send the body gzip-encoded, as Content-Encoding says"
    etag = "answer with another ETag"
    wrong_content_range = "answer 206 with a Content-Range that is shifted"
    ignore_range = "answer 200 with the whole body to a Range request"
    change_object = "serve as usual, then change the object behind the reader's back"
    expire = "treat the presigned URL as expired"


@dataclass
class Fault:
    """One ordered fault. Use the class methods; they name the arguments that each kind has."""

    kind: FaultKind
    method: str | None = None
    """None matches every method."""
    path: str = "*"
    """Shell pattern over the decoded key (gate) or path below `/v2/ENDPOINT/` (control plane)."""
    times: int | None = 1
    """How many matching requests it hits; None is all of them."""
    skip: int = 0
    """How many matching requests pass first: `skip=2` hits the third."""
    query: str | None = None
    """Matches only requests whose query has this parameter: "partNumber", "uploadId"."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    hits: int = 0
    """How often it struck so far."""

    def matches(self, method: str, path: str, query: frozenset[str]) -> bool:
        return (
            (self.times is None or self.hits < self.times)
            and (self.method is None or self.method == method)
            and (self.query is None or self.query in query)
            and fnmatchcase(path, self.path)
        )

    @classmethod
    def status(
        cls,
        status: int,
        *,
        code: str | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        **match: Any,
    ) -> Fault:
        """Answers `status`. `code` sets the error's code, `body` replaces the whole body (200 with
        an error inside, say)."""
        return cls(
            FaultKind.status,
            **match,
            options={"status": status, "code": code, "body": body, "headers": headers or {}},
        )

    @classmethod
    def redirect(cls, url: str, *, status: int = 307, **match: Any) -> Fault:
        return cls(FaultKind.redirect, **match, options={"url": url, "status": status})

    @classmethod
    def delay(cls, seconds: float, **match: Any) -> Fault:
        return cls(FaultKind.delay, **match, options={"seconds": seconds})

    @classmethod
    def reset_upload(cls, *, after_bytes: int = 0, **match: Any) -> Fault:
        return cls(FaultKind.reset_upload, **match, options={"after_bytes": after_bytes})

    @classmethod
    def slow_upload(
        cls, *, bytes_per_interval: int, interval_seconds: float, **match: Any
    ) -> Fault:
        return cls(
            FaultKind.slow_upload,
            **match,
            options={"bytes": bytes_per_interval, "seconds": interval_seconds},
        )

    @classmethod
    def lose_response(cls, **match: Any) -> Fault:
        return cls(FaultKind.lose_response, **match)

    @classmethod
    def reset_download(cls, *, after_bytes: int, **match: Any) -> Fault:
        return cls(FaultKind.reset_download, **match, options={"after_bytes": after_bytes})

    @classmethod
    def truncated(cls, *, after_bytes: int, declare_length: bool = True, **match: Any) -> Fault:
        """A clean end after `after_bytes`. Without `declare_length` the answer has no
        Content-Length: HTTP cannot show it."""
        return cls(
            FaultKind.truncated,
            **match,
            options={"after_bytes": after_bytes, "declare_length": declare_length},
        )

    @classmethod
    def slow_download(
        cls, *, bytes_per_interval: int, interval_seconds: float, **match: Any
    ) -> Fault:
        return cls(
            FaultKind.slow_download,
            **match,
            options={"bytes": bytes_per_interval, "seconds": interval_seconds},
        )

    @classmethod
    def longer(cls, *, extra_bytes: int = 1000, **match: Any) -> Fault:
        return cls(FaultKind.longer, **match, options={"extra_bytes": extra_bytes})

    @classmethod
    def endless(cls, *, max_bytes: int = 256 * 1024 * 1024, **match: Any) -> Fault:
        return cls(FaultKind.endless, **match, options={"max_bytes": max_bytes})

    @classmethod
    def gzip(cls, **match: Any) -> Fault:
        return cls(FaultKind.gzip, **match)

    @classmethod
    def etag(cls, value: str, **match: Any) -> Fault:
        return cls(FaultKind.etag, **match, options={"value": value})

    @classmethod
    def wrong_content_range(cls, *, shift: int = 1, **match: Any) -> Fault:
        return cls(FaultKind.wrong_content_range, **match, options={"shift": shift})

    @classmethod
    def ignore_range(cls, **match: Any) -> Fault:
        return cls(FaultKind.ignore_range, **match)

    @classmethod
    def change_object(cls, **match: Any) -> Fault:
        return cls(FaultKind.change_object, **match)

    @classmethod
    def expire(cls, **match: Any) -> Fault:
        return cls(FaultKind.expire, **match)


class Faults:
    """The ordered faults of one service, first match first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Orders a fault and returns it, so that a test can read its `hits`."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str, query: frozenset[str] = frozenset()) -> Fault | None:
        """The fault that hits this request, or None. Counts the hit."""
        with self._lock:
            for fault in self._faults:
                if not fault.matches(method, path, query):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                return fault
        return None
