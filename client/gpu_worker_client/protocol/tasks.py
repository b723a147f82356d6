"""The table of tasks, and the strict parser from the bytes of a RunPod job's `input` to a typed task."""

from __future__ import annotations

import difflib
import json
from typing import Any, NamedTuple, NoReturn

from pydantic import ValidationError

from gpu_worker_client.protocol.detect_scenes import DetectScenesResult, DetectScenesTask
from gpu_worker_client.protocol.envelope import SCHEMA_VERSION, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import ErrorCode, TaskError
from gpu_worker_client.protocol.selftest import SelftestResult, SelftestTask
from gpu_worker_client.protocol.upscale import UpscaleResult, UpscaleTask

MAX_TASK_BYTES = 256 * 1024
"""Largest task JSON. Presigned URLs are a few hundred bytes; a thousand multipart parts still fit."""

MAX_DEPTH = 32
"""Deepest nesting of lists and objects; the deepest task needs 4."""


class TaskKind(NamedTuple):
    request: type[TaskBase]
    result: type[TaskResult]


TASKS: dict[str, TaskKind] = {
    "upscale": TaskKind(UpscaleTask, UpscaleResult),
    "detect_scenes": TaskKind(DetectScenesTask, DetectScenesResult),
    "selftest": TaskKind(SelftestTask, SelftestResult),
}


def parse_task(payload: bytes | dict[str, Any] | object) -> TaskBase:
    """Turns a job's input into a typed task, or says what is wrong with it without echoing any value.

    Args:
        payload: UTF-8 JSON text, or the value a JSON parser made of it (what the RunPod SDK hands over).

    Raises:
        TaskError: `invalid_task` with `details["errors"]` a list of `{path, problem}`; `unsupported_task` with the known names.
    """
    raw = payload if isinstance(payload, bytes) else _encode(payload)
    if len(raw) > MAX_TASK_BYTES:
        raise TaskError(ErrorCode.invalid_task, f"the task JSON exceeds {MAX_TASK_BYTES} bytes", limit=MAX_TASK_BYTES)
    data = _decode(raw)
    kind = _kind_of(data)
    _check_version(data)
    try:
        return kind.request.model_validate_json(raw)
    except ValidationError as error:
        _raise_invalid(error, kind.request)


def _encode(payload: object) -> bytes:
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # ValueError: NaN, Infinity, or a lone surrogate that UTF-8 cannot hold.
        raise TaskError(ErrorCode.invalid_task, "the task is not plain JSON (finite numbers, valid text)") from error


def _decode(raw: bytes) -> dict[str, Any]:
    if _depth(raw) > MAX_DEPTH:
        raise TaskError(ErrorCode.invalid_task, f"the task JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except TaskError:
        raise
    except (ValueError, RecursionError) as error:
        raise TaskError(ErrorCode.invalid_task, "the task is not valid UTF-8 JSON") from error
    if not isinstance(data, dict):
        raise TaskError(ErrorCode.invalid_task, 'the task must be a JSON object like {"task": "selftest"}')
    return data


def _depth(raw: bytes) -> int:
    """Upper bound of the nesting depth. Counting bytes costs no recursion, so a bomb of brackets is refused in microseconds."""
    deepest = level = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise TaskError(ErrorCode.invalid_task, "a key stands twice in one JSON object")
    return data


def _refuse_constant(_: str) -> NoReturn:
    raise TaskError(ErrorCode.invalid_task, "NaN and Infinity are not JSON")


def _kind_of(data: dict[str, Any]) -> TaskKind:
    name = data.get("task")
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    known = ", ".join(TASKS)
    raise TaskError(
        ErrorCode.unsupported_task,
        f"`task` must be one of: {known}.{_nearest(name, list(TASKS))}",
        tasks=list(TASKS),
    )


def _check_version(data: dict[str, Any]) -> None:
    version = data.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise TaskError(
            ErrorCode.invalid_task,
            f"schema_version: this worker speaks version {SCHEMA_VERSION}; send that, or update the worker",
            schema_version=SCHEMA_VERSION,
        )


def _raise_invalid(error: ValidationError, request: type[TaskBase]) -> NoReturn:
    problems = [
        {"path": _path(entry["loc"]), "problem": _problem(entry["type"], entry["msg"], entry["loc"], request)}
        for entry in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    summary = "; ".join(f"{p['path'] or 'task'}: {p['problem']}" for p in problems[:5])
    raise TaskError(ErrorCode.invalid_task, summary, errors=problems[:20]) from None


def _path(loc: tuple[int | str, ...]) -> str:
    """Dotted path of a fault. A key that the schema does not know is the caller's own text, so it is bounded."""
    return ".".join(str(part)[:64] for part in loc)


def _problem(kind: str, message: str, loc: tuple[int | str, ...], request: type[TaskBase]) -> str:
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, ")
    fields = known_fields(request, loc[:-1])
    return f"unknown key.{_nearest(loc[-1], fields)}" if fields else "unknown key"


def known_fields(request: type[TaskBase], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the model at `loc` inside `request`; empty when the place is not a model."""
    model: Any = request
    for part in loc:
        field = getattr(model, "model_fields", {}).get(part)
        model = getattr(field, "annotation", None)
    return list(getattr(model, "model_fields", {}))


def _nearest(name: object, known: list[str]) -> str:
    """` Did you mean "x"?` for a misspelling of a known name. Only the known name is shown."""
    close = difflib.get_close_matches(str(name)[:64].lower(), [k.lower() for k in known], n=1, cutoff=0.6)
    match = next((k for k in known if close and k.lower() == close[0]), None)
    return f' Did you mean "{match}"?' if match else ""
