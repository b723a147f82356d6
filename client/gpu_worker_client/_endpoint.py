"""The only file that speaks RunPod's HTTP API: paths, time limits, retries, and the map from
answers to errors.

It accepts plain JSON values and hands back the endpoint's JSON object; what the values mean is the
business of `job.py`. It guarantees that a request is retried only when that cannot start a job
twice, that no retry starts after the deadline, and that no error text holds a key or a signature.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from gpu_worker_client._attempts import attempts
from gpu_worker_client._flow import Finish, Flow, Send
from gpu_worker_client._http import MAX_ANSWER_BYTES, TOTAL_SECONDS, Reply, Request
from gpu_worker_client._retry import Retries, parse_retry_after
from gpu_worker_client._timing import Timing
from gpu_worker_client.errors import (
    APIError,
    AuthenticationError,
    ConfigError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    ServerError,
)
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.protocol.text import printable, redact

DEFAULT_BASE_URL = "https://api.runpod.ai/v2"
LAST_TIMEOUT_SECONDS = 2.0
"""A request made at the deadline still gets this long: a last look that cannot be answered would be
none."""
LAST_CANCEL_SECONDS = 10.0
"""Longest that the end of the time, Ctrl-C or another way out is held up by cancelling the job."""
BODY_EXCERPT_BYTES = 500

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_log = logging.getLogger("gpu_worker_client")


def check_api_key(value: str) -> str:
    """`value`, when a header can hold it."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError("api_key must be printable ASCII without spaces")
    return value


def check_id(value: str, what: str) -> str:
    """`value`, when it can stand in a URL's path as it is."""
    if _ID.fullmatch(value) is None:
        raise ConfigError(f"{what} must be 1 to 128 letters, digits, '.', '_' or '-'")
    return value


