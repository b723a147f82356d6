"""The environment's wishes for jobs on files: where they run, how long, how many at once. Read once
into a frozen value.

GPU_WORKER_MODE                auto, remote or local; older name CGPU_GPU_ENABLED, of which false is
                               local and true is auto
GPU_WORKER_TIMEOUT_SECONDS     longest wall time of a job; older name CGPU_TIMEOUT
GPU_WORKER_MAX_PARALLEL_JOBS   jobs at once in `execute_all` and `JobManager`; older name
                               MAX_PARALLEL_JOBS
GPU_WORKER_HISTORY             file that holds past jobs' times, or `off`

Where both names are set, the first one counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.protocol.foreign import parse_integer

Mode = Literal["auto", "remote", "local"]
MODES: tuple[Mode, ...] = ("auto", "remote", "local")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Switches:
    mode: Mode = "auto"
    """`auto`: remote where that is set up, reachable and worth it, else local. `remote` and
    `local`: there and nowhere else."""
    timeout_seconds: float | None = None
    """Longest wall time of one job; None waits for ever."""
    max_parallel_jobs: int | None = None
    """None leaves the choice to `execute_all` (2) and `JobManager` (8)."""
    history: Path | None = None
    """Where past jobs' times are stored; None stores none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Switches:
        """
        Raises:
            ConfigError: a value that does not parse; the message names the variable.
        """
        return cls(
            mode=_mode(env),
            timeout_seconds=_seconds(env),
            max_parallel_jobs=_jobs(env),
            history=_history(env),
        )


def _first(env: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Name and value of the first variable that is set and not empty."""
    return next(
        ((name, env[name].strip()) for name in names if env.get(name, "").strip()), (names[0], "")
    )


def _mode(env: Mapping[str, str]) -> Mode:
    name, value = _first(env, "GPU_WORKER_MODE", "CGPU_GPU_ENABLED")
    value = value.lower()
    if name == "CGPU_GPU_ENABLED" and value in (*_TRUE, *_FALSE):
        return "auto" if value in _TRUE else "local"
    for mode in MODES:
        if value == mode and name == "GPU_WORKER_MODE":
            return mode
    if value:
        raise ConfigError(
            f"{name} must be {'true or false' if name == 'CGPU_GPU_ENABLED' else ', '.join(MODES)}"
        )
    return "auto"


def _seconds(env: Mapping[str, str]) -> float | None:
    name, value = _first(env, "GPU_WORKER_TIMEOUT_SECONDS", "CGPU_TIMEOUT")
    try:
        seconds = float(value) if value else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"{name} must be a number of seconds above 0")
    return seconds


def _jobs(env: Mapping[str, str]) -> int | None:
    name, value = _first(env, "GPU_WORKER_MAX_PARALLEL_JOBS", "MAX_PARALLEL_JOBS")
    if not value:
        return None
    jobs = parse_integer(value, least=1, most=1000)
    if jobs is None:
        raise ConfigError(f"{name} must be a whole number from 1 to 1000")
    return jobs


def _history(env: Mapping[str, str]) -> Path | None:
    _, value = _first(env, "GPU_WORKER_HISTORY")
    if value.lower() == "off":
        return None
    if value:
        return Path(value)
    cache = env.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gpu-worker-client" / "history.jsonl"
