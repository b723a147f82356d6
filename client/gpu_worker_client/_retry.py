"""When a request may be sent again, and how long to wait before: pure functions, so that every rule
is one row of a test. `_http.py` has the loop."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Literal

from gpu_worker_client._timing import Timing
from gpu_worker_client.errors import APIConnectionError, APIError, RateLimitError
from gpu_worker_client.protocol.errors import GpuWorkerError

MAX_RETRIES = 5
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 8.0
"""Base and cap of the full-jitter back-off, as in openai-python's client."""
RETRY_AFTER_CAP_SECONDS = 120.0
"""A longer `Retry-After` is raised to the caller instead of slept."""
TRANSIENT_STATUS = frozenset({200, 408, 425, 429, 500, 502, 503, 504})
"""200 is an error when no JSON object comes with it: something between here and the endpoint
answered."""

Retries = Literal["any", "not_accepted", "none"]
"""`any`: the request may have its effect twice. `not_accepted`: retry only what the endpoint
certainly did not take."""


def should_retry(error: GpuWorkerError, retries: Retries) -> bool:
    """Whether sending the same request again is both safe and of use."""
    if retries == "none":
        return False
    if isinstance(error, APIConnectionError):
        return error.transient and (retries == "any" or not error.may_have_arrived)
    if isinstance(error, RateLimitError):
        return True  # 429 is given before the request is queued
    return isinstance(error, APIError) and error.status in TRANSIENT_STATUS and retries == "any"


def backoff_seconds(attempt: int, retry_after_seconds: float | None, jitter: float) -> float:
    """Seconds to wait after failure number `attempt` (from 0). `jitter` is a random number in [0,
    1)."""
    spread = jitter * min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**attempt)
    return spread if retry_after_seconds is None else retry_after_seconds + spread


def retry_seconds(
    error: GpuWorkerError, attempt: int, retries: Retries, timing: Timing, deadline: float | None
) -> float | None:
    """Seconds until the request is sent again after failure number `attempt` (from 0); None when it
    is not. `deadline` is on the timing's clock."""
    if attempt >= MAX_RETRIES or not should_retry(error, retries):
        return None
    asked = error.retry_after_seconds if isinstance(error, APIError) else None
    if asked is not None and asked > RETRY_AFTER_CAP_SECONDS:
        return None
    pause = backoff_seconds(attempt, asked, timing.random())
    return None if deadline is not None and timing.clock() + pause >= deadline else pause


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for, given in seconds or as a date; None when absent
    or not readable."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:  # RFC 5322: "-0000" names no zone; HTTP dates are GMT
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - now).total_seconds())
