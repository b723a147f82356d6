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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.protocol.foreign import parse_integer

T = TypeVar("T")
Mode = Literal["auto", "remote", "local"]
MODES: dict[str, Mode] = {"auto": "auto", "remote": "remote", "local": "local"}
_SWITCH: dict[str, Mode] = {
    **dict.fromkeys(("1", "true", "yes", "on"), "auto"),
    **dict.fromkeys(("0", "false", "no", "off"), "local"),
}


@dataclass(frozen=True)
class Switches:
    mode: Mode = "auto"
    """`auto`: remote where that is set up, reachable and worth it, else local."""
    timeout_seconds: float | None = None
    """Longest wall time of one job; None waits for ever."""
    max_parallel_jobs: int | None = None
    """None leaves the choice to `execute_all` (2) and `JobManager` (8)."""
    history: Path | None = None
    """Where past jobs' times are stored; None stores none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Switches:
        """Raises ConfigError: a value that does not parse; the message names the variable."""
        mode: Mode | None = _read(env, "GPU_WORKER_MODE", MODES.get, ", ".join(MODES))
        mode = mode or _read(env, "CGPU_GPU_ENABLED", _SWITCH.get, "true or false")
        seconds = (_parse_seconds, "a number of seconds above 0")
        jobs = (partial(parse_integer, least=1, most=1000), "a whole number from 1 to 1000")
        return cls(
            mode=mode or cls.mode,
            timeout_seconds=_read(env, "GPU_WORKER_TIMEOUT_SECONDS", *seconds)
            or _read(env, "CGPU_TIMEOUT", *seconds),
            max_parallel_jobs=_read(env, "GPU_WORKER_MAX_PARALLEL_JOBS", *jobs)
            or _read(env, "MAX_PARALLEL_JOBS", *jobs),
            history=_history(env),
        )


def _read(
    env: Mapping[str, str], name: str, parse: Callable[[str], T | None], wanted: str
) -> T | None:
    """The value of a variable, None where it is not set or empty."""
    text = env.get(name, "").strip().lower()
    value = parse(text) if text else None
    if text and value is None:
        raise ConfigError(f"{name} must be {wanted}")
    return value


def _parse_seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _history(env: Mapping[str, str]) -> Path | None:
    path = env.get("GPU_WORKER_HISTORY", "").strip()
    if path.lower() == "off":
        return None
    if path:
        return Path(path)
    cache = env.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gpu-worker-client" / "history.jsonl"
