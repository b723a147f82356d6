"""HTTP as the SDK needs it: one request with its retries, one reply of bounded size, every failure
an `APIConnectionError` that says whether the request can have had its effect.

Requests are sent on a few threads, so that each ends at its limit however a server drags it out,
and a cancel comes through at once. The API key travels to the endpoint and nowhere else: redirects
are not followed, and a request to storage goes without key, cookies or an entry of ~/.netrc.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gpu_worker_client._blocking import retrieve
from gpu_worker_client._portal import Threads
from gpu_worker_client._retry import Retries, Timing, retry_seconds
from gpu_worker_client.errors import APIConnectionError, APIError, ConfigError
from gpu_worker_client.protocol.foreign import redact
from gpu_worker_client.protocol.http import LOOPBACK_HOSTS

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0
"""Longest silence of a server that has the request."""
TOTAL_SECONDS = 120.0
"""Longest whole request without a deadline: 20 MB, RunPod's largest answer, at 1.5 Mbit/s."""
LAST_TIMEOUT_SECONDS = 2.0
"""A request made at the deadline still gets this long: a last one that cannot be answered would be
none."""
_GRACE_SECONDS = 0.25
"""The thread's own limit comes first, as its errors say more."""
MAX_ANSWER_BYTES = 64 << 20
"""RunPod's limit is 20 MB; a server can answer without end."""
_PIECE_BYTES = 1 << 16
_CONNECTIONS = 32

_log = logging.getLogger("gpu_worker_client")


@dataclass(frozen=True)
class Answer:
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
    read: Callable[[Answer], Any]
    """Makes the reply a value or raises; runs on the request's thread, for a large result takes its
    time."""
    limit_seconds: float
    """For the whole exchange, from name resolution to the last byte; less near a deadline."""
    max_bytes: int
    """Largest body of a reply."""
    retries: Retries = "any"
    """Which failures it is sent again after."""
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    to_endpoint: bool = True
    """Whether the API key travels along; False for storage."""
    withdrawn: bool = True
    """Not sent when nobody waits any more before it has started. One that cancels a job is sent all
    the same."""


