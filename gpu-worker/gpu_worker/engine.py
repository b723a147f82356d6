"""The parent's side of the engine: starts the warm child, sends it one command at a time, kills it whole.

The child leads its own process group, so a kill takes everything it started with it. A child that dies without a word becomes a
typed, retryable error, and the next command gets a fresh one. All calls block; the worker calls them from threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from gpu_worker.sandbox.identity import hand_over
from gpu_worker.sandbox.level import JailSpec
from gpu_worker.settings import Settings, engine_environment
from gpu_worker_client.protocol import ErrorBody, ErrorCode, Stage, TaskBase, TaskError
from gpu_worker_processors.base import Limits, ignore_progress

logger = logging.getLogger(__name__)

KILL_WAIT_SECONDS = 5.0
"""A process group that got SIGKILL and is not gone after this long hangs in the kernel (a dead GPU); it is left behind."""

OnProgress = Callable[[Stage, int, int | None, str], None]

_PASSED_ON = (
    "PATH",
    "LANG",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "COVERAGE_PROCESS_START",
)
"""Variables of the parent that the child needs to find its libraries and its GPU. Keys and tokens are not among them."""


@dataclass(frozen=True)
class EngineJob:
    """One task with its local paths, as the engine gets it."""

    id: str
    task: TaskBase
    work_dir: Path
    input_path: Path | None = None
    output_path: Path | None = None


@dataclass(frozen=True)
class EngineAnswer:
    """What a run gave."""

    result: dict[str, Any] = field(repr=False)
    """The processor's result, JSON."""
    seconds: float
    device: str
    gpu: str | None


