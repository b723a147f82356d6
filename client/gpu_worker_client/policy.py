"""How long a job may wait and run: RunPod's `policy`, given or computed from the estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.estimate import MAX_POLICY_SECONDS, execution_timeout_seconds
from gpu_worker_client.protocol import TaskBase

MIN_EXECUTION_SECONDS = 5
MIN_TTL_SECONDS = 10
"""RunPod's least values of a request's policy.
https://docs.runpod.io/serverless/endpoints/send-requests"""
QUEUE_SECONDS = 24 * 3600
"""How long a job may wait besides the time it may run: RunPod's default for both together."""
UNKNOWN_INPUT_SECONDS = {
    "upscale": 12 * 3600,
    "track": 4 * 3600,
    "auto_crop": 4 * 3600,
    "render": 4 * 3600,
    "selftest": 600,
}
"""Longest run by task when nothing is known of its input; an hour for any other task. Upscaling is
the slowest: on one card an hour of 720p in some ten hours."""


@dataclass(frozen=True)
class Policy:
    """How long a job may wait and run. None leaves the endpoint's own setting."""

    execution_timeout_seconds: float | None = None
    """Longest run on the worker, 5 s to 7 days. RunPod's default: 10 minutes."""
    ttl_seconds: float | None = None
    """Longest life from submit, queue included, 10 s to 7 days; then even a running job is deleted.
    RunPod's default: 24 h."""
    low_priority: bool = False
    """Do not start more workers for this job."""

    @classmethod
    def for_task(
        cls,
        task: TaskBase | Mapping[str, Any],
        duration_seconds: float | None = None,
        *,
        width: int = 1920,
        height: int = 1080,
        fps: float = 30.0,
    ) -> Policy:
        """Generous limits for a task: three times what the slowest device is estimated to take, and
        a day in the queue; `UNKNOWN_INPUT_SECONDS` where the duration of the input is not known.
        `submit` and `run` take this one when none is given. Raises ConfigError: a number that no
        video has, or no such task.
        """
        seconds = execution_timeout_seconds(
            task, duration_seconds, width=width, height=height, fps=fps
        )
        if seconds is None:
            name = task.task if isinstance(task, TaskBase) else str(task.get("task"))
            seconds = UNKNOWN_INPUT_SECONDS.get(name, 3600)
        return cls(
            execution_timeout_seconds=seconds,
            ttl_seconds=min(MAX_POLICY_SECONDS, seconds + QUEUE_SECONDS),
        )

    def to_wire(self) -> dict[str, int | bool]:
        """RunPod's object, in milliseconds. Raises ConfigError: a value is out of bounds."""
        wire: dict[str, int | bool] = {"lowPriority": True} if self.low_priority else {}
        for name, field, least in (
            ("executionTimeout", "execution_timeout_seconds", MIN_EXECUTION_SECONDS),
            ("ttl", "ttl_seconds", MIN_TTL_SECONDS),
        ):
            seconds = getattr(self, field)
            if seconds is not None and not least <= seconds <= MAX_POLICY_SECONDS:
                raise ConfigError(f"{field} must be {least} to {MAX_POLICY_SECONDS} (7 days)")
            if seconds is not None:
                wire[name] = round(seconds * 1000)
        return wire


def checked_policy(policy: object) -> Policy | None:
    """Raises ConfigError: a value is out of bounds, or it is neither a `Policy` nor None."""
    if policy is not None and not isinstance(policy, Policy):
        example = "Policy(execution_timeout_seconds=3600, ttl_seconds=7200)"
        raise ConfigError(f"policy must be a Policy: {example} for example")
    if policy is not None:
        policy.to_wire()
    return policy
