"""What does not fit a model: the path and the problem, never the value."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gpu_worker_client.protocol.errors import ErrorCode, TaskError


def problems_of(error: ValidationError, model: type[BaseModel]) -> TaskError:
    """`invalid_task` that names the paths in `model` that do not fit; `details["errors"]` is a
    list of `{path, problem}`."""
    problems = [
        {
            "path": _path(entry["loc"]),
            "problem": _problem(entry["type"], entry["msg"], entry["loc"], model),
        }
        for entry in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    summary = "; ".join(
        f"{p['path']}: {p['problem']}" if p["path"] else p["problem"] for p in problems[:5]
    )
    return TaskError(ErrorCode.invalid_task, summary, errors=problems[:20])


def _path(loc: tuple[int | str, ...]) -> str:
    """Dotted path of a fault. An unknown key is the caller's own text, so it is shown only when it
    reads like a name; what pydantic adds to distinguish the members of a union is left out."""
    parts = [str(part) for part in loc if not _UNION_TAG.fullmatch(str(part))]
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else "(key)" for part in parts)


_UNION_TAG = re.compile(r"literal\[.*\]|constrained-\w+|function-\w+\[.*\]|\[key\]")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _problem(kind: str, message: str, loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, ")
    fields = known_fields(model, loc[:-1])
    near = nearest(loc[-1], fields)
    return f"unknown key.{near}" if near else "unknown key"


def known_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the model at `loc` inside `model`; empty when what stands there is not a
    model."""
    found: Any = model
    for part in loc:
        if isinstance(part, str):
            found = _model_in(
                getattr(getattr(found, "model_fields", {}).get(part), "annotation", None)
            )
    return list(getattr(found, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model in `Model`, `Model | None` or `list[Model]`; None when there is none."""
    candidates = [annotation, *get_args(annotation)]
    return next((kind for kind in candidates if hasattr(kind, "model_fields")), None)


def nearest(name: object, known: list[str]) -> str:
    """` Did you mean "x"?` for a misspelling of a known name. Only the known name is shown."""
    close = difflib.get_close_matches(
        str(name)[:64].lower(), [k.lower() for k in known], n=1, cutoff=0.6
    )
    match = next((k for k in known if close and k.lower() == close[0]), None)
    return f' Did you mean "{match}"?' if match else ""
