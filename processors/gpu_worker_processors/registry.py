"""The processors, each in a folder named after its task's module. Imported when first asked for: a
worker that only cuts scenes never loads torch."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from gpu_worker_client.protocol import TASKS, ErrorCode, TaskError
from gpu_worker_processors.base import Processor

PROCESSORS: dict[str, str] = {
    name: f"gpu_worker_processors.{kind.module}.processor" for name, kind in TASKS.items()
}
"""Task -> the module whose `PROCESSOR` runs it."""

STARTING_PROGRAMS = frozenset({"render", "selftest"})
"""Tasks whose processors start FFmpeg: the sandbox around them must leave them that, and nobody
else."""


def get(name: str) -> Processor:
    """The processor of a task: the object named `PROCESSOR` in its module.

    Raises:
        TaskError: `unsupported_task` when no processor has that name.
    """
    if name not in PROCESSORS:
        raise TaskError(
            ErrorCode.unsupported_task,
            f"no processor for this task; there are: {', '.join(PROCESSORS)}",
        )
    return import_module(PROCESSORS[name]).PROCESSOR


def programs(name: str) -> tuple[Path, ...]:
    """Executables that a task's processor starts, real paths; empty for most.

    Raises:
        RuntimeError: there is no FFmpeg here.
    """
    if name not in STARTING_PROGRAMS:
        return ()
    return Path(sys.executable).resolve(), import_module(PROCESSORS["render"]).ffmpeg_program()
