"""The engine: a warm child process that runs processors on local files. Started by `engine.Engine`,
never by hand.

It is sandboxed before it reads the first job, has no network, and may be killed at any moment. It
reads one JSON command a line from stdin and writes one JSON event a line to the pipe that was its
stdout; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from gpu_worker_client.protocol import TASKS, Stage, TaskError
from gpu_worker_processors import registry
from gpu_worker_processors.base import Limits, LocalJob, ProcessorSettings
from gpu_worker_processors.engine.errors import as_task_error
from gpu_worker_processors.engine.jobdir import RESULT_NAME
from gpu_worker_processors.redact import install as install_redaction
from gpu_worker_processors.sandbox.level import SandboxLevel, SandboxSpec, apply

PROGRESS_INTERVAL_SECONDS = 0.2
"""Reports closer together than this are dropped here: the pipe carries a handful a second, not one
a frame."""


_SETTINGS = TypeAdapter(ProcessorSettings)


class Events:
    """The pipe to the parent, for one command: a thread that outlives it speaks for no other."""

    def __init__(self, stream: IO[str], number: int = 0) -> None:
        self._stream = stream
        self._number = number
        self._last_progress = 0.0
        self._last_stage: Stage | None = None

    def send(self, event: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"event": event, "number": self._number, **fields}) + "\n")
        self._stream.flush()

    def progress(
        self, stage: Stage, done: int, total: int | None = None, unit: str = "frames"
    ) -> None:
        now = time.monotonic()
        if (
            stage == self._last_stage
            and done != total
            and now - self._last_progress < PROGRESS_INTERVAL_SECONDS
        ):
            return
        self._last_stage, self._last_progress = stage, now
        self.send("progress", stage=stage, done=done, total=total, unit=unit)


def local_job(command: dict[str, Any], events: Events) -> LocalJob:
    """The command's paths and parameters as the value that processors take."""
    paths = command["paths"]
    params = TASKS[command["task"]].params.model_validate_json(command["params_json"])
    limits = Limits(**command["limits"])
    return LocalJob(
        id=command["id"],
        params=params,
        work_dir=Path(command["work_dir"]),
        input_path=Path(paths["input"]) if paths.get("input") else None,
        inputs={name: Path(path) for name, path in paths["inputs"].items()},
        output_path=Path(paths["output"]) if paths.get("output") else None,
        output_name=paths.get("output_name", ""),
        limits=replace(limits, on_damage=getattr(params, "on_damage", limits.on_damage)),
        progress=events.progress,
        settings=_SETTINGS.validate_python(command["settings"]),
    )


def execute(command: dict[str, Any], events: Events) -> None:
    """Runs one command and sends exactly one final event: `prepared`, `done` or `error`."""
    processor = registry.get(command["task"])
    job = local_job(command, events)
    if command["op"] == "prepare":
        processor.prepare(job)
        events.send("prepared")
        return
    started = time.perf_counter()
    result = processor.run(job)
    seconds = time.perf_counter() - started
    if job.warnings:
        result = result.model_copy(update={"warnings": [*result.warnings, *job.warnings]})
    (job.work_dir / RESULT_NAME).write_text(result.model_dump_json(), encoding="utf-8")
    events.send("done", seconds=seconds, device=device_in_use())


def device_in_use() -> dict[str, str | None]:
    """Where this process computes: torch's device when a processor has loaded torch, the CPU
    otherwise."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {"device": "cpu", "gpu": None}
    index = torch.cuda.current_device()
    return {"device": f"cuda:{index}", "gpu": torch.cuda.get_device_name(index)}


def serve(commands: IO[str], stream: IO[str]) -> None:
    for line in commands:
        command: dict[str, Any] = json.loads(line)
        events = Events(stream, command["number"])
        try:
            execute(command, events)
        except Exception as error:  # noqa: BLE001 - the edge: everything becomes a typed event
            events.send("error", error=as_task_error(error).body().model_dump(mode="json"))


def enter_sandbox() -> SandboxLevel:
    """Locks this process in, as its parent asked for in `GPU_WORKER_SANDBOX` (JSON of a
    `SandboxSpec`)."""
    return apply(SandboxSpec.from_json(os.environ.pop("GPU_WORKER_SANDBOX")))


def main() -> int:
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    events = Events(stream)
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # a library's print must not break the protocol
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    install_redaction(os.environ)
    try:
        level = enter_sandbox()
    except TaskError as error:
        events.send("error", error=error.body().model_dump(mode="json"))
        return 1
    events.send("ready", sandbox=level.summary(), pid=os.getpid())
    serve(sys.stdin, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
