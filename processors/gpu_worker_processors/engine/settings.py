"""What an operator chooses of an engine, on an endpoint or for one task on this machine: read once
from an environment mapping into a frozen value."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_worker_processors.base import Limits, Policy, ProcessorSettings
from gpu_worker_processors.environment import Reader

POLICIES: tuple[Policy, ...] = ("require", "best_effort", "off")


@dataclass(frozen=True)
class EngineSettings:
    """Each field is the variable `GPU_WORKER_<FIELD>`, but for `WEIGHTS_DIR`."""

    weights_dir: Path | None = None
    """`WEIGHTS_DIR`: folder of model weights, searched before anything is downloaded."""
    manifest: Path | None = None
    """Another manifest of the weights than the one that comes with the package."""
    work_root: Path = field(default_factory=lambda: Path(tempfile.gettempdir()).resolve())
    """Where job directories live. Put it on a disk with room for the largest input and output
    together."""
    sandbox: Policy = "best_effort"
    """Whether the engine must be sandboxed to start: `require`, `best_effort` or `off`."""
    render_sandbox: Policy = "require"
    """The same for the sandbox inside the engine's in which FFmpeg runs a stranger's command."""
    fresh_engine: bool = False
    """Gives every job an engine of its own, so that one which a hostile file has captured sees no
    later job. Each job then waits for an engine to start and its weights to load."""
    device: str = "auto"
    """ "auto", "cpu", "cuda" or "cuda:N"."""
    cuda_graphs: bool = False
    """On a GPU, record the kernels of a super-resolution network once for each frame size and
    launch them together from then on. Costs the memory of one more call. Off until it has been
    measured."""
    max_pixels: int = Limits.max_pixels
    """Pixels of one input frame: 8K UHD with room for its padding."""
    max_frames: int = Limits.max_frames
    """Frames of one input: 9 hours at 60 frames/s."""
    max_output_bytes: int = Limits.max_output_bytes
    """Largest output file."""
    job_time_limit_seconds: float = Limits.max_seconds
    """A job that runs longer is stopped with `time_limit`."""

    @property
    def limits(self) -> Limits:
        """What one job may decode and write."""
        return Limits(
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_output_bytes=self.max_output_bytes,
            max_seconds=self.job_time_limit_seconds,
        )

    @property
    def processors(self) -> ProcessorSettings:
        """What crosses to the processors."""
        return ProcessorSettings(
            self.weights_dir, self.device, self.cuda_graphs, self.render_sandbox, self.manifest
        )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> EngineSettings:
        """Reads the mapping (normally `os.environ`).

        Raises:
            ConfigError: a value that does not parse.
        """
        return cls(**engine_fields(Reader(env), cls()))


def engine_fields(read: Reader, default: EngineSettings) -> dict[str, Any]:
    """Every field of `EngineSettings` as the environment has it.

    Raises:
        ConfigError: a value that does not parse.
    """
    return {
        "weights_dir": read.path("WEIGHTS_DIR", default.weights_dir),
        "manifest": read.path("GPU_WORKER_MANIFEST", default.manifest),
        "work_root": read.path("GPU_WORKER_WORK_ROOT", default.work_root),
        "sandbox": read.choice("GPU_WORKER_SANDBOX", POLICIES, default.sandbox),
        "render_sandbox": read.choice(
            "GPU_WORKER_RENDER_SANDBOX", POLICIES, default.render_sandbox
        ),
        "fresh_engine": read.flag("GPU_WORKER_FRESH_ENGINE", default.fresh_engine),
        "device": read.text("GPU_WORKER_DEVICE", default.device),
        "cuda_graphs": read.flag("GPU_WORKER_CUDA_GRAPHS", default.cuda_graphs),
        "max_pixels": read.whole("GPU_WORKER_MAX_PIXELS", default.max_pixels),
        "max_frames": read.whole("GPU_WORKER_MAX_FRAMES", default.max_frames),
        "max_output_bytes": read.whole("GPU_WORKER_MAX_OUTPUT_BYTES", default.max_output_bytes),
        "job_time_limit_seconds": read.number(
            "GPU_WORKER_JOB_TIME_LIMIT_SECONDS", default.job_time_limit_seconds
        ),
    }
