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
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from gpu_worker_client._blocking import checkpoint
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.files.work import FileWork, is_url
from gpu_worker_client.protocol import TASKS, ErrorBody, ErrorCode, TaskResult
from gpu_worker_client.protocol.errors import GpuWorkerError, job_error
from gpu_worker_client.protocol.foreign import redact
from gpu_worker_client.status import read_error

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
    urls = [str(file) for file in (*work.files.values(), work.output) if file and is_url(file)]
    if any(not url.lower().startswith("file:") for url in urls):
        return (
            "running on this machine with a URL for a file needs the worker: pip install gpu-worker"
        )
    return None


def _is_installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def run_local(
    work: FileWork,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> TaskResult:
    """Runs a task here, `timeout` seconds at most; its output appears whole or not at all. The
    child gets `env`, by default this process's, without the keys of endpoint and bucket. A
    `checkpoint` ends it.

    Raises:
        ConfigError: what is needed is not installed, and the message says the pip line; or a
            variable does not parse.
        JobError: the task failed, or took longer.
        OSError: an input or the output's folder is not there.
    """
    if (problem := obstacle(work)) is not None:
        raise ConfigError(problem)
    checked = work.check()
    with tempfile.TemporaryDirectory(prefix="gpu-worker-client-") as folder:
        result = Path(folder) / "result.json"
        task = checked.model_copy(update={"result_url": str(result)}).to_wire()
        _run_child(json.dumps(task).encode(), timeout, os.environ if env is None else env)
        return TASKS[work.task].result.from_json(result.read_bytes())


def _run_child(task: bytes, timeout: float | None, env: Mapping[str, str]) -> None:
    """Has the child do the task. Raises its error."""
    own = ["gpu_worker.cli", "run", "-", "--quiet"]
    words = own if _is_installed("gpu_worker") else ["gpu_worker_processors"]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as notes:
        # A file: what does not fit a pipe at once, `communicate` forgets after its first timeout.
        given.write(task)
        given.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-c", _START, *words, "--parent", str(os.getpid())],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=notes,
            env={name: value for name, value in env.items() if not name.startswith(_SECRET)},
            start_new_session=True,  # so that it can be ended whole; Ctrl-C is passed on by `_end`
        )
        try:
            answer = _answer(child, timeout)
        finally:
            _end(child)
            if child.stdout is not None:
                child.stdout.close()
        if (error := _error(answer, child.returncode, notes)) is not None:
            raise error


def _answer(child: subprocess.Popen[bytes], timeout: float | None) -> bytes:
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        checkpoint()
        with suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=CHECKPOINT_SECONDS)[0]
        if end is not None and time.monotonic() >= end:
            message = f"the task did not end within {timeout:g} s on this machine"
            raise job_error(ErrorBody(code=ErrorCode.time_limit.value, message=message))


def _error(answer: bytes, status: int, notes: IO[bytes]) -> GpuWorkerError | None:
    """What went wrong by the child's answer, its exit status and what it said; None: nothing."""
    notes.seek(0)
    said = redact(notes.read().decode("utf-8", "replace")).strip()
    try:
        error = json.loads(answer).get("error")
    except (ValueError, AttributeError):
        if status == WRONG_SETTINGS_STATUS:
            said = said[-LAST_WORDS_CHARS:]
            return ConfigError(f"a run on this machine cannot be set up: {said}")
        error = (
            f"the child process on this machine ended with {status} and no answer:"
            f" {said[-LAST_WORDS_CHARS:]}"
        )
    if error is None:
        return None
    body = read_error(str(error))
    if body.code == ErrorCode.internal.value:  # a bug: its traceback is nowhere else
        last = said[-TRACEBACK_CHARS:]
        _log.error("what the child process on this machine said last: %s", last)
    return job_error(body)


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
