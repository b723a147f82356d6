"""What an answer of `/status` says: the state, the progress, the failure, the typed result.

RunPod puts progress and result into the same field, `output`; here the state decides which it is. A
failure's text comes in three shapes (our `ErrorBody` as JSON, the JSON traceback of RunPod's SDK,
plain text), and all three become one `ErrorBody`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError

from gpu_worker_client.protocol import ErrorBody, ErrorCode, Progress, State, TaskResult
from gpu_worker_client.protocol.errors import (
    JobCancelled,
    JobError,
    JobExpired,
    JobTimedOut,
    ResultLost,
    ResultUnreadable,
    job_error,
)
from gpu_worker_client.protocol.foreign import redact
from gpu_worker_client.protocol.registry import result_model

MAX_FOREIGN_MESSAGE_CHARS = 2000
"""A crash of the worker's SDK may quote anything; a message is for a person."""


@dataclass(frozen=True)
class JobStatus:
    """What one poll of a job saw."""

    id: str
    state: State
    progress: Progress | None = None
    """Only while running, and only what our worker reports."""
    output: Any = None
    """The result as JSON, only when completed."""
    error: str | None = None
    """The failure's text as the endpoint gave it; `Job.result()` raises it typed."""
    queue_seconds: float | None = None
    """Seconds from submit to start; None until it started."""
    execution_seconds: float | None = None
    """Seconds on the worker; None until it ended."""
    worker_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """The endpoint's whole answer."""


def read_status(job_id: str, data: Mapping[str, Any]) -> JobStatus:
    """The status in an endpoint's answer; one missing or unknown counts as running."""
    state = State.from_runpod(str(data.get("status")))
    output, worker_id = data.get("output"), data.get("workerId")
    return JobStatus(
        id=job_id,
        state=state,
        progress=read_progress(output) if state is State.running else None,
        output=output if state is State.completed else None,
        error=_error_text(data) if state.is_final else None,
        queue_seconds=_seconds(data.get("delayTime")),
        execution_seconds=_seconds(data.get("executionTime")),
        worker_id=worker_id if isinstance(worker_id, str) else None,
        raw=data,
    )


def read_progress(output: object) -> Progress | None:
    """A report of our worker's; None when it is another's."""
    try:
        return Progress.model_validate(output)
    except ValidationError:
        return None


def _error_text(data: Mapping[str, Any]) -> str | None:
    output: Any = data.get("output")
    error: Any = data.get("error") or (output.get("error") if isinstance(output, dict) else None)
    return error if error is None or isinstance(error, str) else json.dumps(error, default=str)


def _seconds(milliseconds: object) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


def read_error(text: str) -> ErrorBody:
    """The failure in RunPod's `error` text, whichever of the three shapes it has."""
    body = ErrorBody.from_wire(text)
    if body is not None:
        return body
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and "error_message" in data:
        kind = str(data.get("error_type", "")).removeprefix("<class '").removesuffix("'>")
        return _foreign(f"the worker crashed: {kind}: {data['error_message']}", error_type=kind)
    return _foreign(text)


def _foreign(message: str, **details: str) -> ErrorBody:
    code = ErrorCode.internal
    text = redact(message)[:MAX_FOREIGN_MESSAGE_CHARS]
    return ErrorBody(code=code.value, message=text, retryable=code.retryable, details=details)


def failure(status: JobStatus, job: Any = None) -> JobError:
    """The exception that says why this final status holds no result."""
    if status.state is State.failed:
        return job_error(read_error(status.error or "the worker gave no reason"), job)
    kind, message = _NO_RESULT[status.state]
    code = "result_lost" if kind is ResultLost else status.state.value
    body = ErrorBody.from_wire(status.error) if status.error else None
    return kind(body or ErrorBody(code=code, message=message), job)


_NO_RESULT: dict[State, tuple[type[JobError], str]] = {
    State.cancelled: (JobCancelled, "the job was cancelled"),
    State.timed_out: (
        JobTimedOut,
        "the endpoint's executionTimeout passed; submit with Policy(execution_timeout_seconds=...)"
        " for long videos",
    ),
    State.expired: (
        JobExpired,
        "the endpoint does not know this job: its result is kept for 30 minutes, and ttl ends even"
        " a running job",
    ),
    State.completed: (
        ResultLost,
        "completed without a result: the endpoint drops a result over its limit; give the task a"
        " result_url",
    ),
}


def read_result(
    status: JobStatus, output: object, kind: type[TaskResult] | None = None, job: Any = None
) -> TaskResult:
    """The typed result of a job with a final `status`; without a `kind` its own `task` names the
    model. Raises JobError, which carries `job`: there is no result, or none of its kind."""
    if output is None:
        raise failure(status, job)
    name = cast("dict[str, Any]", output).get("task") if isinstance(output, dict) else None
    model = kind or result_model(name)
    try:
        return model.model_validate(output)
    except ValidationError as error:
        paths = ", ".join(".".join(map(str, entry["loc"])) for entry in error.errors()[:5])
    message = (
        f"the job completed, but its result is no {model.__name__} (see: {paths or 'the whole'})"
    )
    raise ResultUnreadable(ErrorBody(code="result_unreadable", message=message), job)
