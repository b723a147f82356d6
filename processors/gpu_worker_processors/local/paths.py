"""Where a task's files are, as paths: what its fields name, and which fields have no meaning
without a network."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from gpu_worker_client.protocol import (
    ErrorCode,
    InputTask,
    OutputTask,
    TaskBase,
    TaskError,
)

T = TypeVar("T")

_INPUTS = "inputs."
"""Where the inputs of a task with several stand. One object may go by two names among them."""
_REMOTE_FIELDS = ("output_multipart", "result_get_url")


@dataclass(frozen=True)
class TaskPaths:
    """Every file that a task names."""

    input: Path | None = None
    output: Path | None = None
    result: Path | None = None
    extra_inputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """As `LocalJob.inputs`."""


def paths_of(task: TaskBase) -> TaskPaths:
    """
    Raises:
        TaskError: `url_not_allowed` for what only the worker can reach, `webhook_unavailable`,
            `input_not_found`, `invalid_task` for an output's name or two fields that name one file;
            the message starts with the field's path.
    """
    _refuse_what_needs_a_network(task)
    source = _input(task.input_url, "input_url") if isinstance(task, InputTask) else None
    output = (
        _target(task.output_url, "output_url")
        if isinstance(task, OutputTask) and task.output_url
        else None
    )
    if output is not None and isinstance(task, OutputTask):
        check_suffix(task, output.suffix, "output_url")
    result = _target(task.result_url, "result_url") if task.result_url else None
    reads, extra = task.reads(), task.extra_inputs()
    inputs = {name: _input(reads[where], where) for name, where in extra.items()}
    named = [("input_url", source), ("output_url", output), ("result_url", result)]
    named += [(extra[name], path) for name, path in inputs.items()]
    check_distinct(
        [(where, path) for where, path in named if path is not None],
        lambda a, b: a.resolve() == b.resolve(),
    )
    return TaskPaths(source, output, result, inputs)


def local_path(text: str, where: str) -> Path | None:
    """The path that a `file:///abs` URL or a bare path names, None for another URL.

    Raises:
        TaskError: `invalid_task`: this process cannot spell the name.
    """
    if text[:5].lower() == "file:":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            return None
        text = unquote(parts.path)
    elif "://" in text:
        return None
    if "\0" in text:
        return None
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        message = (
            f"{where}: the name has characters that {sys.getfilesystemencoding()}, this process's"
            " encoding of file names, lacks; set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
        )
        raise TaskError(ErrorCode.invalid_task, message, path=where) from None
    return Path(text).absolute()


def check_suffix(task: OutputTask, suffix: str, where: str) -> None:
    """
    Raises:
        TaskError: `invalid_task`: the output's suffix, with its dot, is no container that this task
            writes.
    """
    if problem := task.suffix_problem(suffix):
        raise TaskError(ErrorCode.invalid_task, f"{where}: {problem}", path=where)


def check_target(path: Path, where: str) -> None:
    """
    Raises:
        TaskError: `invalid_task`: no file can be written there, as a folder is at the path, a file
            where its folder should be, or nothing.
    """
    # not Path.is_dir, which raises for too long a name before Python 3.14
    if os.path.isdir(path):  # noqa: PTH112
        problem = "a folder is at this path; name a file"
    elif any(os.path.isfile(above) for above in path.parents):  # noqa: PTH113
        problem = "a file is where the folder of this path should be"
    elif not os.path.isdir(path.parent):  # noqa: PTH112
        problem = "the folder of this path is not there; make it first"
    else:
        return
    raise TaskError(ErrorCode.invalid_task, f"{where}: {problem}", path=where)


def check_distinct(named: Sequence[tuple[str, T]], same: Callable[[T, T], bool]) -> None:
    """
    Args:
        named: (path of a field in the task, what it names).
        same: whether two are one object.

    Raises:
        TaskError: `invalid_task`: two fields name one object, and not both are inputs of a task
            with several.
    """
    for index, (where, location) in enumerate(named):
        for other_where, other in named[:index]:
            both_read = where.startswith(_INPUTS) and other_where.startswith(_INPUTS)
            if not both_read and same(location, other):
                message = (
                    f"{where} and {other_where} are the same object; give each a key of its own"
                )
                raise TaskError(ErrorCode.invalid_task, message, path=where)


def _refuse_what_needs_a_network(task: TaskBase) -> None:
    for name in _REMOTE_FIELDS:
        if getattr(task, name, None) is not None:
            raise _needs_the_worker(name)
    if task.webhook_url is not None:
        message = (
            "webhook_url: events are sent by the worker alone; leave it out, or run the task on an"
            " endpoint"
        )
        raise TaskError(ErrorCode.webhook_unavailable, message, path="webhook_url")


def _path(text: str, where: str) -> Path:
    path = local_path(text, where)
    if path is None:
        raise _needs_the_worker(where)
    return path


def _input(text: str, where: str) -> Path:
    path = _path(text, where)
    try:
        found = path.is_file() and os.access(path, os.R_OK)
    except OSError:  # too long a name
        found = False
    if not found:
        raise TaskError(
            ErrorCode.input_not_found, f"{where}: no readable file at this path", path=where
        )
    return path


def _target(text: str, where: str) -> Path:
    path = _path(text, where)
    check_target(path, where)
    return path


def _needs_the_worker(where: str) -> TaskError:
    message = (
        f"{where}: give a path; a local run reaches URLs only with the worker: pip install"
        " gpu-worker"
    )
    return TaskError(ErrorCode.url_not_allowed, message, path=where)
