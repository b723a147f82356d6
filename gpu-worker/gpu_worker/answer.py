"""The answer of a completed job: the processor's result plus what only the worker knows, proven to
be JSON and small enough."""

from __future__ import annotations

from typing import Any

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import (
    TASKS,
    ErrorCode,
    TaskError,
)
from gpu_worker_client.protocol.result import PackedTooMany
from gpu_worker_processors.results import AnswerLimits, fit_answer

PLATFORM_KEYS = frozenset({"error", "refresh_worker"})
"""What RunPod's SDK acts on in an answer."""


def answer_limits(settings: Settings) -> AnswerLimits:
    """What RunPod carries."""
    return AnswerLimits(settings.inline_result_bytes, settings.max_answer_bytes)


def reused_answer(
    payload: bytes | None,
    task: str,
    key: str | None,
    settings: Settings,
    max_packed: int | None = None,
) -> dict[str, Any] | None:
    """An earlier result's answer when `payload` is one of the same task and key, None when the work
    is to be done.

    Raises:
        PackedTooMany: as `TaskResult.from_json`.
        TaskError: as `fit_answer`.
    """
    try:
        found = TASKS[task].result.from_json(payload, max_packed) if payload else None
    except PackedTooMany:
        raise
    except ValueError:
        return None  # an unfinished or foreign object at that key is no result
    if (
        found is None
        or found.status != "completed"
        or found.task != task
        or found.idempotency_key != key
    ):
        return None
    try:
        again = found.model_copy(update={"deduplicated": True})
        stored = bool(found.result_url)
        answer = fit_answer(again, answer_limits(settings), stored=stored).answer
    except TaskError as error:
        if error.code is ErrorCode.output_invalid:
            return None
        raise
    # The object is the caller's to write: it must not fail the job or end the worker.
    return {name: value for name, value in answer.items() if name not in PLATFORM_KEYS}
