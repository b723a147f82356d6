"""The parent's side of the engine: starts the warm child, sends it one command at a time, kills it
whole.

Between the two stands a `supervisor`, so that a kill, and the worker's own end, take everything
that the child started. A child that dies without a word becomes a typed, retryable error, and the
next command gets a fresh one. All calls block; the worker calls them from threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import site
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from pydantic import TypeAdapter

from gpu_worker_client.protocol import ErrorBody, ErrorCode, Stage, TaskBase, TaskError
from gpu_worker_processors import registry
from gpu_worker_processors.base import ProcessorSettings, ignore_progress
from gpu_worker_processors.engine.events import (
    Done,
    Event,
    EventPipe,
    Failed,
    Prepared,
    ProgressEvent,
    Ready,
)
from gpu_worker_processors.engine.jobdir import ENGINE, RESULT_NAME, JobDirectory
from gpu_worker_processors.engine.log import EngineLog
from gpu_worker_processors.engine.settings import EngineSettings
from gpu_worker_processors.engine.untrusted_file import open_made
from gpu_worker_processors.limited_child import installed_for_one_user, isolated
from gpu_worker_processors.media.open_limits import error_of
from gpu_worker_processors.sandbox import supervisor
from gpu_worker_processors.sandbox.identity import SPARE_USERS, hand_over
from gpu_worker_processors.sandbox.level import SandboxSpec

logger = logging.getLogger(__name__)

_CHILD = "gpu_worker_processors.engine.process"

_SUPERVISE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import supervisor;"
    " supervisor.main(sys.argv[1:])"
)

KILL_WAIT_SECONDS = 5.0
"""An engine that got SIGKILL and is not gone after this long hangs in the kernel (a dead GPU); it
is left behind."""

MAX_RESULT_BYTES = 128 * 1024**2
"""Largest result that is read from the engine: ten million boxes as columns have some 75 MB."""

OnProgress = Callable[[Stage, int, int | None, str], None]

Final = TypeVar("Final", Prepared, Done)

_PASSED_ON = (
    "PATH",
    "LANG",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "COVERAGE_PROCESS_START",
)
"""Variables of the parent that the child needs to find its libraries and its GPU. Keys and tokens
are not among them."""

_SETTINGS = TypeAdapter(ProcessorSettings)


@dataclass(frozen=True)
class EngineJob:
    """One task with its local paths, as the engine gets it."""

    id: str
    task: TaskBase
    work_dir: Path
    input_path: Path | None = None
    output_path: Path | None = None
    output_name: str = ""
    """As `LocalJob.output_name`."""
    extra_inputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """As `LocalJob.inputs`."""


@dataclass(frozen=True)
class EngineAnswer:
    """What a run gave."""

    result: bytes = field(repr=False)
    """The processor's result, JSON that nobody has parsed."""
    seconds: float
    device: str
    gpu: str | None
    sandbox: str | None = None
    """How well the engine was sandboxed, as `SandboxLevel.name` says it."""


