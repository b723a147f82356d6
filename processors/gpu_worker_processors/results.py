"""The answer of a completed job: the processor's result plus who made it, how long it took and what
it cost; as JSON that was proven finite, whole or in a summary.

The engine's JSON is read as if an attacker had written it: what is large by a process of its own,
`python -m gpu_worker_processors.results`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, NamedTuple, cast

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
from gpu_worker_client.protocol.result import PackedTooMany
from gpu_worker_processors.atomic_file import disk_errors
from gpu_worker_processors.engine.host import EngineAnswer
from gpu_worker_processors.limited_child import (
    MAX_CHILD_BYTES,
    SMALL_BYTES,
    SMALL_ITEMS,
    run_limited,
    serve,
)

SUMMARY_LISTS = frozenset({"warnings", "output_parts"})
"""Lists that an answer keeps when the rest of a large result is at `result_url`: short, and needed
to act on the answer."""


READ_SECONDS = 600
"""Longest reading of an engine's result, in CPU time. A million boxes take 20 s on a slow core."""


class AnswerLimits(NamedTuple):
    """How large an answer may be, in bytes."""

    inline: int
    """A stored result of more is answered by its summary."""
    most: int


class Answer(NamedTuple):
    answer: dict[str, Any]
    is_large: bool
    """The result is over the inline limit: when it is stored, this is its summary."""


@dataclass(frozen=True)
class JobResult:
    """The result of a completed job: what the engine left, which nobody has read yet, and what is
    not the engine's to say."""

    task: str
    made: bytes = field(repr=False)
    added: dict[str, Any]
    """Fields of `TaskResult` as JSON. Of `worker` the engine says device and encoder."""

    def plus(self, **fields: object) -> JobResult:
        """The same with more fields added, as JSON."""
        return replace(self, added=self.added | fields)

    def write(self, out: BinaryIO | None, limits: AnswerLimits, stop: threading.Event) -> Answer:
        """Writes the whole JSON to an open file, and gives what to answer.

        Args:
            out: None when the result is stored nowhere: it is answered whole then.

        Raises:
            TaskError: `internal` when the engine left no such result; `result_too_large` when it
                takes more than the limits to read; as `fit_answer`.
        """
        request = {"task": self.task, "added": self.added, "limits": limits}
        answer = None
        if len(self.made) <= SMALL_BYTES:
            with suppress(PackedTooMany):
                answer = _read(request, self.made, out, SMALL_ITEMS)
        if answer is None:
            reply = run_limited(
                "gpu_worker_processors.results", request, self.made, stop, READ_SECONDS, out
            )
            if reply is None:
                message = (
                    f"the result takes more than {MAX_CHILD_BYTES} bytes of memory or"
                    f" {READ_SECONDS} s to read; split the input"
                )
                raise TaskError(ErrorCode.result_too_large, message, limit=MAX_CHILD_BYTES)
            answer = Answer(*reply["answer"])
        if out is not None:
            out.seek(0)
        return answer


def _read(
    request: dict[str, Any], made: bytes, out: BinaryIO | None, max_packed: int | None = None
) -> Answer:
    result = _completed(request["task"], made, request["added"], max_packed)
    if out is not None:
        for piece in encoded(result):
            with disk_errors():
                out.write(piece)
        with disk_errors():
            out.flush()
    return fit_answer(result, AnswerLimits(*request["limits"]), stored=out is not None)


def completed(
    task: TaskBase,
    answer: EngineAnswer,
    timings: Timings,
    made_by: WorkerInfo,
    usd_per_second: float | None = None,
) -> JobResult:
    """The whole result, but for where its files went.

    Args:
        made_by: the package and its version; the device counts where the processor names none.
        usd_per_second: price of the card.
    """
    seconds = answer.seconds
    cost = Cost(
        gpu=answer.gpu,
        gpu_seconds=round(seconds, 3) if answer.gpu else 0.0,
        usd_per_second=usd_per_second,
        usd=round(usd_per_second * seconds, 6) if usd_per_second is not None else None,
    )
    added = {
        "output_url": None,
        "output_parts": None,
        "result_url": None,
        "idempotency_key": task.idempotency_key,
        "deduplicated": False,
        "timings": timings.model_dump(mode="json"),
        "cost": cost.model_dump(mode="json"),
        "worker": made_by.model_copy(update={"sandbox": answer.sandbox}).model_dump(mode="json"),
    }
    return JobResult(task.task, answer.result, added)


def _completed(task: str, made: bytes, added: dict[str, Any], max_packed: int | None) -> TaskResult:
    kind = TASKS[task].result
    try:
        said = kind.from_json(made, max_packed)
        # Nothing but the task's own fields: what the platform acts on is not the engine's to say.
        own = {name: value for name, value in said if name in kind.model_fields}
        worker = WorkerInfo.model_validate(added["worker"])
        if said.worker is not None:
            of_engine = ("device", "encoder", "fallback_reason")
            worker = worker.model_copy(
                update={name: getattr(said.worker, name) for name in of_engine}
            )
        return kind.model_validate(own | added | {"worker": worker})
    except PackedTooMany:
        raise
    except ValueError:
        raise TaskError(
            ErrorCode.internal,
            "the engine left a result that is none and was replaced; the job can be retried",
        ) from None


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


def summary(result: TaskResult, result_url: str | None) -> dict[str, Any]:
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


def fit_answer(result: TaskResult, limits: AnswerLimits, *, stored: bool) -> Answer:
    """The answer to send: the whole result while it is small; else its summary when the whole is
    `stored`; else the whole result again, packed if its task has a compact form.

    Raises:
        TaskError: `result_too_large` when even that is over the limit; `output_invalid` as
            `encoded`.
    """
    small = whole_answer(result, min(limits))
    if small is not None:
        return Answer(small, is_large=False)
    if stored:
        short = summary(result, result.result_url)
        size = answer_bytes(short)
        if size <= limits.most:
            return Answer(short, is_large=True)
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
    answer = whole_answer(packed, limits.most)
    if answer is None:
        size = sum(map(len, encoded(packed)))
        raise TaskError(
            ErrorCode.result_too_large,
            f"the result has {size} bytes and an answer carries {limits.most}; give a result_url"
            " (presigned PUT)",
            size=size,
            limit=limits.most,
        )
    return Answer(answer, is_large=True)


if __name__ == "__main__":
    serve(_read)
