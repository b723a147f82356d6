"""The only file that speaks RunPod's HTTP API: paths, headers, time limits, retries, and the map from answers to errors.

It accepts plain JSON values and hands back the endpoint's JSON object; what the values mean is the business of `job.py`. It
guarantees that a request is retried only when that cannot start a job twice, that no retry starts after the deadline, that a
redirect is never followed (it would carry the API key to another host), and that no error text holds a key or a signature.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gpu_worker_client._redact import redact
from gpu_worker_client._retry import (
    MAX_RETRIES,
    RETRY_AFTER_CAP_SECONDS,
    Retries,
    backoff_seconds,
    parse_retry_after,
    should_retry,
)
from gpu_worker_client.exceptions import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ConfigError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    ServerError,
)

if TYPE_CHECKING:
    import requests

DEFAULT_BASE_URL = "https://api.runpod.ai/v2"
CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0
LAST_TIMEOUT_SECONDS = 2.0
"""A request made at the deadline still gets this long: a last look that cannot be answered would be none."""
BODY_EXCERPT_BYTES = 500

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_log = logging.getLogger("gpu_worker_client")


def check_id(value: str, what: str) -> str:
    """`value`, when it can stand in a URL's path as it is."""
    if _ID.fullmatch(value) is None:
        raise ConfigError(f"{what} must be 1 to 128 letters, digits, '.', '_' or '-'")
    return value


def check_base_url(value: str) -> str:
    """`value` without a closing slash, when it is an https URL (http on loopback) of nothing but scheme, host and path."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("base_url is not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError(f"base_url must be an https URL such as {DEFAULT_BASE_URL}")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ConfigError("base_url must be https: over http the API key would travel readable (http is for loopback only)")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("base_url must hold only scheme, host, port and path")
    return value.rstrip("/")


@dataclass(frozen=True)
class Timing:
    """Where time and chance come from; tests put their own in."""

    clock: Callable[[], float] = time.monotonic
    """Seconds, never going back. Deadlines are points on it."""
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    """Wall time, for `Retry-After` dates."""


class Endpoint:
    """One serverless endpoint.

    Args:
        endpoint_id: as RunPod shows it.
        api_key: sent as a bearer token; never part of a text.
        base_url: RunPod's, or a dev-server's on loopback.
        timing: clock, sleep and random numbers.
    """

    def __init__(
        self, endpoint_id: str, api_key: str, *, base_url: str = DEFAULT_BASE_URL, timing: Timing | None = None
    ) -> None:
        self.id = check_id(endpoint_id, "endpoint_id")
        self.base_url = check_base_url(base_url)
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ConfigError("api_key must be printable ASCII without spaces")
        self.timing = timing or Timing()
        # A proxy named by the environment is for the world outside, not for a dev-server on this machine.
        self._session = _session(api_key, trust_environment=urlsplit(base_url).hostname not in _LOOPBACK)

    def __repr__(self) -> str:
        return f"Endpoint({self.id!r}, base_url={self.base_url!r})"

    def close(self) -> None:
        self._session.close()

    def submit(self, body: Mapping[str, Any], *, repeatable: bool, deadline: float | None = None) -> dict[str, Any]:
        """`POST /run`. `repeatable` says that a second job from the same body does no harm (the task has an idempotency key);
        without it only what the endpoint certainly did not take is sent again."""
        return self._call("POST", "run", body, retries="any" if repeatable else "not_accepted", deadline=deadline)

    def status(self, job_id: str, *, retries: Retries = "any", deadline: float | None = None) -> dict[str, Any]:
        """`GET /status/{id}`."""
        return self._call("GET", f"status/{check_id(job_id, 'job id')}", retries=retries, deadline=deadline)

    def cancel(self, job_id: str, *, deadline: float | None = None) -> dict[str, Any]:
        """`POST /cancel/{id}`. Cancelling twice is cancelling once."""
        return self._call("POST", f"cancel/{check_id(job_id, 'job id')}", retries="any", deadline=deadline)

    def health(self) -> dict[str, Any]:
        """`GET /health`: counts of jobs and workers by state."""
        return self._call("GET", "health", retries="any")

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        retries: Retries,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        for attempt in range(MAX_RETRIES + 1):
            try:
                return self._send(method, path, body, deadline)
            except (APIConnectionError, APIError) as error:
                pause = self._pause(error, attempt, retries, deadline)
                if pause is None:
                    raise
                _log.debug("%s %s: %s; retry %d in %.2f s", method, path, error, attempt + 1, pause)
            self.timing.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _pause(
        self, error: APIConnectionError | APIError, attempt: int, retries: Retries, deadline: float | None
    ) -> float | None:
        """Seconds until the next attempt; None when there shall be none."""
        if attempt >= MAX_RETRIES or not should_retry(error, retries):
            return None
        asked = error.retry_after_seconds if isinstance(error, APIError) else None
        if asked is not None and asked > RETRY_AFTER_CAP_SECONDS:
            return None
        pause = backoff_seconds(attempt, asked, self.timing.random())
        return None if deadline is not None and self.timing.clock() + pause >= deadline else pause

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, deadline: float | None) -> dict[str, Any]:
        import requests

        remaining = READ_TIMEOUT_SECONDS if deadline is None else max(LAST_TIMEOUT_SECONDS, deadline - self.timing.clock())
        try:
            response = self._session.request(
                method,
                f"{self.base_url}/{self.id}/{path}",
                data=None if body is None else json.dumps(body, allow_nan=False).encode(),
                headers={} if body is None else {"Content-Type": "application/json"},
                timeout=(min(CONNECT_TIMEOUT_SECONDS, remaining), min(READ_TIMEOUT_SECONDS, remaining)),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise _connection_error(error, f"{method} {path}") from None
        return _read(response, f"{method} {path}", self.timing.now())


def _session(api_key: str, *, trust_environment: bool) -> requests.Session:
    import requests  # here, because it doubles the time that importing this package takes

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {api_key}"
        return request

    session = requests.Session()
    session.auth = bearer  # and not a header: an entry for the host in ~/.netrc would replace it
    session.headers["Accept"] = "application/json"
    session.trust_env = trust_environment
    return session


def _connection_error(error: requests.RequestException, what: str) -> APIConnectionError:
    import requests

    arrived = not _never_sent(error)
    note = "; the endpoint may have taken the request all the same" if arrived else ""
    # A certificate that is not trusted, or a proxy setting that is no URL (a ValueError), is the same at the next attempt.
    transient = not isinstance(error, requests.exceptions.SSLError | ValueError)
    return APIConnectionError(f"{what}: no answer ({_reason(error)}){note}", may_have_arrived=arrived, transient=transient)


def _never_sent(error: requests.RequestException) -> bool:
    """Whether no byte of the request left: the connection was not made."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return True
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


