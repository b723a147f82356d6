"""The answer of a completed job: the processor's result plus what only the worker knows, proven to
be JSON and small enough."""

from __future__ import annotations

import json
from typing import Any

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import (
    TASKS,
    ErrorCode,
    TaskError,
    TaskResult,
)
from gpu_worker_processors.results import encoded, summary, whole_answer

PLATFORM_KEYS = frozenset({"error", "refresh_worker"})
"""What RunPod's SDK acts on in an answer."""


def is_large(result: TaskResult, settings: Settings) -> bool:
    """Whether the result is over the inline limit."""
    return whole_answer(result, settings.inline_result_bytes) is None


def fit_answer(result: TaskResult, settings: Settings) -> dict[str, Any]:
    """The answer to send: the whole result while it is small; else its summary when it is safe at
    `result_url`; else the whole result again, packed if its task has a compact form.

    Raises:
        TaskError: `result_too_large` when even that is over what RunPod carries; `output_invalid`
            as `encoded`.
    """
    small = whole_answer(result, min(settings.inline_result_bytes, settings.max_answer_bytes))
    if small is not None:
        return small
    if result.result_url:
        short = summary(result, result.result_url)
        size = len(json.dumps(short, ensure_ascii=False).encode())
        if size <= settings.max_answer_bytes:
            return short
        raise TaskError(
            ErrorCode.output_invalid,
            f"even the summary of the result has {size} bytes; please report it",
        )
    try:
        packed = result.packed()
    except ValueError as error:
        raise TaskError(
            ErrorCode.output_invalid, "the result holds a number out of range; please report it"
        ) from error
    answer = whole_answer(packed, settings.max_answer_bytes)
    if answer is None:
        size = sum(map(len, encoded(packed)))
        raise TaskError(
            ErrorCode.result_too_large,
            f"the result has {size} bytes and an answer carries {settings.max_answer_bytes}; give a"
            " result_url (presigned PUT)",
            size=size,
            limit=settings.max_answer_bytes,
        )
    return answer


def reused_answer(
    payload: bytes | None, task: str, key: str | None, settings: Settings
) -> dict[str, Any] | None:
    """An earlier result's answer when `payload` is one of the same task and key, None when the work
    is to be done.

    Raises:
        TaskError: as `fit_answer`.
    """
    try:
        found = TASKS[task].result.from_json(payload) if payload else None
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
        answer = fit_answer(found.model_copy(update={"deduplicated": True}), settings)
    except TaskError as error:
        if error.code is ErrorCode.output_invalid:
            return None
        raise
    # The object is the caller's to write: it must not fail the job or end the worker.
    return {name: value for name, value in answer.items() if name not in PLATFORM_KEYS}
