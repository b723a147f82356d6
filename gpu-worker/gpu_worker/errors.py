"""From whatever went wrong to the one form RunPod accepts: `{"error": "<compact JSON>"}`, typed, without a secret."""

from __future__ import annotations

import errno
import logging
import uuid
from typing import Any

from gpu_worker.redact import scrub
from gpu_worker_client.protocol import ErrorCode, TaskError

logger = logging.getLogger(__name__)

REFRESH = frozenset({ErrorCode.gpu_oom})
"""Errors after which the GPU's context may be broken: RunPod is asked to replace the worker."""

_BY_ERRNO = {
    errno.ENOSPC: (ErrorCode.disk_full, "the worker's disk is full; retry on a worker with more disk"),
    errno.EDQUOT: (ErrorCode.disk_full, "the worker's disk quota is used up; retry on a worker with more disk"),
    errno.ENOMEM: (ErrorCode.resource_exhausted, "the worker ran out of memory; retry on a larger one"),
}


def failure_answer(error: BaseException) -> dict[str, Any]:
    """The answer for a failed job.

    Args:
        error: whatever was raised; see `as_task_error`.
    """
    typed = as_task_error(error)
    body = typed.body()
    answer: dict[str, Any] = {"error": scrub(body.to_wire())}
    if typed.code in REFRESH:
        answer["refresh_worker"] = True
    logger.info("job failed: %s at %s", body.code, body.stage or "validate")
    return answer


def as_task_error(error: BaseException) -> TaskError:
    """The typed form of whatever was raised. What is neither a `TaskError` nor a known `OSError` is a bug: the caller gets an
    incident number, the log gets the traceback."""
    if isinstance(error, TaskError):
        return error
    if isinstance(error, MemoryError):
        return TaskError(*_BY_ERRNO[errno.ENOMEM])
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return TaskError(*_BY_ERRNO[error.errno])
    incident = uuid.uuid4().hex[:12]
    logger.error("incident %s", incident, exc_info=error)
    return TaskError(
        ErrorCode.internal, f"an internal error; the worker's log has it as incident {incident}", incident=incident
    )
