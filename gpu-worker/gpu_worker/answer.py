"""The answer of a completed job: the processor's result plus what only the worker knows, proven to be JSON and small enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from gpu_worker import __version__
from gpu_worker.engine import EngineAnswer
from gpu_worker.settings import Settings
from gpu_worker.transfer.deliver import Delivered
from gpu_worker.transfer.urls import TaskUrls
from gpu_worker_client.protocol import TASKS, Cost, ErrorCode, TaskBase, TaskError, TaskResult, Timings, WorkerInfo

KEPT_LISTS = frozenset({"warnings", "output_parts"})
"""Lists that an answer keeps when the rest of a large result is at `result_url`: short, and needed to act on the answer."""

PLATFORM_KEYS = frozenset({"error", "refresh_worker"})
"""What RunPod's SDK acts on in an answer."""


def complete_answer(
    task: TaskBase, urls: TaskUrls, answer: EngineAnswer, delivered: Delivered | None, timings: Timings, settings: Settings
) -> TaskResult:
    """The whole result."""
    kind = TASKS[task.task].result
    # Nothing but the task's own fields: what the platform acts on is not the engine's to say.
    result = kind.model_validate({name: value for name, value in answer.result.items() if name in kind.model_fields})
    seconds = answer.seconds
    price = settings.prices.get(answer.gpu) if answer.gpu else None
    worker = result.worker
    return result.model_copy(
        update={
            "output_url": str(urls.output.location) if urls.output else None,
            "output_parts": delivered.parts if delivered else None,
            "result_url": str(urls.result.location) if urls.result else None,
            "idempotency_key": task.idempotency_key,
            "deduplicated": False,
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


def encoded(result: TaskResult) -> Iterator[bytes]:
    """The result's JSON in pieces: a large one never stands in memory whole.

    Raises:
        TaskError: `output_invalid` when a value of it is not finite or not JSON: a bug, found before it is sent.
    """
    try:
        for piece in result.json_pieces():
            yield piece.encode()
    except ValueError as error:
        raise TaskError(ErrorCode.output_invalid, "the result holds a number that is not finite; please report it") from error


def answer_bytes(whole: dict[str, Any]) -> int:
    """Size of a result as RunPod carries it."""
    return len(json.dumps(whole, ensure_ascii=False).encode())


def whole_answer(result: TaskResult, limit: int) -> dict[str, Any] | None:
    """The result as JSON values, None when it is larger than `limit` bytes. Looks no further than that.

    Raises:
        TaskError: as `encoded`.
    """
    size = 0
    for piece in encoded(result):
        size += len(piece)
        if size > limit:
            return None
    whole = result.model_dump(mode="json")
    return whole if answer_bytes(whole) <= limit else None


def is_large(result: TaskResult, settings: Settings) -> bool:
    """Whether the result is over the inline limit."""
    return whole_answer(result, settings.inline_result_bytes) is None


def summary(result: TaskResult, result_url: str) -> dict[str, Any]:
    """The answer that stands for a large result kept elsewhere: statistics and counts, nothing of the bulk."""
    bulk = {name: value for name, value in result if isinstance(value, list) and name not in KEPT_LISTS}
    kept = result.model_dump(mode="json", exclude=set(bulk))
    return kept | {f"{name}_count": len(cast("list[Any]", value)) for name, value in bulk.items()} | {"result_url": result_url}


def fit_answer(result: TaskResult, settings: Settings) -> dict[str, Any]:
    """The answer to send: the whole result while it is small; else its summary when it is safe at `result_url`; else the whole
    result again, packed if its task has a compact form.

    Raises:
        TaskError: `result_too_large` when even that is over what RunPod carries; `output_invalid` as `encoded`.
    """
    small = whole_answer(result, min(settings.inline_result_bytes, settings.max_answer_bytes))
    if small is not None:
        return small
    if result.result_url:
        short = summary(result, result.result_url)
        size = len(json.dumps(short, ensure_ascii=False).encode())
        if size <= settings.max_answer_bytes:
            return short
        raise TaskError(ErrorCode.output_invalid, f"even the summary of the result has {size} bytes; please report it")
    try:
        packed = result.packed()
    except ValueError as error:
        raise TaskError(ErrorCode.output_invalid, "the result holds a number out of range; please report it") from error
    answer = whole_answer(packed, settings.max_answer_bytes)
    if answer is None:
        size = sum(map(len, encoded(packed)))
        raise TaskError(
            ErrorCode.result_too_large,
            f"the result has {size} bytes and an answer carries {settings.max_answer_bytes}; give a result_url (presigned PUT)",
            size=size,
            limit=settings.max_answer_bytes,
        )
    return answer


def reused_answer(payload: bytes | None, task: str, key: str | None, settings: Settings) -> dict[str, Any] | None:
    """An earlier result's answer when `payload` is one of the same task and key, None when the work is to be done.

    Raises:
        TaskError: as `fit_answer`.
    """
    try:
        found = TASKS[task].result.from_json(payload) if payload else None
    except ValueError:
        return None  # an unfinished or foreign object at that key is no result
    if found is None or found.status != "completed" or found.task != task or found.idempotency_key != key:
        return None
    try:
        answer = fit_answer(found.model_copy(update={"deduplicated": True}), settings)
    except TaskError as error:
        if error.code is ErrorCode.output_invalid:
            return None
        raise
    # The object is the caller's to write: it must not fail the job or end the worker.
    return {name: value for name, value in answer.items() if name not in PLATFORM_KEYS}
