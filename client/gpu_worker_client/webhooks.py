"""Signed events of jobs that have ended, after the Standard Webhooks specification 1.0
(https://www.standardwebhooks.com).

The worker signs with `sign`, a receiver verifies with `unwrap`: both stand here so that they cannot
differ. A request has `webhook-id` (the same at every attempt, so a receiver can drop what it
has seen), `webhook-timestamp` (Unix seconds of the attempt) and `webhook-signature` (one or more
`v1,<base64>`, separated by blanks). A signature is the HMAC-SHA256 of `id.timestamp.body`; its key
stands as base64 in the secret, `whsec_<base64>`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from gpu_worker_client.errors import ConfigError, WebhookError
from gpu_worker_client.protocol import State, TaskResult
from gpu_worker_client.protocol.errors import JobError, job_error
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_client.protocol.registry import result_model
from gpu_worker_client.protocol.result import WebhookBody

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = HEADERS
SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins, not one
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
"""Size of a key, the specification's bounds."""
TOLERANCE_SECONDS = 300.0
"""How far an event's timestamp may lie from now, as in the specification's own libraries."""
MAX_SIGNATURES = 16
"""Signatures that `unwrap` reads of a request: the worker gives one for each of its secrets, of
which a change needs two."""

_VERSION = "v1"


@dataclass(frozen=True)
class WebhookEvent:
    """One verified event."""

    id: str
    """The same each time the event is sent; keep it for five minutes to drop a repetition."""
    type: str
    """"job.completed" or "job.failed"; a newer worker may have more."""
    sent_at: datetime
    """UTC, when this attempt was signed."""
    ended_at: datetime
    """UTC, when the job ended."""
    job_id: str
    """`Client.job(event.job_id)` is the job."""
    task: str
    """Name of the task that was run."""
    state: State
    """`completed` or `failed`."""
    idempotency_key: str | None = None
    """The task's own."""
    result: TaskResult | None = None
    """The typed result of a completed job; no URL in it has a query."""
    partial: bool = False
    """The result was too large for an event, and `result` holds what every task's has: take the
    whole by `Client.job(event.job_id).result()`."""
    error: JobError | None = None
    """Why the job failed, as `Job.result()` would raise it."""


def webhook_key(secret: str) -> bytes:
    """The key in a secret. Raises ConfigError: it is no `whsec_` with base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX).encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ConfigError(
            f"a webhook secret is {SECRET_PREFIX} and the base64 of {MIN_KEY_BYTES} to"
            f" {MAX_KEY_BYTES} bytes"
        )
    return key


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, `v1,<base64>`, with the key that `webhook_key` gives, over the values of the
    headers and the request's body, byte for byte."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def unwrap(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: datetime | None = None,
) -> WebhookEvent:
    """The event in a webhook's request, after its signature was verified in constant time.

    Args:
        body: the request's body as it came; JSON that was parsed and written again has another
            signature.
        headers: the request's headers; case makes no difference.
        secret: the worker's `whsec_...`, or several while it is being changed: one that fits is
            enough.
        tolerance_seconds: how far the event's timestamp may lie from now, to both sides.
        now: aware; None is now.

    Raises:
        WebhookError: the request is not the worker's, is too old or too early, or holds no event.
            Answer it with 400.
        ConfigError: a secret is none.
    """
    keys = [webhook_key(text) for text in ([secret] if isinstance(secret, str) else secret)]
    raw = _encoded(body, "the body") if isinstance(body, str) else body
    message_id, timestamp, signatures = _read_headers(headers)
    moment = now or datetime.now(timezone.utc)
    if abs(moment.timestamp() - timestamp) > tolerance_seconds:
        raise WebhookError(
            f"the event's timestamp is more than {tolerance_seconds:g} s from this machine's time"
        )
    given = [text.encode() for text in signatures.split() if text.startswith(f"{_VERSION},")]
    if len(given) > MAX_SIGNATURES:
        raise WebhookError(f"the request has more than {MAX_SIGNATURES} signatures")
    expected = [sign(key, message_id, timestamp, raw).encode() for key in keys]
    # No early end: how long it takes tells nothing about which of them fits.
    matches = [hmac.compare_digest(mine, one) for mine in expected for one in given]
    if not any(matches):
        raise WebhookError("no signature of the request fits the secret and the body")
    return _event(raw, message_id, timestamp)


def _read_headers(headers: Mapping[str, str]) -> tuple[str, int, str]:
    named = {name.lower(): value for name, value in headers.items()}
    if missing := [name for name in HEADERS if not named.get(name)]:
        raise WebhookError(f"the request has no header {', '.join(missing)}")
    for name in HEADERS:
        _encoded(named[name], name)
    timestamp = parse_integer(named[TIMESTAMP_HEADER], most=10**12)
    if timestamp is None:
        raise WebhookError(f"{TIMESTAMP_HEADER} is no number of seconds")
    return named[ID_HEADER], timestamp, named[SIGNATURE_HEADER]


def _encoded(text: object, what: str) -> bytes:
    """UTF-8 of a web framework's text, which may be bytes, or hold lone surrogates for some."""
    try:
        if isinstance(text, str):
            return text.encode()
    except UnicodeEncodeError:
        pass
    raise WebhookError(f"{what} of the request is no text")


def _event(raw: bytes, message_id: str, timestamp: int) -> WebhookEvent:
    try:
        body = WebhookBody.model_validate_json(raw)
        data = body.data
        kind = TaskResult if data.partial else result_model(data.task)
        result = None if data.result is None else kind.model_validate(data.result)
    except ValueError:  # pydantic's ValidationError too, whose text quotes the body
        problem = "the request is signed, but its body is no event of this worker"
        raise WebhookError(problem) from None
    return WebhookEvent(
        id=message_id,
        type=body.type,
        sent_at=datetime.fromtimestamp(timestamp, timezone.utc),
        ended_at=body.timestamp,
        job_id=data.job_id,
        task=data.task,
        state=data.state,
        idempotency_key=data.idempotency_key,
        result=result,
        partial=data.partial,
        error=None if data.error is None else job_error(data.error),
    )
