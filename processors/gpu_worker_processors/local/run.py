"""`python -m gpu_worker_processors < task.json`: one task on files of this machine, in an engine of
its own, sandboxed as the worker's is. stdout carries exactly one JSON object, the answer or
`{"error": "<compact JSON>"}`.

Inputs are read where they lie. Output and result appear under their names whole, after the
processor and its check are done, or not at all. However a run ends, by an interrupt or a kill too,
what it started ends with it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpu_worker_client.protocol import (
    MAX_TASK_BYTES,
    ErrorBody,
    ErrorCode,
    Stage,
    TaskBase,
    TaskError,
    TaskResult,
    Timings,
    WorkerInfo,
    parse_task,
)
from gpu_worker_processors import __version__
from gpu_worker_processors.atomic_file import atomic_file, disk_errors
from gpu_worker_processors.base import ignore_progress
from gpu_worker_processors.engine.errors import as_task_error
from gpu_worker_processors.engine.host import Engine, EngineAnswer, EngineJob
from gpu_worker_processors.engine.jobdir import LOCAL, JobDirectory, sweep
from gpu_worker_processors.engine.settings import EngineSettings
from gpu_worker_processors.engine.untrusted_file import open_made
from gpu_worker_processors.environment import ConfigError
from gpu_worker_processors.local.paths import Places, places_of
from gpu_worker_processors.redact import install as install_redaction
from gpu_worker_processors.redact import scrub
from gpu_worker_processors.results import completed, encoded, summary, whole_answer
from gpu_worker_processors.sandbox.lifeline import interrupt_with

PACKAGE = "gpu-worker-processors"
"""The distribution's name, for `WorkerInfo.package`."""
DEFAULT_SUFFIX = ".mp4"
"""Container of an output whose name has no suffix."""
INLINE_RESULT_BYTES = 1_000_000
"""A larger result that is in a file already is printed as its summary, as the worker answers it."""
KILL_AGAIN_SECONDS = 0.2
COPY_BYTES = 1 << 20
GZIP_LEVEL = 6


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
        return _Run(task, places_of(task), settings, env).answer()
    except KeyboardInterrupt:
        error = TaskError(ErrorCode.cancelled, "the run was stopped before it ended")
    except Exception as raised:  # noqa: BLE001 - the edge: everything becomes a typed answer
        error = as_task_error(raised)
    return {"error": scrub(error.body().to_wire())}


class _Run:
    """One task on its way."""

    def __init__(
        self, task: TaskBase, places: Places, settings: EngineSettings, env: Mapping[str, str]
    ) -> None:
        self._task = task
        self._places = places
        self._settings = settings
        self._env = env
        self._seconds: dict[Stage, float] = {}

    def answer(self) -> dict[str, Any]:
        sweep(self._settings.work_root, kinds=(LOCAL,))
        with ExitStack() as stack:
            with disk_errors():
                directory = stack.enter_context(JobDirectory(self._settings.work_root, LOCAL))
                directory.chmod(
                    0o755
                )  # a user that the engine may become passes through; what lies in it stays closed
                work = directory / "job"
                work.mkdir(mode=0o700)
                job = self._job(work)
            made = self._process(directory, job)
            result = self._deliver(job, made)
        if result.result_url is None:
            return cast("dict[str, Any]", whole_answer(result, sys.maxsize))
        return whole_answer(result, INLINE_RESULT_BYTES) or summary(result, result.result_url)

    def _job(self, work: Path) -> EngineJob:
        """The inputs stand in the job's directory under the names the worker gives them, as links:
        nothing of a path that a user chose reaches a command line."""
        places = self._places
        extra_inputs = {
            name: _linked(work / f"input-{name}", path)
            for name, path in places.extra_inputs.items()
        }
        suffix = places.output.suffix.lower() if places.output else ""
        return EngineJob(
            id=f"local-{uuid.uuid4().hex[:12]}",
            task=self._task,
            work_dir=work,
            input_path=_linked(work / "input", places.input) if places.input else None,
            output_path=work / f"output{suffix or DEFAULT_SUFFIX}" if places.output else None,
            output_name=places.output.name if places.output else "",
            extra_inputs=extra_inputs,
        )

    def _process(self, directory: Path, job: EngineJob) -> EngineAnswer:
        read = [
            path.resolve()
            for path in (job.input_path, *job.extra_inputs.values())
            if path is not None
        ]
        engine = Engine(replace(self._settings, work_root=directory), self._env, readable=read)
        with closing(engine), self._in_time(engine):
            with self._stage("load"):
                engine.start(self._task.task)
                engine.own(job.work_dir)
                engine.prepare(job)
            with self._stage("process"):
                return engine.run(job, ignore_progress)

    @contextmanager
    def _in_time(self, engine: Engine) -> Generator[None]:
        limit = self._settings.limits.max_seconds
        late, over = threading.Event(), threading.Event()

        def watch() -> None:
            if over.wait(limit):
                return
            late.set()
            engine.kill()
            while not over.wait(KILL_AGAIN_SECONDS):  # between two commands the engine starts anew
                engine.kill()

        threading.Thread(target=watch, name="time-limit", daemon=True).start()
        try:
            yield
        except TaskError as error:
            if not late.is_set():
                raise
            message = (
                f"the task ran longer than the limit of {limit:g} s; split the input or raise the"
                " limit"
            )
            raise TaskError(
                ErrorCode.time_limit, message, stage=error.stage, limit_seconds=limit
            ) from None
        finally:
            over.set()

    def _deliver(self, job: EngineJob, made: EngineAnswer) -> TaskResult:
        """Output and result get their names when both are written."""
        places = self._places
        with self._stage("deliver"), ExitStack() as both:
            started = time.perf_counter()
            if places.output is not None and job.output_path is not None:
                copy = both.enter_context(atomic_file(places.output, "output_url"))
                with open_made(job.output_path) as file, disk_errors():
                    shutil.copyfileobj(file, copy, COPY_BYTES)
            self._seconds["deliver"] = time.perf_counter() - started
            result = self._result(made)
            if places.result is not None:
                file = both.enter_context(atomic_file(places.result, "result_url"))
                _write(result, file, zipped=places.result.suffix.lower() == ".gz")
        return result

    def _result(self, made: EngineAnswer) -> TaskResult:
        timings = Timings(
            **{f"{stage}_sec": round(seconds, 3) for stage, seconds in self._seconds.items()},
            cold_start=True,
        )
        made_by = WorkerInfo(version=__version__, device=made.device, package=PACKAGE)
        result = completed(self._task, made, timings, made_by)
        output, written = self._places.output, self._places.result
        return result.model_copy(
            update={
                "output_url": None if output is None else str(output),
                "result_url": None if written is None else str(written),
            }
        )

    @contextmanager
    def _stage(self, stage: Stage) -> Generator[None]:
        """Adds the block's time to its stage, and names the stage in an error that does not."""
        started = time.perf_counter()
        try:
            yield
        except TaskError as error:
            error.stage = error.stage or stage
            raise
        finally:
            self._seconds[stage] = time.perf_counter() - started


def _linked(link: Path, path: Path) -> Path:
    link.symlink_to(path.resolve())
    return link


def _write(result: TaskResult, file: BinaryIO, *, zipped: bool) -> None:
    with ExitStack() as closing_it, disk_errors():
        out = (
            closing_it.enter_context(gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0))
            if zipped
            else file
        )
        for piece in encoded(result):
            out.write(piece)
