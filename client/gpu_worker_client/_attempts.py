"""A request with its retries, as a flow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from gpu_worker_client._flow import Flow, Send, Sleep
from gpu_worker_client._http import Request
from gpu_worker_client._retry import (
    MAX_RETRIES,
    RETRY_AFTER_CAP_SECONDS,
    Retries,
    backoff_seconds,
    should_retry,
)
from gpu_worker_client._timing import Timing
from gpu_worker_client.errors import APIConnectionError, APIError

_log = logging.getLogger("gpu_worker_client")


def attempts(
    request: Callable[[], Request],
    timing: Timing,
    *,
    retries: Retries,
    deadline: float | None,
    interrupted: Callable[[Send], Flow[None]] | None = None,
) -> Flow[Any]:
    """What the request's reply is read as, after `MAX_RETRIES` retries at most. No retry starts
    after the deadline.

    Args:
        request: made anew for each attempt, as its time limit shrinks.
        retries: which failures are retried.
        deadline: on the timing's clock; None is never.
        interrupted: cleans up when something other than the request's own failure ends it in
            flight.
    """
    for attempt in range(MAX_RETRIES + 1):
        send = Send(request())
        try:
            return (yield send)
        except (APIConnectionError, APIError) as error:
            pause = _pause_seconds(error, attempt, retries, deadline, timing)
            if pause is None:
                raise
            _log.debug("%s; retry %d in %.2f s", error, attempt + 1, pause)
        except BaseException:
            if interrupted is not None:
                yield from interrupted(send)
            raise
        yield Sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _pause_seconds(
    error: APIConnectionError | APIError,
    attempt: int,
    retries: Retries,
    deadline: float | None,
    timing: Timing,
) -> float | None:
    """Seconds until the next attempt; None when there shall be none."""
    if attempt >= MAX_RETRIES or not should_retry(error, retries):
        return None
    asked = error.retry_after_seconds if isinstance(error, APIError) else None
    if asked is not None and asked > RETRY_AFTER_CAP_SECONDS:
        return None
    pause = backoff_seconds(attempt, asked, timing.random())
    return None if deadline is not None and timing.clock() + pause >= deadline else pause
