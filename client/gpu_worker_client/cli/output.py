"""What the commands read and print, for a program or for a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpu_worker_client.events import Event, Finished
from gpu_worker_client.files.transfer import Transfer
from gpu_worker_client.progress_bar import ProgressBar, describe
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError
from gpu_worker_client.protocol.foreign import printable
from gpu_worker_client.protocol.result import bar
from gpu_worker_client.status import JobStatus, failure

MAX_SHOWN = 5
"""A longer list is shown to a person by its length."""

Answer = dict[str, Any] | str
"""What a command prints: JSON, or a script for a shell to read."""
Answered = tuple[bool, Answer]
"""Whether a command did what it says, and its answer."""


class UsageError(Exception):
    """The command was called wrongly."""


@contextmanager
def file_named(name: str) -> Generator[Path, None, None]:
    """The file's path; an error of the file system inside the block becomes a UsageError."""
    try:
        yield Path(name)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def open_file(name: str) -> BinaryIO:
    """The file, or standard input for "-"."""
    with file_named(name) as path:
        if name == "-":
            return open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: PTH123
        return path.open("rb")


def read_file(name: str) -> bytes:
    with open_file(name) as file:
        return file.read()


class Output:
    """Where a command's answer and progress go; `as_json` prints JSON on a terminal too."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json or not sys.stdout.isatty()
        self._terminal = sys.stderr.isatty()
        self._bar = ProgressBar(sys.stderr)

    def answer(self, answer: Answer) -> None:
        """One JSON object on a line; for a person a line for each value. A script as it is."""
        if isinstance(answer, str):
            text = answer
        else:
            text = json.dumps(answer) if self._json else "\n".join(readable(answer))
        print(text, flush=True)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def event(self, event: Event | Transfer) -> None:
        """A bar on a terminal, else a line for each event but the last: the answer repeats it."""
        if self._terminal:
            self._bar(event)
        elif not isinstance(event, Transfer | Finished):
            self.note(describe(event)[1])

    def count(self, done: int, total: int, failed: int) -> None:
        """A bar of the jobs that ended, on a terminal only: in a pipe their answers show it."""
        if self._terminal:
            end = "\n" if done == total else ""
            failures = f", {failed} failed" if failed else ""
            line = f"jobs     [{bar(done / total if total else 1.0)}] {done}/{total}{failures}"
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)


def status_json(status: JobStatus) -> dict[str, Any]:
    """A job as the commands print it: what is known of it."""
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
    """An error as the commands print it: the wire's fields, or the class's name as code."""
    if not isinstance(error, JobError):
        return {"code": type(error).__name__, "message": str(error)}
    names = ("code", "message", "retryable", "stage", "details")
    return {name: getattr(error, name) for name in names}


def readable(value: Any, name: str = "") -> list[str]:
    """Printable lines `path: value` of a JSON value; none for null and for what is empty."""
    if isinstance(value, list) and len(cast("list[Any]", value)) > MAX_SHOWN:
        value = f"{len(cast('list[Any]', value))} entries (--json shows them)"
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        inner = [(f"{name}.{key}" if name else key, item) for key, item in entries]
    elif isinstance(value, list):
        inner = [(f"{name}[{index}]", item) for index, item in enumerate(cast("list[Any]", value))]
    else:
        return [] if value is None else [printable(f"{name}: {value}")]
    return [line for path, item in inner for line in readable(item, path)]
