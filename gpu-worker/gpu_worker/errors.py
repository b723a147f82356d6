"""From whatever went wrong to the one form RunPod accepts: `{"error": "<compact JSON>"}`, typed,
without a secret."""

from __future__ import annotations

import logging
from typing import Any

from gpu_worker_client.protocol import ErrorCode
from gpu_worker_processors.engine.errors import as_task_error
from gpu_worker_processors.redact import scrub

logger = logging.getLogger(__name__)

REFRESH = frozenset({ErrorCode.gpu_oom})
"""Errors after which the GPU's context may be broken: RunPod is asked to replace the worker."""


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
