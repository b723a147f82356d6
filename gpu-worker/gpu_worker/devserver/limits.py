"""The numbers of RunPod's queue-based endpoints, and the `policy` of a request read against them.

Sources: docs.runpod.io, "Operation reference" and "Send API requests". Each is a field so that a
test can shrink it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEGABYTE = 1024 * 1024
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class PlatformLimits:
    run_payload_bytes: int = 10 * MEGABYTE
    """Largest /run body, and largest result of such a job."""
    runsync_payload_bytes: int = 20 * MEGABYTE
    stream_chunk_bytes: int = MEGABYTE
    """Most stream output in one /stream answer; the rest comes with the next."""
    run_retention_seconds: float = 30 * 60.0
    """How long a finished /run job can be asked for; 404 afterwards."""
    runsync_retention_seconds: float = 60.0
    runsync_wait_seconds: float = 90.0
    """How long /runsync waits for the job unless `?wait=` says otherwise."""
    runsync_wait_range_seconds: tuple[float, float] = (1.0, 300.0)
    execution_timeout_seconds: float = 600.0
    """Default of `policy.executionTimeout`; counts from the moment a worker takes the job."""
    execution_timeout_range_seconds: tuple[float, float] = (5.0, 7 * DAY_SECONDS)
    ttl_seconds: float = DAY_SECONDS
    """Default of `policy.ttl`; counts from submission and deletes even a running job."""
    ttl_range_seconds: tuple[float, float] = (10.0, 7 * DAY_SECONDS)
    lost_worker_seconds: float = 30.0
    """Silence of a worker after which its jobs go back to the queue. RunPod publishes no figure;
    workers ping every 10 s."""
    webhook_retries: int = 2
    webhook_retry_seconds: float = 10.0
    rate_limited: bool = False
    """Whether the per-operation request limits below answer 429."""


RATE_LIMITS = {
    "run": 1000,
    "runsync": 2000,
    "status": 2000,
    "stream": 2000,
    "cancel": 100,
    "purge-queue": 2,
}
"""Requests per `RATE_WINDOW_SECONDS` and operation, the documented base."""
RATE_WINDOW_SECONDS = 10.0


class PolicyError(ValueError):
    """A `policy` that the platform refuses with 400."""


@dataclass(frozen=True)
class Policy:
    execution_timeout_seconds: float
    ttl_seconds: float

    @classmethod
    def parse(cls, policy: Mapping[str, Any], limits: PlatformLimits) -> Policy:
        """Reads `executionTimeout` and `ttl` (milliseconds on the wire); other keys are the
        scheduler's and are ignored."""
        return cls(
            _seconds(
                policy,
                "executionTimeout",
                limits.execution_timeout_seconds,
                limits.execution_timeout_range_seconds,
            ),
            _seconds(policy, "ttl", limits.ttl_seconds, limits.ttl_range_seconds),
        )


def _seconds(
    policy: Mapping[str, Any], name: str, default: float, allowed: tuple[float, float]
) -> float:
    value = policy.get(name)
    if value is None:
        return default
    low, high = allowed
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not low <= value / 1000 <= high
    ):
        raise PolicyError(
            f"policy.{name} must be {low * 1000:.0f} to {high * 1000:.0f} milliseconds"
        )
    return value / 1000