class Engine:
    """Owner of at most one engine child.

    Args:
        settings: its sandbox and limits.
        env: this process's variables; the child gets a few of them: no key, no token.
        readable: files outside the work root that its jobs read where they lie.
    """

    def __init__(
        self, settings: EngineSettings, env: Mapping[str, str], readable: Sequence[Path] = ()
    ) -> None:
        self._settings = settings
        self._env = env
        self._readable = tuple(readable)
        self._process: subprocess.Popen[bytes] | None = None
        """The supervisor. It ends when the engine has ended, and as that did."""
        self._events: EventPipe | None = None
        self._home: JobDirectory | None = None
        self._log: EngineLog | None = None
        self._lock = (
            threading.RLock()
        )  # guards the process handle; a kill must never wait for a running command
        self._turn = threading.Lock()  # one command at a time
        self._killed = False
        self._pid: int | None = None
        self._commands = 0
        """How many the child got. Its events carry this number."""
        self._usable = False
        """Nothing has shaken the trust in the child: it may get the next command."""
        self._sandbox: SandboxSpec | None = None
        self.sandbox: dict[str, Any] = {}

    @property
    def alive(self) -> bool:
        process, events = self._process, self._events
        if process is None or events is None:
            return False
        return process.poll() is None and not events.is_hung_up

    @property
    def pid(self) -> int | None:
        """The child's, as it says itself; None when it says none."""
        return self._pid if self._process is not None else None

    def start(self, task: str = "") -> bool:
        """Starts the child unless one is alive. Returns whether it had to (a cold start).

        Args:
            task: what it is to run. Its sandbox opens only the programs that this task starts, so a
                child that was started for another kind of task is replaced.

        Raises:
            TaskError: `sandbox_unavailable` when the sandbox is required and cannot be had here;
                `internal` when it dies at once.
        """
        programs = registry.programs(task)
        with self._lock:
            is_of_this_kind = self._sandbox is not None and self._sandbox.executables == programs
            if self._usable and self.alive and is_of_this_kind and self._is_quiet():
                return False
            self.kill()
            self._close()
            self._killed, self._commands = False, 0
            self._home = JobDirectory(self._settings.work_root, ENGINE)
            home = self._home.__enter__()
            sandbox = self._sandbox = self._sandbox_spec(programs)
            hand_over(home, sandbox.user)
            self._log = EngineLog()
            process = self._process = subprocess.Popen(
                _supervised(isolated(_CHILD)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log.writing,
                env=self._child_environment(home, sandbox),
                cwd=home,
                start_new_session=True,
            )
            self._log.start()
            assert process.stdout is not None
            self._events = EventPipe(cast(BufferedReader, process.stdout))
        ready = self._read_event(process)
        if isinstance(ready, Failed):
            self.kill()
            raise _typed(ready.error)
        if not isinstance(ready, Ready):
            raise self._nonsense(f"`{ready.event}` before it was ready")
        self.sandbox, self._pid = ready.sandbox, ready.pid
        self._usable = True
        return True

    def prepare(self, job: EngineJob) -> None:
        """Loads what the job needs, while its input is still on its way."""
        self._command("prepare", job, ignore_progress, Prepared)

    def run(self, job: EngineJob, on_progress: OnProgress) -> EngineAnswer:
        """Runs the job to its end.

        Raises:
            TaskError: whatever the processor said; `resource_exhausted` when the system killed the
                child; `internal` when it crashed.
        """
        try:
            return self._run(job, on_progress)
        finally:
            if self._settings.fresh_engine:
                self.kill()

    def _run(self, job: EngineJob, on_progress: OnProgress) -> EngineAnswer:
        done = self._command("run", job, on_progress, Done)
        try:
            result = _read_result(job.work_dir / RESULT_NAME)
        except TaskError:
            self.kill()
            raise
        level = self.sandbox.get("level")
        return EngineAnswer(
            result,
            done.seconds,
            done.device.device,
            done.device.gpu,
            None if level is None else str(level),
        )

    def own(self, path: Path) -> None:
        """Gives a job's directory to the user that the engine became, if it became one."""
        hand_over(path, self._sandbox.user if self._sandbox else None)

    def kill(self) -> None:
        """Ends the child and everything it started, at once. Safe from any thread, at any moment,
        twice."""
        with self._lock:
            process = self._process
            self._killed, self._usable = True, False
            if process is None or process.poll() is not None:
                return
            process.terminate()
            try:
                process.wait(KILL_WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                logger.error(
                    "engine %s did not end %g s after SIGKILL", self.pid, KILL_WAIT_SECONDS
                )

    def close(self) -> None:
        """Kills the child and releases its pipes."""
        self.kill()
        with self._turn:
            self._close()

    def _close(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._process = self._events = None
        if self._log is not None:
            self._log.close(KILL_WAIT_SECONDS)
            self._log = None
        if self._home is not None:  # nothing of one engine reaches the next
            self._home.__exit__(None, None, None)
            self._home = None

    def _command(
        self,
        op: Literal["prepare", "run"],
        job: EngineJob,
        on_progress: OnProgress,
        final: type[Final],
    ) -> Final:
        with self._turn:
            self.start(job.task.task)
            with self._lock:
                process, log = self._process, self._log
            assert process is not None and process.stdin is not None and log is not None
            log.next_command()
            self._commands += 1
            try:
                process.stdin.write(json.dumps(self._message(op, job)).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise self._death(process) from None
            while True:
                event = self._read_event(process)
                if isinstance(event, ProgressEvent):
                    on_progress(event.stage, event.done, event.total, event.unit)
                    continue
                self._end_strays(process)
                if isinstance(event, Failed):
                    raise _typed(event.error)
                if isinstance(event, final):
                    return event
                raise self._nonsense(f"`{event.event}` as the answer to `{op}`")

    def _is_quiet(self) -> bool:
        """Whether the child waits for a command. What it said unasked would answer the next job."""
        is_quiet = self._events is not None and self._events.is_empty
        if not is_quiet:
            logger.error("engine %s spoke unasked and was replaced", self.pid)
        return is_quiet

    def _end_strays(self, process: subprocess.Popen[bytes]) -> None:
        """No process of one job sees the next: an engine that left one running goes with it."""
        may_start = self._sandbox is not None and self._sandbox.executables
        if may_start and len(supervisor.descendants(process.pid)) > 1:
            logger.error("engine %s left a process running and was replaced", self.pid)
            self.kill()

    def _message(self, op: str, job: EngineJob) -> dict[str, Any]:
        return {
            "op": op,
            "number": self._commands,
            "id": job.id,
            "task": job.task.task,
            # The parameters that were set, and paths: no URL, no header, no key crosses this pipe.
            "params_json": job.task.params.model_dump_json(exclude_unset=True),
            "work_dir": str(job.work_dir),
            "paths": {
                "input": str(job.input_path) if job.input_path else None,
                "output": str(job.output_path) if job.output_path else None,
                "output_name": job.output_name,
                "inputs": {name: str(path) for name, path in job.extra_inputs.items()},
            },
            "limits": asdict(self._settings.limits),
            "settings": _SETTINGS.dump_python(self._settings.processors, mode="json"),
        }

    def _read_event(self, process: subprocess.Popen[bytes]) -> Event:
        events = self._events
        if events is None:
            raise self._death(process)
        try:
            event = events.read()
        except ValueError as error:
            # The text of it is the engine's: not logged.
            raise self._nonsense(type(error).__name__) from None
        if event is None:
            raise self._death(process)
        if event.number != self._commands:
            raise self._nonsense("an event of another command")
        return event

    def _nonsense(self, what: str) -> TaskError:
        """The error after something that breaks the protocol. The engine goes: nobody knows what it
        would say to the next job."""
        logger.error("engine %s broke the protocol: %s", self.pid, what)
        self.kill()
        return TaskError(
            ErrorCode.internal,
            "the engine sent what it never should and was replaced; the job can be retried",
        )

    def _death(self, process: subprocess.Popen[bytes]) -> TaskError:
        """Why the child is gone, as an error for the job that was running."""
        try:
            status = process.wait(KILL_WAIT_SECONDS)
        except subprocess.TimeoutExpired:  # a GPU that hangs at its exit does this too
            return self._nonsense("it closed its pipe and lives")
        if self._killed:
            return TaskError(ErrorCode.cancelled, "the job was stopped")
        if status == -signal.SIGKILL:
            return TaskError(
                ErrorCode.resource_exhausted,
                "the system ended the engine (most often: out of memory); retry, on a worker with"
                " more memory if it repeats",
            )
        if status == -signal.SIGXFSZ:
            return TaskError(
                ErrorCode.output_too_large, "the output exceeds this worker's size limit"
            )
        over_a_limit = error_of(status, self._settings.limits)
        if over_a_limit is not None:
            return over_a_limit
        logger.error("engine %s ended with status %d", self.pid, status)
        return TaskError(
            ErrorCode.internal, "the engine crashed; the job can be retried", status=status
        )

    def _child_environment(self, home: Path, sandbox: SandboxSpec) -> dict[str, str]:
        env = {name: self._env[name] for name in _PASSED_ON if name in self._env}
        env |= {name: value for name, value in self._env.items() if name.startswith("NVIDIA_")}
        env |= {
            "HOME": str(home),
            "TMPDIR": str(home),
            # Waiting torch threads sleep instead of spinning: they share the cores with decoder and
            # encoder. On a busy two-core machine the same upscale took 1.4 s like this and 8 to 42
            # s with spinning.
            "OMP_WAIT_POLICY": self._env.get("OMP_WAIT_POLICY", "PASSIVE"),
            # OpenBLAS, which numpy calls, spins whatever that says: on two busy cores an engine was
            # once found in one small product after five minutes. On three busy processes it took
            # 3.4 ms with one thread and 12 with two.
            "OPENBLAS_NUM_THREADS": self._env.get("OPENBLAS_NUM_THREADS", "1"),
            # ultralytics phones home, installs and downloads unless told not to before its import.
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "0",
            "YOLO_CONFIG_DIR": str(home),
            "GPU_WORKER_SANDBOX": sandbox.to_json(),
        }
        if installed_for_one_user():
            env["PYTHONUSERBASE"] = site.getuserbase()  # HOME is another one there
        if sandbox.executables:
            env["IMAGEIO_FFMPEG_EXE"] = str(
                sandbox.executables[-1]
            )  # found already, and looking for it takes more than it may
        return env

    def _sandbox_spec(self, programs: tuple[Path, ...]) -> SandboxSpec:
        s = self._settings
        return SandboxSpec.for_engine(
            policy=s.sandbox,
            work_root=s.work_root,
            weights_dir=s.weights_dir,
            max_output_bytes=s.limits.max_output_bytes,
            executables=programs,
            readable=(*self._readable, *([s.manifest] if s.manifest else [])),
            # Of two workers on one machine neither's engine reads or signals the other's.
            slot=os.getpid() % SPARE_USERS,
        )


def _supervised(command: list[str]) -> list[str]:
    folder = str(Path(supervisor.__file__).parent)
    own = str(os.getpid())
    return [sys.executable, "-I", "-S", "-c", _SUPERVISE, folder, own, json.dumps(command)]


def _read_result(path: Path) -> bytes:
    with open_made(path) as file:
        data = file.read(MAX_RESULT_BYTES + 1)
    if len(data) > MAX_RESULT_BYTES:
        message = f"the result has more than {MAX_RESULT_BYTES} bytes; split the input"
        raise TaskError(ErrorCode.result_too_large, message, limit=MAX_RESULT_BYTES)
    return data


def _typed(body: ErrorBody) -> TaskError:
    try:
        error = TaskError(ErrorCode(body.code), body.message)
    except ValueError:
        error = TaskError(ErrorCode.internal, "the engine failed in a way that it has no name for")
    error.stage = cast(Stage, body.stage) if body.stage in get_args(Stage) else None
    error.details = body.details
    return error
