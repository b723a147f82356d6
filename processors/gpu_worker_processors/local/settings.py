"""What an operator can choose of a local run: the worker's variables of the same names, as far as
they mean something here."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gpu_worker_processors.base import Limits
from gpu_worker_processors.environment import Reader
from gpu_worker_processors.sandbox.level import Policy

_POLICIES = ("require", "best_effort", "off")


@dataclass(frozen=True)
class LocalSettings:
    """An `EngineSettings`."""

    weights_dir: Path | None = None
    """`WEIGHTS_DIR`."""
    work_root: Path = field(default_factory=lambda: Path(tempfile.gettempdir()).resolve())
    """`GPU_WORKER_WORK_ROOT`: where the run's own directory is made; with room for the output."""
    sandbox: Policy = "best_effort"
    """`GPU_WORKER_SANDBOX`."""
    limits: Limits = Limits()
    """`GPU_WORKER_MAX_PIXELS`, `GPU_WORKER_MAX_FRAMES`, `GPU_WORKER_MAX_OUTPUT_BYTES`,
    `GPU_WORKER_JOB_TIME_LIMIT_SECONDS`."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> LocalSettings:
        """Reads the mapping (normally `os.environ`). What processors read of it,
        `engine_environment`, is checked too.

        Raises:
            ConfigError: a value that does not parse.
        """
        read, default, bounds = Reader(env), cls(), Limits()
        read.choice("GPU_WORKER_RENDER_SANDBOX", _POLICIES, "require")
        read.flag("GPU_WORKER_CUDA_GRAPHS", False)
        return cls(
            weights_dir=read.path("WEIGHTS_DIR", None),
            work_root=read.path("GPU_WORKER_WORK_ROOT", default.work_root) or default.work_root,
            sandbox=cast(Policy, read.choice("GPU_WORKER_SANDBOX", _POLICIES, default.sandbox)),
            limits=Limits(
                max_pixels=read.whole("GPU_WORKER_MAX_PIXELS", bounds.max_pixels),
                max_frames=read.whole("GPU_WORKER_MAX_FRAMES", bounds.max_frames),
                max_output_bytes=read.whole("GPU_WORKER_MAX_OUTPUT_BYTES", bounds.max_output_bytes),
                max_seconds=read.number("GPU_WORKER_JOB_TIME_LIMIT_SECONDS", bounds.max_seconds),
            ),
        )
