"""The table of tasks, and the strict parser from the bytes of a RunPod job's `input` to a typed task."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, NamedTuple, NoReturn, get_args

from pydantic import ValidationError

from gpu_worker_client.protocol.auto_crop import AutoCropResult, AutoCropTask
from gpu_worker_client.protocol.beat import BeatResult, BeatTask
from gpu_worker_client.protocol.detect_scenes import DetectScenesResult, DetectScenesTask
from gpu_worker_client.protocol.envelope import SCHEMA_VERSION, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import ErrorCode, TaskError
from gpu_worker_client.protocol.render import RenderResult, RenderTask
from gpu_worker_client.protocol.selftest import SelftestResult, SelftestTask
from gpu_worker_client.protocol.track import TrackResult, TrackTask
from gpu_worker_client.protocol.upscale import UpscaleResult, UpscaleTask

MAX_TASK_BYTES = 256 * 1024
"""Largest task JSON. A presigned part URL has 400 to 600 bytes, so some 450 parts fit: 44 GiB in parts of 100 MiB."""

MAX_DEPTH = 32
"""Deepest nesting of lists and objects; the deepest task needs 4."""


class TaskKind(NamedTuple):
    request: type[TaskBase]
    result: type[TaskResult]


TASKS: dict[str, TaskKind] = {
    "upscale": TaskKind(UpscaleTask, UpscaleResult),
    "detect_scenes": TaskKind(DetectScenesTask, DetectScenesResult),
    "track": TaskKind(TrackTask, TrackResult),
    "auto_crop": TaskKind(AutoCropTask, AutoCropResult),
    "beat": TaskKind(BeatTask, BeatResult),
    "render": TaskKind(RenderTask, RenderResult),
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
    except (TypeError, ValueError, RecursionError):
        # ValueError: NaN, Infinity, or a lone surrogate that UTF-8 cannot hold.
        raise TaskError(ErrorCode.invalid_task, "the task is not plain JSON (finite numbers, valid text)") from None


def _decode(raw: bytes) -> dict[str, Any]:
    if _too_deep(raw):
        raise TaskError(ErrorCode.invalid_task, f"the task JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except TaskError:
        raise
    except (ValueError, RecursionError) as error:
        # From None: a JSONDecodeError holds the whole text, signatures included.
        place = f": see line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise TaskError(ErrorCode.invalid_task, f"the task is not valid UTF-8 JSON{place}") from None
    if not isinstance(data, dict):
        raise TaskError(ErrorCode.invalid_task, 'the task must be a JSON object like {"task": "selftest"}')
    return data


def _too_deep(raw: bytes) -> bool:
    """Whether brackets nest beyond `MAX_DEPTH`. Counting costs no recursion and stops there, so a bomb of brackets is refused
    at once; strings are taken out first, so a bracket in a URL counts for nothing."""
    level = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", raw)):
        level += 1 if bracket[0] in b"[{" else -1
        if level > MAX_DEPTH:
            return True
    return False


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""Also one that never ends: looking for its end once from each of its quotes would take quadratic time."""
_BRACKET = re.compile(rb"[\[\]{}]")


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
    if type(version) is not int or version != SCHEMA_VERSION:  # true and 1.0 equal 1 in Python
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
    summary = "; ".join(f"{p['path']}: {p['problem']}" if p["path"] else p["problem"] for p in problems[:5])
    raise TaskError(ErrorCode.invalid_task, summary, errors=problems[:20]) from None


def _path(loc: tuple[int | str, ...]) -> str:
    """Dotted path of a fault. An unknown key is the caller's own text, so it is shown only when it looks like a name; what
    pydantic adds to tell the members of a union apart is left out."""
    parts = [str(part) for part in loc if not _UNION_TAG.fullmatch(str(part))]
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else "(key)" for part in parts)


_UNION_TAG = re.compile(r"literal\[.*\]|constrained-\w+|function-\w+\[.*\]|\[key\]")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _problem(kind: str, message: str, loc: tuple[int | str, ...], request: type[TaskBase]) -> str:
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, ")
    fields = known_fields(request, loc[:-1])
    near = _nearest(loc[-1], fields)
    return f"unknown key.{near}" if near else "unknown key"


def known_fields(request: type[TaskBase], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the model at `loc` inside `request`; empty when the place is not a model."""
    model: Any = request
    for part in loc:
        if isinstance(part, str):
            model = _model_in(getattr(getattr(model, "model_fields", {}).get(part), "annotation", None))
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model in `Model`, `Model | None` or `list[Model]`; None when there is none."""
    candidates = [annotation, *get_args(annotation)]
    return next((kind for kind in candidates if hasattr(kind, "model_fields")), None)


def _nearest(name: object, known: list[str]) -> str:
    """` Did you mean "x"?` for a misspelling of a known name. Only the known name is shown."""
    close = difflib.get_close_matches(str(name)[:64].lower(), [k.lower() for k in known], n=1, cutoff=0.6)
    match = next((k for k in known if close and k.lower() == close[0]), None)
    return f' Did you mean "{match}"?' if match else ""
