"""What the commands print: answers on stdout, progress on stderr, each for a program or for a
person."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from gpu_worker_client._stage import Transfer
from gpu_worker_client.events import ColdStart, Event, ProgressEvent, Queued, Started
from gpu_worker_client.progress_bar import ProgressBar
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError
from gpu_worker_client.protocol.result import bar
from gpu_worker_client.protocol.text import printable
from gpu_worker_client.status import JobStatus, failure

MAX_SHOWN = 5
"""A longer list is shown to a person by its length."""


Answer = dict[str, Any] | str
"""What a command says: JSON, or a script for a shell to read."""


class UsageError(Exception):
    """The command was called wrongly."""


class Output:
    """Where a command's answer and progress go.

    Args:
        as_json: print JSON on a terminal too.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json or not sys.stdout.isatty()
        self._terminal = sys.stderr.isatty()
        self._bar = ProgressBar(sys.stderr)

    def answer(self, answer: Answer) -> None:
        """One JSON object on a line; for a person a line for each thing that it says. A script as
        it stands."""
        if isinstance(answer, str):
            print(answer, end="")
            return
        print(json.dumps(answer) if self._json else "\n".join(readable(answer)), flush=True)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def event(self, event: Event | Transfer) -> None:
        """A bar on a terminal, a plain line for each event elsewhere; the last event's news is the
        answer."""
        if self._terminal:
            self._bar(event)
        elif not isinstance(event, Transfer) and (line := event_line(event)):
            self.note(line)

    def count(self, done: int, total: int, failed: int) -> None:
        """How far many jobs are. In a pipe the answers themselves say it."""
        if self._terminal:
            end = "\n" if done == total else ""
            line = f"jobs     [{bar(done / total if total else 1.0)}] {done}/{total}" + (
                f", {failed} failed" if failed else ""
            )
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)


def event_line(event: Event) -> str | None:
    """One line for a person; None for the last event, whose news is the answer itself."""
    if isinstance(event, Queued):
        return "queued"
    if isinstance(event, ColdStart):
        return "queued, a worker is starting"
    if isinstance(event, Started):
        return "running"
    if not isinstance(event, ProgressEvent):
        return None
    return printable(event.progress.text())


def status_json(status: JobStatus) -> dict[str, Any]:
    """A job as the commands print it: `id`, `state`, and what is known of progress, times, `result`
    or `error`."""
    answer = {
        "id": status.id,
        "state": status.state.value,
        "progress": status.progress.model_dump(exclude_none=True) if status.progress else None,
        "queue_seconds": status.queue_seconds,
        "execution_seconds": status.execution_seconds,
        "result": status.output,
    }
    if status.state.is_final and status.output is None:
        answer["error"] = error_json(failure(status))
    return {name: value for name, value in answer.items() if value is not None}


def error_json(error: GpuWorkerError) -> dict[str, Any]:
    """An error as the commands print it: the wire's fields for a job's failure, the class's name as
    code for any other."""
    if not isinstance(error, JobError):
        return {"code": type(error).__name__, "message": str(error)}
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "stage": error.stage,
        "details": error.details,
    }


def readable(value: Any, name: str = "") -> list[str]:
    """The lines `place: value` of a JSON value; nothing for null and for what is empty. No control
    characters."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        return [
            line
            for key, item in entries
            for line in readable(item, f"{name}.{key}" if name else key)
        ]
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if len(items) > MAX_SHOWN:
            return [printable(f"{name}: {len(items)} entries (--json shows them)")]
        return [
            line for index, item in enumerate(items) for line in readable(item, f"{name}[{index}]")
        ]
    return [] if value is None else [printable(f"{name}: {value}")]
