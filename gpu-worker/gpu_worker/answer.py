"""The answer of a completed job: the processor's result plus what only the worker knows, proven to be JSON and small enough."""

from __future__ import annotations

import json
from typing import Any

from gpu_worker import __version__
from gpu_worker.engine import EngineAnswer
from gpu_worker.settings import Settings
from gpu_worker.transfer.deliver import Delivered
from gpu_worker.transfer.urls import TaskUrls
from gpu_worker_client.protocol import TASKS, Cost, ErrorCode, TaskBase, TaskError, Timings, WorkerInfo

KEPT_LISTS = frozenset({"warnings", "output_parts"})
"""Lists that an answer keeps when the rest of a large result is at `result_url`: short, and needed to act on the answer."""

PLATFORM_KEYS = frozenset({"error", "refresh_worker"})
"""What RunPod's SDK acts on in an answer."""


def complete_answer(
    task: TaskBase, urls: TaskUrls, answer: EngineAnswer, delivered: Delivered | None, timings: Timings, settings: Settings
) -> dict[str, Any]:
    """The whole result as JSON values.

    Raises:
        TaskError: `output_invalid` when a value of it is not finite or not JSON: a bug, found before it is sent.
    """
    result = TASKS[task.task].result.model_validate(answer.result)
    seconds = answer.seconds
    price = settings.prices.get(answer.gpu) if answer.gpu else None
    worker = result.worker
    whole = result.model_copy(
        update={
            "output_url": str(urls.output.location) if urls.output else None,
            "output_parts": delivered.parts if delivered else None,
            "result_url": str(urls.result.location) if urls.result else None,
            "idempotency_key": task.idempotency_key,
            "timings": timings,
            "cost": Cost(
                gpu=answer.gpu,
                gpu_seconds=round(seconds, 3) if answer.gpu else 0.0,
                usd_per_second=price,
                usd=round(price * seconds, 6) if price is not None else None,
            ),
            "worker": WorkerInfo(
                version=__version__,
                device=worker.device if worker else answer.device,
                encoder=worker.encoder if worker else None,
                fallback_reason=worker.fallback_reason if worker else None,
            ),
        }
    )
    data = whole.model_dump(mode="json")
    try:
        json.dumps(data, allow_nan=False).encode()
    except ValueError as error:
        raise TaskError(ErrorCode.output_invalid, "the result holds a number that is not finite; please report it") from error
    return data


def answer_bytes(whole: dict[str, Any]) -> int:
    """Size of a result as RunPod carries it."""
    return len(json.dumps(whole, ensure_ascii=False).encode())


def summary(whole: dict[str, Any], result_url: str) -> dict[str, Any]:
    """The answer that stands for a large result kept elsewhere: statistics and counts, nothing of the bulk."""
    bulk = [name for name, value in whole.items() if isinstance(value, list) and name not in KEPT_LISTS]
    kept = {name: value for name, value in whole.items() if name not in bulk}
    return kept | {f"{name}_count": len(whole[name]) for name in bulk} | {"result_url": result_url}


def fit_answer(whole: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The answer to send: the whole result, or its summary when the whole is large and safe at `result_url`.

    Raises:
        TaskError: `result_too_large` when it is over what RunPod carries and there is no `result_url`.
    """
    size = answer_bytes(whole)
    if whole["result_url"] and size > settings.inline_result_bytes:
        return summary(whole, whole["result_url"])
    if size > settings.max_answer_bytes:
        raise TaskError(
            ErrorCode.result_too_large,
            f"the result has {size} bytes and an answer carries {settings.max_answer_bytes}; give a result_url (presigned PUT)",
            size=size,
            limit=settings.max_answer_bytes,
        )
    return whole


def reused_answer(payload: bytes | None, task: str, key: str | None, settings: Settings) -> dict[str, Any] | None:
    """An earlier result's answer when `payload` is one of the same task and key, None when the work is to be done.

    Raises:
        TaskError: as `fit_answer`.
    """
    try:
        found = TASKS[task].result.model_validate_json(payload) if payload else None
    except ValueError:
        return None  # an unfinished or foreign object at that key is no result
    if found is None or found.status != "completed" or found.task != task or found.idempotency_key != key:
        return None
    # The object is the caller's to write: it must not fail the job or end the worker.
    data = {name: value for name, value in found.model_dump(mode="json").items() if name not in PLATFORM_KEYS}
    return fit_answer({**data, "deduplicated": True}, settings)
