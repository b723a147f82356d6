"""A task as a caller gives it: typed, a dict or JSON text, made the typed task that is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic_core import PydanticSerializationError

from gpu_worker_client.protocol import ErrorCode, TaskBase, TaskError, parse_task
from gpu_worker_client.protocol.errors import job_error


def typed_task(task: object) -> TaskBase:
    """The typed task. One that is typed already was validated when it was made.

    Raises:
        InvalidTask: it does not fit.
    """
    if isinstance(task, TaskBase):
        return task
    try:
        return parse_task(
            dict(cast("Mapping[str, Any]", task)) if isinstance(task, Mapping) else task
        )
    except TaskError as error:
        raise job_error(error.body()) from None


def web_task(task: object) -> TaskBase:
    """The typed task, which names nothing but web URLs. Paths and other schemes (file, s3) are
    refused here: a worker would too, after a start that is paid for.

    Raises:
        InvalidTask: it does not fit, or a field is no web URL.
    """
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
