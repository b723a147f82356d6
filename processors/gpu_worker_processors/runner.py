"""One task from its files to its answer: fetch while the engine loads, process, deliver, answer.

The same for a job of an endpoint, whose files are URLs, and for a task on this machine, whose files
are paths: `JobFiles` is all that differs. Every call blocks. Whatever ends a job, its directory is
gone, its output is there whole or not at all, and nothing of it runs on when the next starts but a
load that warms the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gpu_worker_client.protocol import (
    ErrorCode,
    OutputPart,
    Stage,
    TaskBase,
    TaskError,
    Timings,
    WorkerInfo,
)
from gpu_worker_processors import registry
from gpu_worker_processors.base import ProgressSink
from gpu_worker_processors.engine.host import Engine, EngineJob
from gpu_worker_processors.engine.jobdir import JobDirectory
from gpu_worker_processors.engine.settings import EngineSettings
from gpu_worker_processors.results import JobResult, completed

DEFAULT_SUFFIX = ".mp4"
"""Container of an output whose name has no suffix."""
KILL_AGAIN_SECONDS = 0.2
"""Between two commands of a stopped job the engine may start anew."""


class JobFiles(Protocol):
    """Where the files of one task come from and go to."""

    output_name: str | None
    """What the output is called, as a relative URL says it; None when the task makes no file."""
    output_suffix: str
    """Its suffix, lower case, ".mp4" for example; "" without one."""

    def earlier_answer(self) -> dict[str, Any] | None:
        """The answer when this very work was done before."""
        ...

    def fetch_weights(self, names: tuple[str, ...]) -> None:
        """Sees to it that these weights are there, if that is this side's to do."""
        ...

    def fetch(self, job: EngineJob) -> None:
        """Puts every input at its path."""
        ...

    def delivered(self, job: EngineJob) -> AbstractContextManager[list[OutputPart] | None]:
        """Stores the output; it is at its destination by the end of the block. Gives the parts that
        the caller has to complete, if any."""
        ...

    def answer(self, result: JobResult, stop: threading.Event) -> dict[str, Any]:
        """Stores the result where the task wants it, and gives what to answer."""
        ...

    def halt(self) -> None:
        """Ends the call under way, and every later one, within a second."""
        ...


@dataclass
class _Run:
    """What one job has collected so far."""

    job: EngineJob
    files: JobFiles
    stop: threading.Event
    stage: Stage = "validate"
    seconds: dict[Stage, float] = field(default_factory=dict[Stage, float])
    cold_start: bool = False

    @contextmanager
    def timed(self, stage: Stage) -> Generator[None]:
        """Adds the block's time to its stage, and names the stage in an error that does not."""
        self.stage = stage
        self.check_stop()
        started = time.perf_counter()
        try:
            yield
        except TaskError as error:
            error.stage = error.stage or stage
            raise
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise TaskError(ErrorCode.cancelled, "the job was stopped", stage=self.stage)


