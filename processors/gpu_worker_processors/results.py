"""The answer of a completed job: the processor's result plus who made it, how long it took and what
it cost; as JSON that was proven finite, whole or in a summary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from gpu_worker_client.protocol import (
    TASKS,
    Cost,
    ErrorCode,
    TaskBase,
    TaskError,
    TaskResult,
    Timings,
    WorkerInfo,
)
from gpu_worker_processors.engine.host import EngineAnswer

SUMMARY_LISTS = frozenset({"warnings", "output_parts"})
"""Lists that an answer keeps when the rest of a large result is at `result_url`: short, and needed
to act on the answer."""


def completed(
    task: TaskBase,
    answer: EngineAnswer,
    timings: Timings,
    made_by: WorkerInfo,
    usd_per_second: float | None = None,
) -> TaskResult:
    """The whole result, but for where its files went.

    Args:
        made_by: the package and its version; the device counts where the processor names none.
        usd_per_second: price of the card.
    """
    kind = TASKS[task.task].result
    # Nothing but the task's own fields: what the platform acts on is not the engine's to say.
    result = kind.model_validate(
        {name: value for name, value in answer.result.items() if name in kind.model_fields}
    )
    seconds, said = answer.seconds, result.worker
    return result.model_copy(
        update={
            "output_url": None,
            "output_parts": None,
            "result_url": None,
            "idempotency_key": task.idempotency_key,
            "deduplicated": False,
            "timings": timings,
            "cost": Cost(
                gpu=answer.gpu,
                gpu_seconds=round(seconds, 3) if answer.gpu else 0.0,
                usd_per_second=usd_per_second,
                usd=round(usd_per_second * seconds, 6) if usd_per_second is not None else None,
            ),
            "worker": WorkerInfo(
                version=made_by.version,
                device=said.device if said else made_by.device,
                encoder=said.encoder if said else None,
                fallback_reason=said.fallback_reason if said else None,
                package=made_by.package,
                sandbox=answer.sandbox,
            ),
        }
    )


def encoded(result: TaskResult) -> Iterator[bytes]:
    """The result's JSON in pieces: a large one never stands in memory whole.

    Raises:
        TaskError: `output_invalid` when a value of it is not finite or not JSON: a bug, found
            before it is sent.
    """
    try:
        for piece in result.json_pieces():
            yield piece.encode()
    except ValueError as error:
        raise TaskError(
            ErrorCode.output_invalid,
            "the result holds a number that is not finite; please report it",
        ) from error


def answer_bytes(whole: dict[str, Any]) -> int:
    """Size of a result as RunPod carries it."""
    return len(json.dumps(whole, ensure_ascii=False).encode())


def whole_answer(result: TaskResult, limit: int) -> dict[str, Any] | None:
    """The result as JSON values, None when it is larger than `limit` bytes. Stops reading at that
    size.

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


def summary(result: TaskResult, result_url: str) -> dict[str, Any]:
    """The answer that stands for a large result stored at `result_url`: statistics and counts,
    nothing of the bulk."""
    bulk = {
        name: value
        for name, value in result
        if isinstance(value, list) and name not in SUMMARY_LISTS
    }
    small = result.model_dump(mode="json", exclude=set(bulk))
    return (
        small
        | {f"{name}_count": len(cast("list[Any]", value)) for name, value in bulk.items()}
        | {"result_url": result_url}
    )