def check_service_url(value: str, name: str, example: str, *, path: bool = True) -> str:
    """`value` without a closing slash, when it is an https URL (http on loopback) of nothing but
    scheme, host and, where there may be one, path."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{name} is not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError(f"{name} must be an https URL such as {example}")
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS:
        raise ConfigError(
            f"{name} must be https: over http the key would travel readable (http is for loopback"
            " only)"
        )
    more = parts.username is not None or parts.query or parts.fragment
    if more or not (path or parts.path in ("", "/")):
        rest = ", port and path" if path else " and port"
        raise ConfigError(f"{name} must hold only scheme, host{rest}")
    return value.rstrip("/")


class Http:
    """Connections to one endpoint, held open between requests; for any number of event loops."""

    def __init__(self, api_key: str, timing: Timing, *, trust_environment: bool) -> None:
        self._open_sessions = lambda: (
            _session(api_key, trust_environment=trust_environment),
            _session(None, trust_environment=True),
        )
        """For the endpoint and for storage."""
        self._sessions, self._process = self._open_sessions(), os.getpid()
        self._timing = timing
        self.threads = Threads()

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    async def send(
        self,
        request: Request,
        deadline: float | None = None,
        interrupted: Callable[[Awaitable[Any]], Awaitable[None]] | None = None,
    ) -> Any:
        """What the request's reply is read as, after `MAX_RETRIES` retries at most. No retry starts
        after the deadline, on the timing's clock. `interrupted` cleans up: it is given the reply to
        come when a cancel strikes while the request is in flight."""
        import asyncio

        attempt = 0
        while True:
            limit = request.limit_seconds
            if deadline is not None:
                remaining = deadline - self._timing.clock()
                limit = min(limit, max(LAST_TIMEOUT_SECONDS, remaining))
            limited = replace(request, limit_seconds=limit)
            future = self.threads.start(partial(self.exchange, limited))
            reply = asyncio.wrap_future(future)
            reply.add_done_callback(retrieve)
            try:
                # Not wait_for: before Python 3.12 it forgets a cancel that comes with the reply.
                await asyncio.wait({reply}, timeout=limit + _GRACE_SECONDS)
            except BaseException:
                is_in_flight = not (request.withdrawn and future.cancel())
                if interrupted is not None and is_in_flight:
                    await interrupted(reply)
                raise
            try:
                if not reply.done():
                    if request.withdrawn:
                        future.cancel()
                    raise _too_slow(limited)
                return reply.result()
            except (APIConnectionError, APIError) as error:
                pause = retry_seconds(error, attempt, request.retries, self._timing, deadline)
                if pause is None:
                    raise
                _log.debug("%s; retry %d in %.2f s", error, attempt + 1, pause)
            await self._timing.async_sleep(pause)
            attempt += 1

    def exchange(self, request: Request) -> Any:
        """Sends the request and reads the reply. Blocks. Raises APIConnectionError: there was none,
        or not a whole one; or what `request.read` makes of it."""
        import requests

        if self._process != os.getpid():  # a forked one would share its parent's connections
            self._sessions, self._process = self._open_sessions(), os.getpid()
        limit = request.limit_seconds
        try:
            with self._sessions[0 if request.to_endpoint else 1].request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                timeout=(min(CONNECT_TIMEOUT_SECONDS, limit), min(READ_TIMEOUT_SECONDS, limit)),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _bounded(response, request)
        except requests.RequestException as error:
            raise _connection_error(error, request) from None
        return request.read(
            Answer(response.status_code, response.reason or "", response.headers, body)
        )


def _bounded(response: requests.Response, request: Request) -> bytes:
    end = time.monotonic() + request.limit_seconds
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > request.max_bytes:
            problem = f"{request.what}: more than {request.max_bytes} bytes of answer"
            raise APIConnectionError(problem, may_have_arrived=True)
        if time.monotonic() > end:
            raise _too_slow(request)
    return b"".join(pieces)


def _too_slow(request: Request) -> APIConnectionError:
    return APIConnectionError(
        f"{request.what}: no whole answer within {request.limit_seconds:.3g} s; the request may"
        " have been taken all the same",
        may_have_arrived=True,
    )


def _session(api_key: str | None, *, trust_environment: bool) -> requests.Session:
    """A session that sends the key; None is for storage, whose URLs hold all that it asks for."""
    from http.cookiejar import DefaultCookiePolicy
    from importlib.metadata import version

    import requests  # here, because it doubles the time that importing this package takes
    from requests.adapters import HTTPAdapter

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if api_key is not None:
            request.headers["Authorization"] = f"Bearer {api_key}"
        return request

    session = requests.Session()
    # without one, requests sends the host what ~/.netrc has for it, even in place of a header
    session.auth = authorize
    session.headers["User-Agent"] = f"gpu-worker-client/{version('gpu-worker-client')}"
    if api_key is not None:
        session.headers["Accept"] = "application/json"
    session.trust_env = trust_environment
    # nothing is shared between threads
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return session


def _connection_error(error: requests.RequestException, request: Request) -> APIConnectionError:
    import requests

    arrived = not _never_sent(error)
    host = f" from {urlsplit(request.url).netloc}" if request.to_endpoint else ""
    note = "; check GPU_WORKER_BASE_URL" if request.to_endpoint else ""
    if arrived:
        note = "; the endpoint may have taken the request all the same"
    # The class of the failure and its cause in words; the rest of the text holds addresses and
    # URLs.
    cause = _CAUSE.search(redact(str(error)))
    reason = type(error).__name__ + (f": {cause.group(0).strip()}" if cause else "")
    # A certificate that is not trusted, or a proxy setting that is no URL (a ValueError), is the
    # same at the next attempt.
    transient = not isinstance(error, requests.exceptions.SSLError | ValueError)
    message = f"{request.what}: no answer{host} ({reason}){note}"
    return APIConnectionError(message, may_have_arrived=arrived, transient=transient)


def _never_sent(error: requests.RequestException) -> bool:
    """Whether no byte of the request left: the connection was not made."""
    from requests import ConnectTimeout, exceptions
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    if isinstance(error, ConnectTimeout | exceptions.SSLError | exceptions.ProxyError):
        return True
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


_CAUSE = re.compile(
    r"Tunnel connection failed: \d{3}[ \w]*|\[Errno [-\d]+\][^)'\"]*|[Rr]ead timed out"
    r"|certificate verify failed|reset by peer|closed connection"
)