class JobRunner:
    """Runs tasks on one engine, one at a time.

    Args:
        package: the distribution that answers.
        version: its version.
        prices: USD per second by GPU name.
    """

    def __init__(
        self,
        engine: Engine,
        settings: EngineSettings,
        package: str,
        version: str,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._package, self._version = package, version
        self._prices = prices or {}
        # One thread: a load that its failed job left behind ends before that of the next begins.
        self._loader = ThreadPoolExecutor(1, "load")

    def run(
        self,
        job_id: str,
        task: TaskBase,
        files: JobFiles,
        on_progress: ProgressSink,
        stop: threading.Event,
    ) -> dict[str, Any]:
        """Runs one task to its answer.

        Args:
            stop: ends the job when set, the engine with it.

        Raises:
            TaskError: typed, with its stage; `time_limit` after the settings' limit.
        """
        own_directory = JobDirectory(self._settings.work_root)
        run = _Run(_laid_out(job_id, task, files, own_directory.path), files, stop)
        with self._in_time(run):
            with run.timed("fetch"):
                earlier = files.earlier_answer()
            if earlier is not None:
                return earlier
            with run.timed("load"):
                processor = registry.get(task.task)
                files.fetch_weights(
                    processor.required_weights(task.params, tuple(run.job.extra_inputs))
                )
            with own_directory as directory:
                self._fetch_and_load(run)
                self._engine.own(directory)
                with run.timed("process"):
                    made = self._engine.run(run.job, on_progress)
                started = time.perf_counter()
                with run.timed("deliver"), files.delivered(run.job) as parts:
                    run.seconds["deliver"] = time.perf_counter() - started
                    price = self._prices.get(made.gpu) if made.gpu else None
                    made_by = WorkerInfo(
                        version=self._version, device=made.device, package=self._package
                    )
                    result = completed(task, made, _timings(run), made_by, price)
                    said = parts and [part.model_dump(mode="json") for part in parts]
                    try:
                        answer = files.answer(result.plus(output_parts=said), stop)
                    except TaskError as error:
                        if error.code is ErrorCode.internal:
                            self._engine.kill()  # nobody knows what it would leave next
                        raise
                    run.check_stop()
                    return answer

    def _fetch_and_load(self, run: _Run) -> None:
        """The inputs come while the engine starts and loads its networks. A failed load ends the
        fetch. A failed fetch is answered at once: its load warms the engine for the next job."""
        loading = self._loader.submit(self._load, run)
        loading.add_done_callback(lambda load: load.exception() and run.files.halt())
        try:
            with run.timed("fetch"):
                run.files.fetch(run.job)
            loading.result()
        except BaseException as error:
            if run.stop.is_set() or not isinstance(error, Exception):
                while not loading.done():
                    self._engine.kill()
                    wait([loading], KILL_AGAIN_SECONDS)
            if loading.done() and (failure := loading.exception()) is not None:
                raise failure from None
            raise

    def _load(self, run: _Run) -> None:
        with run.timed("load"):
            run.cold_start = self._engine.start(run.job.task.task)
            self._engine.prepare(run.job)

    @contextmanager
    def _in_time(self, run: _Run) -> Generator[None]:
        """Stops the job when its time is over or its caller wants it."""
        limit = self._settings.limits.max_seconds
        late, over = threading.Event(), threading.Event()
        stop = run.stop

        def watch() -> None:
            if not stop.wait(limit):
                late.set()
                stop.set()
            while not over.is_set():
                run.files.halt()
                self._engine.kill()
                over.wait(KILL_AGAIN_SECONDS)

        watching = threading.Thread(target=watch, name="time-limit", daemon=True)
        watching.start()
        try:
            yield
        except Exception:
            if not late.is_set():
                raise
            message = (
                f"the job ran longer than the limit of {limit:g} s; split the input or raise the"
                " limit"
            )
            raise TaskError(
                ErrorCode.time_limit, message, stage=run.stage, limit_seconds=limit
            ) from None
        finally:
            over.set()
            stop.set()
            run.files.halt()
            watching.join()


def _laid_out(job_id: str, task: TaskBase, files: JobFiles, directory: Path) -> EngineJob:
    """The job with its paths: nothing of a name that a caller chose is in them but the output's
    suffix."""
    makes_a_file = files.output_name is not None
    return EngineJob(
        id=job_id,
        task=task,
        work_dir=directory,
        input_path=directory / "input" if "input_url" in task.reads() else None,
        output_path=directory / f"output{files.output_suffix or DEFAULT_SUFFIX}"
        if makes_a_file
        else None,
        output_name=files.output_name or "",
        extra_inputs={name: directory / f"input-{name}" for name in task.extra_inputs()},
    )


def _timings(run: _Run) -> Timings:
    seconds = {f"{stage}_sec": round(value, 3) for stage, value in run.seconds.items()}
    return Timings(**seconds, cold_start=run.cold_start)
