"""The only file that knows RunPod's HTTP API: paths, time limits, retries, and the map from answers
to errors. It makes the requests that `_http.py` sends.

It accepts plain JSON values, and a request is read as the endpoint's JSON object. It guarantees
that a request is sent again only when that cannot start a job twice, that an answer is that of the
job that was asked for, and that no error text holds a key or a signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from gpu_worker_client import errors
from gpu_worker_client._http import (
    MAX_ANSWER_BYTES,
    TOTAL_SECONDS,
    Answer,
    Request,
    check_service_url,
)
from gpu_worker_client._retry import Retries
from gpu_worker_client.errors import APIConnectionError, APIError, ConfigError
from gpu_worker_client.protocol.foreign import printable, redact
from gpu_worker_client.protocol.http import LOOPBACK_HOSTS, retry_after_seconds

DEFAULT_BASE_URL = "https://api.runpod.ai/v2"
LAST_CANCEL_SECONDS = 10.0
"""Longest that the end of the time, Ctrl-C or another way out is held up by cancelling the job."""
BODY_EXCERPT_BYTES = 500

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


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


class Endpoint:
    """One serverless endpoint, and the requests to it.

    Args:
        endpoint_id: as RunPod shows it.
        base_url: RunPod's, or a dev-server's on loopback.
        now: wall time, for `Retry-After` dates.
    """

    def __init__(self, endpoint_id: str, base_url: str, now: Callable[[], datetime]) -> None:
        self.id = check_id(endpoint_id, "endpoint_id")
        self.base_url = check_service_url(base_url, "base_url", DEFAULT_BASE_URL)
        self._now = now

    @property
    def on_loopback(self) -> bool:
        return urlsplit(self.base_url).hostname in LOOPBACK_HOSTS

    def submit(
        self, body: Mapping[str, Any], *, repeatable: bool, wait_seconds: float | None = None
    ) -> Request:
        """`POST /run`, or `POST /runsync` that is answered when the job has ended or `wait_seconds`
        have passed.

        `repeatable` says that a second job from the same body does no harm (it would find the
        first one's result); without it only what the endpoint certainly did not take is sent again.
        """
        path = "run" if wait_seconds is None else f"runsync?wait={round(wait_seconds * 1000)}"
        try:
            data = json.dumps(body, allow_nan=False).encode()
        except ValueError:
            raise ConfigError("the request is not plain JSON (finite numbers)") from None
        retries: Retries = "any" if repeatable else "not_accepted"
        headers = {"Content-Type": "application/json"}
        return self._request("POST", path, retries=retries, body=data, headers=headers)

    def status(self, job_id: str, *, retries: Retries = "any") -> Request:
        """`GET /status/{id}`."""
        return self._request(
            "GET", f"status/{check_id(job_id, 'job id')}", job_id=job_id, retries=retries
        )

    def cancel(self, job_id: str) -> Request:
        """`POST /cancel/{id}`. Cancelling twice is cancelling once."""
        path = f"cancel/{check_id(job_id, 'job id')}"
        return self._request("POST", path, job_id=job_id, withdrawn=False)

    def health(self, *, retries: Retries = "any") -> Request:
        """`GET /health`: counts of jobs and workers by state."""
        return self._request("GET", "health", retries=retries)

    def _request(
        self, method: str, path: str, *, job_id: str | None = None, **fields: Any
    ) -> Request:
        what = f"{method} {path.partition('?')[0]}"
        return Request(
            method,
            f"{self.base_url}/{self.id}/{path}",
            what,
            lambda reply: _read(reply, what, job_id, self._now()),
            limit_seconds=TOTAL_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            **fields,
        )


def job_id_of(answer: Mapping[str, Any]) -> str:
    """The id of the job that a submit's answer names."""
    job_id = answer.get("id")
    if not isinstance(job_id, str):
        raise APIError("POST run: the answer names no job", status=200)
    return check_id(job_id, "the endpoint's job id")


_ERRORS: dict[int, tuple[type[APIError], str]] = {
    401: (errors.AuthenticationError, ": the API key was refused; check RUNPOD_API_KEY"),
    403: (
        errors.AuthenticationError,
        ": the API key has no right to this endpoint; check RUNPOD_API_KEY",
    ),
    404: (
        errors.NotFoundError,
        ": the endpoint or the job is unknown; check GPU_WORKER_ENDPOINT_ID and"
        " GPU_WORKER_BASE_URL",
    ),
    413: (errors.PayloadTooLargeError, ": the task is over the endpoint's limit of 10 MB"),
    429: (errors.RateLimitError, ""),
}
"""Status -> the error, and what its message says of the cause."""


def _read(reply: Answer, what: str, job_id: str | None, now: datetime) -> dict[str, Any]:
    """The JSON object of a good answer, or the error of another one."""
    status = reply.status
    fields: dict[str, Any] = {
        "status": status,
        "request_id": reply.headers.get("x-request-id") or reply.headers.get("cf-ray"),
        "body": redact(reply.body[:BODY_EXCERPT_BYTES].decode("utf-8", "replace")),
        "retry_after_seconds": retry_after_seconds(reply.headers.get("retry-after"), now),
    }
    if 300 <= status < 400:
        raise APIError(
            f"{what}: the endpoint redirects ({status}); redirects are refused, correct base_url",
            **fields,
        )
    if status >= 400:
        kind, cause = _ERRORS.get(status, (errors.ServerError if status >= 500 else APIError, ""))
        raise kind(f"{what}: {status} {printable(reply.reason)}".rstrip() + cause, **fields)
    try:
        data = json.loads(reply.body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise APIError(f"{what}: the answer is not a JSON object; is base_url right?", **fields)
    named = data.get("id")
    if job_id is not None and isinstance(named, str) and named != job_id:
        problem = f"{what}: the answer is that of another job"
        raise APIConnectionError(problem, may_have_arrived=True)
    return data