class Engine:
    """Owner of at most one engine child."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        self._settings = settings
        self._env = env
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.RLock()  # guards the process handle; a kill must never wait for a running command
        self._turn = threading.Lock()  # one command at a time
        self._killed = False
        self._jail: JailSpec | None = None
        self.sandbox: dict[str, Any] = {}

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> bool:
        """Starts the child unless one is alive. Returns whether it had to (a cold start).

        Raises:
            TaskError: `sandbox_unavailable` when the jail is required and cannot be had here; `internal` when it dies at once.
        """
        with self._lock:
            if self.alive:
                return False
            self._close()
            self._killed = False
            home = self._settings.work_root / "engine-home"
            home.mkdir(parents=True, exist_ok=True)
            jail = self._jail = self._jail or self._jail_spec()
            hand_over(home, jail.user)
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "gpu_worker.engine_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=self._child_environment(home, jail),
                cwd=home,
                start_new_session=True,
            )
        ready = self._read_event(process)
        if ready["event"] == "error":
            self.kill()
            raise _typed(ready["error"])
        self.sandbox = ready["sandbox"]
        return True

    def prepare(self, job: EngineJob) -> None:
        """Loads what the job needs, while its input is still on its way."""
        self._command("prepare", job, ignore_progress)

    def run(self, job: EngineJob, on_progress: OnProgress) -> EngineAnswer:
        """Runs the job to its end.

        Raises:
            TaskError: whatever the processor said; `resource_exhausted` when the system killed the child; `internal` when it
                crashed.
        """
        done = self._command("run", job, on_progress)
        result = json.loads(Path(done["result_path"]).read_bytes())
        return EngineAnswer(result=result, seconds=done["seconds"], **done["device"])

    def own(self, path: Path) -> None:
        """Gives a job's directory to the user that the engine became, if it became one."""
        hand_over(path, self._jail.user if self._jail else None)

    def kill(self) -> None:
        """Ends the child and everything it started, at once. Safe from any thread, at any moment, twice."""
        with self._lock:
            process = self._process
            self._killed = True
            if process is None or process.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(KILL_WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                logger.error("engine %d did not end %g s after SIGKILL", process.pid, KILL_WAIT_SECONDS)

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
            self._process = None

    def _command(self, op: Literal["prepare", "run"], job: EngineJob, on_progress: OnProgress) -> dict[str, Any]:
        with self._turn:
            self.start()
            with self._lock:
                process = self._process
            assert process is not None and process.stdin is not None
            try:
                process.stdin.write(json.dumps(self._message(op, job)) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise self._death(process) from None
            while True:
                event = self._read_event(process)
                if event["event"] == "progress":
                    on_progress(event["stage"], event["done"], event["total"], event["unit"])
                elif event["event"] == "error":
                    raise _typed(event["error"])
                else:
                    return event

    def _message(self, op: str, job: EngineJob) -> dict[str, Any]:
        s = self._settings
        limits = Limits(max_pixels=s.max_pixels, max_frames=s.max_frames, max_output_bytes=s.max_output_bytes)
        return {
            "op": op,
            "id": job.id,
            "task": job.task.task,
            # Only the parameters matter to the engine: no URL, no header, no key crosses this pipe.
            "task_json": _without_urls(job.task),
            "work_dir": str(job.work_dir),
            "paths": {
                "input": str(job.input_path) if job.input_path else None,
                "output": str(job.output_path) if job.output_path else None,
            },
            "limits": asdict(limits),
            "settings": engine_environment(self._env),
        }

    def _read_event(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death(process)
        return json.loads(line)

    def _death(self, process: subprocess.Popen[str]) -> TaskError:
        """Why the child is gone, as an error for the job that was running."""
        status = process.wait(KILL_WAIT_SECONDS)
        if self._killed:
            return TaskError(ErrorCode.cancelled, "the job was stopped")
        if status == -signal.SIGKILL:
            return TaskError(
                ErrorCode.resource_exhausted,
                "the system ended the engine (most often: out of memory); retry, on a worker with more memory if it repeats",
            )
        if status == -signal.SIGXFSZ:
            return TaskError(ErrorCode.output_too_large, "the output exceeds this worker's size limit")
        logger.error("engine %d ended with status %d", process.pid, status)
        return TaskError(ErrorCode.internal, "the engine crashed; the job can be retried", status=status)

    def _child_environment(self, home: Path, jail: JailSpec) -> dict[str, str]:
        env = {name: self._env[name] for name in _PASSED_ON if name in self._env}
        env |= {name: value for name, value in self._env.items() if name.startswith("NVIDIA_")}
        env |= engine_environment(self._env)
        env |= {
            "HOME": str(home),
            "TMPDIR": str(home),
            "PYTHONUNBUFFERED": "1",
            # Waiting torch threads sleep instead of spinning: they share the cores with decoder and encoder. On a busy two-core
            # machine the same upscale took 1.4 s like this and 8 to 42 s with spinning.
            "OMP_WAIT_POLICY": self._env.get("OMP_WAIT_POLICY", "PASSIVE"),
            # ultralytics phones home, installs and downloads unless told not to before its import.
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "0",
            "YOLO_CONFIG_DIR": str(home),
            "GPU_WORKER_JAIL": jail.to_json(),
        }
        return env

    def _jail_spec(self) -> JailSpec:
        s = self._settings
        return JailSpec.for_engine(
            policy=s.sandbox,
            work_root=s.work_root,
            weights_dir=s.weights_dir,
            max_output_bytes=s.max_output_bytes,
            slot=0,
        )


def _without_urls(task: TaskBase) -> str:
    """The task with a placeholder for every URL, so that it still parses on the other side."""
    data = task.model_dump(mode="json", exclude_unset=True, include={"task", "schema_version", "params"})
    data["task"] = task.task
    fields = type(task).model_fields
    if "input_url" in fields:
        data["input_url"] = "local:input"
    if "output_url" in fields:
        data["output_url"] = "local:output"
    return json.dumps(data)


def _typed(body: dict[str, Any]) -> TaskError:
    parsed = ErrorBody.model_validate(body)
    return TaskError(ErrorCode(parsed.code), parsed.message, stage=cast(Stage | None, parsed.stage), **parsed.details)
