"""A task made typed: strictly from the bytes of a RunPod job's `input`, or as a caller gives it,
typed, a dict or JSON text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from gpu_worker_client.protocol.errors import ErrorCode, TaskError, job_error
from gpu_worker_client.protocol.registry import TASKS, TaskKind
from gpu_worker_client.protocol.task import SCHEMA_VERSION, TaskBase, nearest, problems_of

MAX_TASK_BYTES = 256 * 1024
"""Largest task JSON. Some 450 presigned part URLs fit: 44 GiB in parts of 100 MiB."""
MAX_DEPTH = 32
"""Deepest nesting of lists and objects; the deepest task needs 4."""

MAX_KEYS = 4096
"""Keys of one object. To complain of 20,000 unknown ones took 100 ms, in which nothing else ran."""


def parse_task(payload: bytes | dict[str, Any] | object) -> TaskBase:
    """Turns a job's input, UTF-8 JSON text or the value a JSON parser made of it, into a typed
    task, or says what is wrong with it without echoing any value.

    Raises:
        TaskError: `invalid_task` with `details["errors"]` a list of `{path, problem}`;
            `unsupported_task` with the known names.
    """
    raw = payload if isinstance(payload, bytes) else _encode(payload)
    if len(raw) > MAX_TASK_BYTES:
        raise _invalid(f"the task JSON exceeds {MAX_TASK_BYTES} bytes", limit=MAX_TASK_BYTES)
    data = _decode(raw)
    kind = _kind_of(data)
    _check_version(data)
    try:
        return kind.request.model_validate_json(raw)
    except ValidationError as error:
        raise problems_of(error, kind.request) from None


def _invalid(message: str, **details: Any) -> TaskError:
    return TaskError(ErrorCode.invalid_task, message, **details)


def _encode(payload: object) -> bytes:
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        # ValueError: NaN, Infinity, or a lone surrogate that UTF-8 cannot hold.
        raise _invalid("the task is not plain JSON (finite numbers, valid text)") from None


def _decode(raw: bytes) -> dict[str, Any]:
    if _too_deep(raw):
        raise _invalid(f"the task JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        data = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        # From None: a JSONDecodeError holds the whole text, signatures included.
        found = isinstance(error, json.JSONDecodeError)
        where = f": see line {error.lineno}, column {error.colno}" if found else ""
        raise _invalid(f"the task is not valid UTF-8 JSON{where}") from None
    if not isinstance(data, dict):
        raise _invalid('the task must be a JSON object like {"task": "selftest"}')
    return data


def _too_deep(raw: bytes) -> bool:
    """Whether brackets outside of strings nest beyond `MAX_DEPTH`. Counting costs no recursion and
    stops there, so a bomb of brackets is refused at once."""
    level = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", raw)):
        level += 1 if bracket[0] in b"[{" else -1
        if level > MAX_DEPTH:
            return True
    return False


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""Also one that never ends: a search for its end from each of its quotes were quadratic."""
_BRACKET = re.compile(rb"[\[\]{}]")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise _invalid(f"a JSON object has more than {MAX_KEYS} keys")
    data = dict(pairs)
    if len(data) != len(pairs):
        raise _invalid("a key stands twice in one JSON object")
    return data


def _refuse_constant(_: str) -> NoReturn:
    raise _invalid("NaN and Infinity are not JSON")


def _kind_of(data: dict[str, Any]) -> TaskKind:
    name = data.get("task")
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    if "task" not in data and isinstance(data.get("input"), dict):
        raise _invalid(
            'this is the body of a request: give the task alone, which stands in its "input"'
        )
    known = list(TASKS)
    message = f"`task` must be one of: {', '.join(known)}.{nearest(name, known)}"
    raise TaskError(ErrorCode.unsupported_task, message, tasks=known)


def _check_version(data: dict[str, Any]) -> None:
    version = data.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version != SCHEMA_VERSION:  # true and 1.0 equal 1 in Python
        raise _invalid(
            f"schema_version: this worker speaks version {SCHEMA_VERSION}; send that, or update the"
            " worker",
            schema_version=SCHEMA_VERSION,
        )


def typed_task(task: object) -> TaskBase:
    """The typed task; one that is typed was validated when it was made. Raises InvalidTask: it does
    not fit."""
    if isinstance(task, TaskBase):
        return task
    try:
        return parse_task(
            dict(cast("Mapping[str, Any]", task)) if isinstance(task, Mapping) else task
        )
    except TaskError as error:
        raise job_error(error.body()) from None


def web_task(task: object) -> TaskBase:
    """The typed task, which names nothing but web URLs. Raises InvalidTask: it does not fit, or a
    field is a path or of another scheme, which a worker would refuse after a start that is paid
    for."""
    typed = typed_task(task)
    paths = [path for path, url in typed.urls().items() if not is_web_url(url)]
    if not paths:
        return typed
    problem = (
        "must be an https URL; for files of this machine give paths to client.upscale and its like"
    )
    errors = [{"path": path, "problem": problem} for path in paths]
    message = f"{', '.join(paths[:5])}: {problem}"
    raise job_error(TaskError(ErrorCode.invalid_task, message, errors=errors[:20]).body())


def wire_of(task: TaskBase) -> dict[str, Any]:
    """The task's JSON. Raises InvalidTask: it was made by `model_construct`, and does not fit."""
    try:
        return task.to_wire()
    except PydanticSerializationError:
        given = task.model_dump(mode="json", exclude_unset=True, warnings=False)
        return typed_task({"task": task.task} | given).to_wire()


def is_web_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)
