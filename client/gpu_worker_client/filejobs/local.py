"""A task on files in a child process on this machine: the endpoint's processors in the same
sandbox, without queue and bucket.

Needs the package `gpu-worker-processors` in this Python. Where `gpu-worker` is, that one is the
child: it also reads and writes URLs, and downloads missing weights. The child gets no key of ours,
and it ends when the waiting ends, however that ends: by a kill of this process too.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from gpu_worker_client._blocking import checkpoint
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.files.work import FileOrUrl, FileWork, is_url
from gpu_worker_client.protocol import TASKS, ErrorBody, ErrorCode, TaskResult
from gpu_worker_client.protocol.errors import job_error
from gpu_worker_client.protocol.text import redact

STOP_SECONDS = 5.0
"""After an interrupt the child has this long to end its engine, before all of it is killed."""
WRONG_SETTINGS_STATUS = 2
"""The child's exit status when a variable does not parse; what it says names the variable."""
LAST_WORDS_CHARS, TRACEBACK_CHARS = 500, 5000
CHECKPOINT_SECONDS = 0.1
"""Between two checkpoints of a call that waits for the child."""
_SECRET = ("RUNPOD_", "R2_", "AWS_")
"""Beginnings of variables that the child has no use for."""


_START = """
import sys
sys.path[:] = filter(None, sys.path)
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""As `python -m`, which imports from the current folder first: among videos that came from anywhere
may lie a `json.py`."""

_log = logging.getLogger("gpu_worker_client")


def obstacle(work: FileWork) -> str | None:
    """Why this machine cannot run a task, with the pip line that helps; None when it can."""
    if _is_installed("gpu_worker"):
        return None
    if not _is_installed("gpu_worker_processors"):
        return "running on this machine needs the processors: pip install gpu-worker-processors"
    output = [] if work.output is None else [work.output]
    if any(map(_is_remote, [*work.files.values(), *output])):
        return (
            "running on this machine with a URL for a file needs the worker: pip install gpu-worker"
        )
    return None


def _is_installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _is_remote(file: FileOrUrl) -> bool:
    return is_url(file) and not str(file).lower().startswith("file:")


def _command() -> list[str]:
    words = (
        ["gpu_worker.cli", "run", "-", "--quiet"]
        if _is_installed("gpu_worker")
        else ["gpu_worker_processors"]
    )
    return [sys.executable, "-c", _START, *words, "--parent", str(os.getpid())]


def run_local(
    work: FileWork,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> TaskResult:
    """Runs a task here. A `checkpoint` ends the child.

    Args:
        work: its output, when it has one, appears whole or not at all.
        timeout: seconds of wall time; None waits for ever.
        env: environment of the child; default: this process's. Keys of endpoint and bucket are left
            out.

    Raises:
        ConfigError: what is needed is not installed, and the message says the pip line; or a
            variable does not parse.
        JobError: the task failed, or took longer than `timeout`; nothing was written.
        OSError: an input or the output's folder is not there.
    """
    if (problem := obstacle(work)) is not None:
        raise ConfigError(problem)
    checked = work.check()
    with tempfile.TemporaryDirectory(prefix="gpu-worker-client-") as folder:
        result = Path(folder) / "result.json"
        task = checked.model_copy(update={"result_url": str(result)}).to_wire()
        _answered(json.dumps(task).encode(), timeout, os.environ if env is None else env)
        return TASKS[work.task].result.from_json(result.read_bytes())


def _answered(task: bytes, timeout: float | None, env: Mapping[str, str]) -> dict[str, Any]:
    """The child's answer to a task; raises its error."""
    with tempfile.TemporaryFile() as notes:
        child = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=notes,
            env={name: value for name, value in env.items() if not name.startswith(_SECRET)},
            start_new_session=True,  # so that it can be ended whole; Ctrl-C is passed on by `_end`
        )
        try:
            output = _output(child, task, timeout)
        finally:
            _end(child)
            if child.stdout is not None:
                child.stdout.close()
        return _read(output, child.returncode, notes)


def _output(child: subprocess.Popen[bytes], task: bytes, timeout: float | None) -> bytes:
    end = None if timeout is None else time.monotonic() + timeout
    given: bytes | None = task
    while True:
        checkpoint()
        try:
            return child.communicate(given, CHECKPOINT_SECONDS)[0]
        except subprocess.TimeoutExpired:
            given = None  # what is not written yet is remembered
        if end is not None and time.monotonic() >= end:
            message = f"the task did not end within {timeout:g} s on this machine"
            raise job_error(ErrorBody(code=ErrorCode.time_limit.value, message=message))


def _read(output: bytes, code: int, notes: IO[bytes]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output)
        error = answer.get("error")
    except (ValueError, AttributeError):
        if code == WRONG_SETTINGS_STATUS:
            raise ConfigError(
                f"a run on this machine cannot be set up: {_last_words(notes, LAST_WORDS_CHARS)}"
            ) from None
        message = (
            f"the child process on this machine ended with {code} and no answer:"
            f" {_last_words(notes, LAST_WORDS_CHARS)}"
        )
        raise job_error(
            ErrorBody(code=ErrorCode.internal.value, message=message, retryable=True)
        ) from None
    if error is None:
        return answer
    body = ErrorBody.from_wire(error)
    if (
        body is None or body.code == ErrorCode.internal.value
    ):  # a bug: its traceback is nowhere else
        _log.error(
            "what the child process on this machine said last: %s",
            _last_words(notes, TRACEBACK_CHARS),
        )
    raise job_error(
        body or ErrorBody(code=ErrorCode.internal.value, message=redact(str(error)), retryable=True)
    )


def _last_words(notes: IO[bytes], chars: int) -> str:
    notes.seek(0)
    return redact(notes.read().decode("utf-8", "replace"))[-chars:].strip()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child that still runs: by an interrupt, at which it ends its engine, and by force when
    that takes long."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