_CAUSE = re.compile(r"\[Errno [-\d]+\][^)'\"]*|[Rr]ead timed out|certificate verify failed|reset by peer|closed connection")


def _reason(error: requests.RequestException) -> str:
    """The class of the failure and its cause in words; the rest of the text holds addresses and URLs."""
    cause = _CAUSE.search(redact(str(error)))
    return f"{type(error).__name__}: {cause.group(0).strip()}" if cause else type(error).__name__


_STATUS_ERRORS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    413: PayloadTooLargeError,
    429: RateLimitError,
}


def _read(response: requests.Response, what: str, now: datetime) -> dict[str, Any]:
    """The JSON object of a good answer, or the error of another one."""
    status = response.status_code
    fields: dict[str, Any] = {
        "status": status,
        "request_id": response.headers.get("x-request-id") or response.headers.get("cf-ray"),
        # Not response.text: that guesses the charset from the whole of a ten-megabyte result.
        "body": redact(response.content[:BODY_EXCERPT_BYTES].decode("utf-8", "replace")),
        "retry_after_seconds": parse_retry_after(response.headers.get("retry-after"), now),
    }
    if 300 <= status < 400:
        raise APIError(f"{what}: the endpoint redirects ({status}); redirects are refused, correct base_url", **fields)
    if status >= 400:
        kind = _STATUS_ERRORS.get(status, ServerError if status >= 500 else APIError)
        raise kind(f"{what}: {status} {response.reason or ''}".rstrip() + _HINTS.get(status, ""), **fields)
    try:
        data = response.json()
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise APIError(f"{what}: the answer is not a JSON object; is base_url right?", **fields)
    return data


_HINTS = {
    401: ": the API key was refused",
    403: ": the API key has no right to this endpoint",
    404: ": the endpoint or the job is unknown",
    413: ": the task is over the endpoint's limit of 10 MB",
}
