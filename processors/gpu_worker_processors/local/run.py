"""`python -m gpu_worker_processors < task.json`: one task on files of this machine, in an engine of
its own, sandboxed as the worker's is. stdout carries exactly one JSON object, the answer or
`{"error": "<compact JSON>"}`.

Inputs are read where they lie. Output and result appear under their names whole, after the
processor and its check are done, or not at all. However a run ends, by an interrupt or a kill too,
what it started ends with it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from gpu_worker_client.protocol import (
    MAX_TASK_BYTES,
    ErrorBody,
    ErrorCode,
    TaskBase,
    TaskError,
    parse_task,
)
from gpu_worker_processors import __version__
from gpu_worker_processors.atomic_file import disk_errors
from gpu_worker_processors.base import ignore_progress
from gpu_worker_processors.engine.errors import as_task_error
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.engine.jobdir import LOCAL, JobDirectory, sweep
from gpu_worker_processors.engine.settings import EngineSettings
from gpu_worker_processors.environment import ConfigError
from gpu_worker_processors.local.files import PathFiles
from gpu_worker_processors.local.paths import paths_of
from gpu_worker_processors.redact import install as install_redaction
from gpu_worker_processors.redact import scrub
from gpu_worker_processors.runner import JobRunner
from gpu_worker_processors.sandbox.lifeline import interrupt_with

PACKAGE = "gpu-worker-processors"
"""The distribution's name, for `WorkerInfo.package`."""


def main(words: Sequence[str]) -> int:
    """Returns 0: completed, 1: failed, 2: wrong call, settings that do not parse, or no task to
    read."""
    parser = argparse.ArgumentParser(
        prog="python -m gpu_worker_processors",
        description="Runs the task (JSON) on stdin on files of this machine.",
    )
    parser.add_argument(
        "--parent",
        metavar="PID",
        type=int,
        help="end, as by an interrupt, when this process has ended",
    )
    parent = parser.parse_args(words).parent
    _end_by_interrupt()
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    install_redaction(os.environ)
    try:
        if parent is not None:
            interrupt_with(parent)
        settings = EngineSettings.from_env(os.environ)
        payload = sys.stdin.buffer.read(MAX_TASK_BYTES + 1)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"gpu_worker_processors: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    answer = run_task(payload, settings, os.environ)
    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    if "error" not in answer:
        return 0
    if (body := ErrorBody.from_wire(answer["error"])) is not None:
        sys.stderr.write(f"gpu_worker_processors: {body.code}: {body.message}\n")
    return 1


def _end_by_interrupt() -> None:
    """The first signal that ends ends by an exception, so that everything is put away; those after
    it change nothing."""

    def end(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if (
        signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    ):  # of a run under nohup it is ignored, and stays so
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, end)


def run_task(payload: bytes, settings: EngineSettings, env: Mapping[str, str]) -> dict[str, Any]:
    """One task to its answer. Never raises.

    Args:
        payload: the task's JSON.
        env: a few variables of it go to the engine.
    """
    try:
        task = parse_task(payload)
        return _answer(task, PathFiles(paths_of(task)), settings, env)
    except KeyboardInterrupt:
        error = TaskError(ErrorCode.cancelled, "the run was stopped before it ended")
    except Exception as raised:  # noqa: BLE001 - the edge: everything becomes a typed answer
        error = as_task_error(raised)
    return {"error": scrub(error.body().to_wire())}


def _answer(
    task: TaskBase, files: PathFiles, settings: EngineSettings, env: Mapping[str, str]
) -> dict[str, Any]:
    sweep(settings.work_root, kinds=(LOCAL,))
    with ExitStack() as stack:
        with disk_errors():
            directory = stack.enter_context(JobDirectory(settings.work_root, LOCAL))
            # A user that the engine may become passes through; what lies in it stays closed.
            directory.chmod(0o755)
        own = replace(settings, work_root=directory)
        engine = stack.enter_context(closing(Engine(own, env, readable=files.sources)))
        job_id = f"local-{uuid.uuid4().hex[:12]}"
        return JobRunner(engine, own, PACKAGE, __version__).run(
            job_id, task, files, ignore_progress, threading.Event()
        )
