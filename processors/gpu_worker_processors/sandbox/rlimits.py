"""Resource limits of the engine: what a job may write, open and leave behind. Soft and hard alike:
nothing can raise them."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

MAX_OPEN_FILES = 4096
"""A CUDA context opens a few hundred, a decoder a handful."""


MAX_TASKS, TASKS_PER_CORE = 1024, 64
"""Threads and processes of an engine with all it starts: torch, OpenMP, a decoder, an encoder and
FFmpeg have some each per core. The kernel counts by user, over all containers of a machine: twenty
engines fit beside each other."""


def plan(max_output_bytes: int, max_tasks: int, hard: dict[int, int]) -> dict[int, int]:
    """Limit by resource, never above what the process may set (`hard`, where -1 is unlimited).

    The address space stays unlimited: a CUDA context reserves terabytes of it. Memory is the
    container's limit to keep.
    """
    wanted = {
        resource.RLIMIT_CORE: 0,  # a core file would hold the job's frames
        resource.RLIMIT_FSIZE: (
            max_output_bytes
        ),  # Python ignores SIGXFSZ, so a write fails with EFBIG
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_NPROC: max_tasks,
    }
    return {which: _at_most(value, hard[which]) for which, value in wanted.items()}


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def apply(max_output_bytes: int, user: int) -> None:
    """Sets the limits of this process, which is to run as this user."""
    max_tasks = tasks_of(user) + MAX_TASKS + TASKS_PER_CORE * (os.cpu_count() or 1)
    kinds = (
        *(resource.RLIMIT_CORE, resource.RLIMIT_FSIZE),
        *(resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC),
    )
    for which, value in plan(
        max_output_bytes, max_tasks, {kind: resource.getrlimit(kind)[1] for kind in kinds}
    ).items():
        resource.setrlimit(which, (value, value))


def tasks_of(user: int) -> int:
    """How many threads this user has now, in this container."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if process.stat().st_uid == user:
                count += sum(1 for _ in (process / "task").iterdir())
    return count
