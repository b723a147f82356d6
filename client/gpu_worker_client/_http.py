"""HTTP as the SDK needs it: one request, one reply of bounded size, every failure an
`APIConnectionError` that says whether the request can have had its effect. Blocking; `_drive.py`
runs it on threads. The API key travels to the endpoint and nowhere else: redirects are not
followed, and a request to storage goes without key, cookies or an entry of ~/.netrc."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpu_worker_client.errors import APIConnectionError
from gpu_worker_client.protocol.text import redact

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0
"""Longest silence of a server that has the request."""
TOTAL_SECONDS = 120.0
"""Longest whole request without a deadline: 20 MB, RunPod's largest answer, at 1.5 Mbit/s."""
MAX_ANSWER_BYTES = 64 << 20
"""RunPod's limit is 20 MB; a server can answer without end."""
_PIECE_BYTES = 1 << 16
_CONNECTIONS = 32


@dataclass(frozen=True)
class Reply:
    status: int
    reason: str
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes


@dataclass(frozen=True)
class Request:
    method: str
    url: str = field(repr=False)
    """A presigned one is a secret."""
    what: str
    """The request's name in messages: "POST run"."""
    read: Callable[[Reply], Any]
    """Makes the reply a value or raises; runs on the request's thread, for a large result takes its
    time."""
    limit_seconds: float
    """For the whole of it, from name resolution to the last byte."""
    max_bytes: int
    """Of the reply's body."""
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    to_endpoint: bool = True
    """With the API key; False for storage."""
    withdrawn: bool = True
    """Not sent when nobody waits any more before it has begun. One that cancels a job is sent all
    the same."""


class Transport:
    """Connections to one endpoint, kept open between requests; used from many threads."""

    def __init__(self, api_key: str, *, trust_environment: bool) -> None:
        self._endpoint = _session(api_key, trust_environment=trust_environment)
        self._storage = _session(None, trust_environment=True)

    def close(self) -> None:
        self._endpoint.close()
        self._storage.close()

    def exchange(self, request: Request) -> Any:
        """Sends the request and reads the reply.

        Raises:
            APIConnectionError: there was none, or not a whole one.
            GpuWorkerError: whatever `request.read` makes of it.
        """
        import requests

        try:
            with self._open(request) as response:
                body = _bounded(response, request)
        except requests.RequestException as error:
            raise _connection_error(error, request.what) from None
        return request.read(
            Reply(response.status_code, response.reason or "", response.headers, body)
        )

    def _open(self, request: Request) -> AbstractContextManager[requests.Response]:
        limit = request.limit_seconds
        session = self._endpoint if request.to_endpoint else self._storage
        return session.request(
            request.method,
            request.url,
            data=request.body,
            headers=request.headers,
            timeout=(min(CONNECT_TIMEOUT_SECONDS, limit), min(READ_TIMEOUT_SECONDS, limit)),
            allow_redirects=False,
            stream=True,
        )


def _bounded(response: requests.Response, request: Request) -> bytes:
    end = time.monotonic() + request.limit_seconds
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > request.max_bytes:
            raise APIConnectionError(
                f"{request.what}: more than {request.max_bytes} bytes of answer",
                may_have_arrived=True,
            )
        if time.monotonic() > end:
            raise too_slow(request)
    return b"".join(pieces)


def too_slow(request: Request) -> APIConnectionError:
    return APIConnectionError(
        f"{request.what}: no whole answer within {request.limit_seconds:.3g} s; the request may"
        " have been taken all the same",
        may_have_arrived=True,
    )


def _session(api_key: str | None, *, trust_environment: bool) -> requests.Session:
    """With a key for the endpoint, with None for storage, whose URLs hold all that it asks for."""
    from http.cookiejar import DefaultCookiePolicy

    import requests  # here, because it doubles the time that importing this package takes
    from requests.adapters import HTTPAdapter

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if api_key is not None:
            request.headers["Authorization"] = f"Bearer {api_key}"
        return request

    session = requests.Session()
    # without one, requests sends the host what ~/.netrc has for it, even in place of a header
    session.auth = authorize
    if api_key is not None:
        session.headers["Accept"] = "application/json"
    session.trust_env = trust_environment
    session.cookies.set_policy(
        DefaultCookiePolicy(allowed_domains=[])
    )  # nothing is shared between threads
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return session


def _connection_error(error: requests.RequestException, what: str) -> APIConnectionError:
    import requests

    arrived = not _never_sent(error)
    note = "; the endpoint may have taken the request all the same" if arrived else ""
    # A certificate that is not trusted, or a proxy setting that is no URL (a ValueError), is the
    # same at the next attempt.
    transient = not isinstance(error, requests.exceptions.SSLError | ValueError)
    return APIConnectionError(
        f"{what}: no answer ({_reason(error)}){note}", may_have_arrived=arrived, transient=transient
    )


def _never_sent(error: requests.RequestException) -> bool:
    """Whether no byte of the request left: the connection was not made."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return True
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


_CAUSE = re.compile(
    r"\[Errno [-\d]+\][^)'\"]*|[Rr]ead timed out|certificate verify failed|reset by peer|closed"
    r" connection"
)


def _reason(error: requests.RequestException) -> str:
    """The class of the failure and its cause in words; the rest of the text holds addresses and
    URLs."""
    cause = _CAUSE.search(redact(str(error)))
    return f"{type(error).__name__}: {cause.group(0).strip()}" if cause else type(error).__name__