def check_base_url(value: str) -> str:
    """`value` without a closing slash, when it is an https URL (http on loopback) of nothing but
    scheme, host and path."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("base_url is not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError(f"base_url must be an https URL such as {DEFAULT_BASE_URL}")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ConfigError(
            "base_url must be https: over http the API key would travel readable (http is for"
            " loopback only)"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("base_url must hold only scheme, host, port and path")
    return value.rstrip("/")


class Endpoint:
    """One serverless endpoint. Its calls are flows: generators of the steps to take, for a driver.

    Args:
        endpoint_id: as RunPod shows it.
        base_url: RunPod's, or a dev-server's on loopback.
        timing: clock and random numbers.
    """

    def __init__(self, endpoint_id: str, base_url: str, timing: Timing) -> None:
        self.id = check_id(endpoint_id, "endpoint_id")
        self.base_url = check_base_url(base_url)
        self.timing = timing

    @property
    def on_loopback(self) -> bool:
        return urlsplit(self.base_url).hostname in _LOOPBACK

    def submit(
        self,
        body: Mapping[str, Any],
        *,
        repeatable: bool,
        deadline: float | None = None,
        wait_seconds: float | None = None,
    ) -> Flow[dict[str, Any]]:
        """`POST /run`, or `POST /runsync` that is answered when the job has ended or `wait_seconds`
        have passed.

        `repeatable` says that a second job from the same body does no harm (the task has an
        idempotency key); without it only what the endpoint certainly did not take is sent again.
        When the request is interrupted in flight, its answer is waited for, as only that names the
        job, and the job is cancelled.
        """
        path = "run" if wait_seconds is None else f"runsync?wait={round(wait_seconds * 1000)}"
        try:
            data = json.dumps(body, allow_nan=False).encode()
        except ValueError:
            raise ConfigError(
                "the request is not plain JSON (finite numbers, valid text)"
            ) from None
        retries: Retries = "any" if repeatable else "not_accepted"
        return (
            yield from self._call(
                "POST", path, data, retries=retries, deadline=deadline, interrupted=self._take_back
            )
        )

    def status(
        self, job_id: str, *, retries: Retries = "any", deadline: float | None = None
    ) -> Flow[dict[str, Any]]:
        """`GET /status/{id}`."""
        return self._call(
            "GET", f"status/{check_id(job_id, 'job id')}", retries=retries, deadline=deadline
        )

    def cancel(self, job_id: str, *, deadline: float | None = None) -> Flow[dict[str, Any]]:
        """`POST /cancel/{id}`. Cancelling twice is cancelling once."""
        path = f"cancel/{check_id(job_id, 'job id')}"
        return self._call("POST", path, retries="any", deadline=deadline, withdrawn=False)

    def health(
        self, *, retries: Retries = "any", deadline: float | None = None
    ) -> Flow[dict[str, Any]]:
        """`GET /health`: counts of jobs and workers by state."""
        return self._call("GET", "health", retries=retries, deadline=deadline)

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        retries: Retries,
        deadline: float | None,
        interrupted: Callable[[Send], Flow[None]] | None = None,
        withdrawn: bool = True,
    ) -> Flow[dict[str, Any]]:
        request = partial(self._request, method, path, body, deadline, withdrawn)
        return attempts(
            request, self.timing, retries=retries, deadline=deadline, interrupted=interrupted
        )

    def _take_back(self, send: Send) -> Flow[None]:
        """Cancels the job that a request in flight may have queued."""
        deadline = self.timing.clock() + LAST_CANCEL_SECONDS
        try:
            answer = yield Finish(send, LAST_CANCEL_SECONDS)
            yield from self.cancel(job_id_of(answer), deadline=deadline)
        except GpuWorkerError as error:
            _log.warning(
                "interrupted while a job was submitted, and it could not be cancelled: %s", error
            )

    def _request(
        self, method: str, path: str, body: bytes | None, deadline: float | None, withdrawn: bool
    ) -> Request:
        limit = TOTAL_SECONDS
        if deadline is not None:
            limit = min(limit, max(LAST_TIMEOUT_SECONDS, deadline - self.timing.clock()))
        what = f"{method} {path.partition('?')[0]}"
        return Request(
            method,
            f"{self.base_url}/{self.id}/{path}",
            what,
            partial(self._read, what),
            body=body,
            headers={} if body is None else {"Content-Type": "application/json"},
            limit_seconds=limit,
            max_bytes=MAX_ANSWER_BYTES,
            withdrawn=withdrawn,
        )

    def _read(self, what: str, reply: Reply) -> dict[str, Any]:
        return _read(reply, what, self.timing.now())


def job_id_of(answer: Mapping[str, Any]) -> str:
    """The id of the job that a submit's answer names."""
    job_id = answer.get("id")
    if not isinstance(job_id, str):
        raise APIError("POST run: the answer names no job", status=200)
    return check_id(job_id, "the endpoint's job id")


_STATUS_ERRORS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    413: PayloadTooLargeError,
    429: RateLimitError,
}


def _read(reply: Reply, what: str, now: datetime) -> dict[str, Any]:
    """The JSON object of a good answer, or the error of another one."""
    status = reply.status
    fields: dict[str, Any] = {
        "status": status,
        "request_id": reply.headers.get("x-request-id") or reply.headers.get("cf-ray"),
        "body": redact(reply.body[:BODY_EXCERPT_BYTES].decode("utf-8", "replace")),
        "retry_after_seconds": parse_retry_after(reply.headers.get("retry-after"), now),
    }
    if 300 <= status < 400:
        raise APIError(
            f"{what}: the endpoint redirects ({status}); redirects are refused, correct base_url",
            **fields,
        )
    if status >= 400:
        kind = _STATUS_ERRORS.get(status, ServerError if status >= 500 else APIError)
        raise kind(
            f"{what}: {status} {printable(reply.reason)}".rstrip() + _HINTS.get(status, ""),
            **fields,
        )
    try:
        data = json.loads(reply.body)
    except (ValueError, RecursionError):
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
