"""Resource limits of the engine: what a job may write, open and leave behind. Soft and hard alike:
nothing can raise them."""

from __future__ import annotations

import resource

MAX_OPEN_FILES = 4096
"""A CUDA context opens a few hundred, a decoder a handful."""


def plan(max_output_bytes: int, hard: dict[int, int]) -> dict[int, int]:
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
    }
    return {which: _at_most(value, hard[which]) for which, value in wanted.items()}


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def apply(max_output_bytes: int) -> None:
    """Sets the limits of this process."""
    kinds = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
    for which, value in plan(
        max_output_bytes, {kind: resource.getrlimit(kind)[1] for kind in kinds}
    ).items():
        resource.setrlimit(which, (value, value))
