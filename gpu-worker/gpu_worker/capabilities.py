"""What this machine really has, each found by trying and none by believing a list: GPUs that
compute, encoders that encoded a frame, weights that are there, room on the disk, the sandbox that
closes.

Whatever may crash or hang (drivers) runs in a sandboxed child with a time limit, where an engine
would stand. The slow findings are made once per process; disk, memory and weights are read at
every call.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import TaskError
from gpu_worker_processors.base import Policy, ProcessorSettings
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.sandbox.paths import has_gpu

PROBE_SECONDS = 120.0
"""Longest wait for one child. Importing torch from a cold network volume takes most of a minute."""

ENCODERS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc", "libx264", "libx265", "libsvtav1", "prores_ks")

_DRIVER_VERSION = Path("/proc/driver/nvidia/version")
_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Gpu:
    """One GPU as torch sees it."""

    index: int
    name: str
    memory_bytes: int
    compute_capability: str
    """ "8.9" for an L4."""
    computes: bool
    """A product of two matrices came out right."""


@dataclass(frozen=True)
class GpuState:
    """The GPUs, and why there are none."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    """Version of the NVIDIA kernel driver; None without one."""
    built_for_cuda: str | None = None
    """The CUDA version that torch was built for; None when it was not asked (no device nodes) or is
    a CPU build."""
    problem: str | None = None
    """Why the probe gave no answer."""


@dataclass(frozen=True)
class Disk:
    path: str
    free_bytes: int
    total_bytes: int
    is_writable: bool

    @property
    def free_percent(self) -> float:
        return 100 * self.free_bytes / self.total_bytes


@dataclass(frozen=True)
class Capabilities:
    """Everything found."""

    gpu: GpuState
    encoders: dict[str, str | None]
    """Encoder -> None when it works, else what is in its way."""
    weights: dict[str, bool]
    """Manifest name -> its file is there."""
    weights_problem: str | None
    """Why the manifest cannot be used."""
    disks: tuple[Disk, ...]
    """The root file system, which RunPod's SDK checks, and the one that jobs work on."""
    memory_available_bytes: int
    sandbox: dict[str, Any]
    """`SandboxLevel.summary()` of a sandbox closed for this purpose, or `{"level": "none",
    "reasons": [...]}`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def probe(settings: Settings) -> Capabilities:
    """Finds everything out. Takes some seconds the first time in a process."""
    present, problem = weights(settings.processors)
    sandbox_policy: Policy = "off" if settings.sandbox == "off" else "best_effort"
    return Capabilities(
        gpu=gpu_state(sandbox_policy, settings.work_root),
        encoders=dict(encoders(sandbox_policy, settings.work_root)),
        weights=present,
        weights_problem=problem,
        disks=disks(settings.work_root),
        memory_available_bytes=memory_available_bytes(),
        sandbox=dict(sandbox(settings.sandbox, settings.work_root)),
    )


@lru_cache(maxsize=4)
def gpu_state(policy: Policy, work_root: Path) -> GpuState:
    """Without the driver's device nodes torch, seconds to import, is not asked."""
    if not has_gpu():
        return GpuState(problem="no GPU device (/dev/nvidia*) in this system or container")
    state = _ask_torch(policy, work_root)
    if not state.gpus and policy != "off" and _ask_torch("off", work_root).gpus:
        return replace(
            state, problem="it computes outside the sandbox and not inside; please report it"
        )
    return state


def _ask_torch(policy: Policy, work_root: Path) -> GpuState:
    done = _child(policy, work_root, "gpu")
    answer: dict[str, Any] = (
        json.loads(done.stdout[-1]) if done.stdout else {"problem": f"the GPU probe {done.end}"}
    )
    return GpuState(
        gpus=tuple(Gpu(**gpu) for gpu in answer.get("gpus", ())),
        driver=driver_version(),
        built_for_cuda=answer.get("built_for_cuda"),
        problem=answer.get("problem"),
    )


def driver_version() -> str | None:
    try:
        text = _DRIVER_VERSION.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", text)
    return match[1] if match else None


@lru_cache(maxsize=4)
def encoders(
    policy: Policy, work_root: Path, names: tuple[str, ...] = ENCODERS
) -> Mapping[str, str | None]:
    """Encoder -> None when one real frame could be encoded here, else what is in its way. They are
    tried one after the other in a child; which one crashes it is marked, and a fresh child tries
    the rest."""
    found: dict[str, str | None] = {}
    while left := [name for name in names if name not in found]:
        done = _child(policy, work_root, "encoders", *left)
        answered: dict[str, str | None] = dict(json.loads(line) for line in done.stdout)
        found |= answered
        if len(answered) < len(left):
            found[left[len(answered)]] = f"its probe {done.end}"
    return found


def weights(settings: ProcessorSettings) -> tuple[dict[str, bool], str | None]:
    """Manifest name -> present; and what is wrong with the manifest, if anything."""
    try:
        store = WeightStore.of(settings)
    except TaskError as error:
        return {}, error.message
    return {spec.name: store.present(spec.name) for spec in store.list()}, None


def disks(work_root: Path) -> tuple[Disk, ...]:
    paths = dict.fromkeys((Path("/"), _existing(work_root)))
    return tuple(
        Disk(str(path), usage.free, usage.total, os.access(path, os.W_OK))
        for path in paths
        if (usage := shutil.disk_usage(path)).total
    )


def _existing(path: Path) -> Path:
    return next(found for found in (path, *path.resolve().parents) if found.exists())


def memory_available_bytes() -> int:
    """Memory that the system can give without swapping, as RunPod's SDK asks for it."""
    fields = dict(line.split(":") for line in _MEMORY.read_text(encoding="ascii").splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


@lru_cache(maxsize=4)
def sandbox(policy: Policy, work_root: Path) -> Mapping[str, Any]:
    """Closes a sandbox in a child, as an engine would, and reports it."""
    done = _child(policy, work_root, "sandbox")
    if not done.stdout:
        return {"level": "none", "reasons": [f"the sandbox probe {done.end}"]}
    answer = json.loads(done.stdout[-1])
    if "error" in answer:
        return {
            "level": "none",
            "reasons": [answer["error"]["message"], *answer["error"]["details"].get("reasons", [])],
        }
    return answer


@dataclass(frozen=True)
class _Finished:
    stdout: list[str]
    """Whole lines."""
    end: str
    """How it ended, as the end of a sentence: "crashed (signal 11)"."""


def _child(policy: Policy, work_root: Path, *words: str) -> _Finished:
    try:
        work_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work_root, prefix="probe-") as folder:
            command = [sys.executable, "-m", "gpu_worker.probe_child", policy, folder, *words]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
            )
    except subprocess.TimeoutExpired as expired:
        text = expired.stdout.decode() if isinstance(expired.stdout, bytes) else ""
        return _Finished(_whole_lines(text), f"took longer than {PROBE_SECONDS:g} s")
    except OSError as error:
        return _Finished([], f"could not use the work directory ({error.strerror})")
    status = done.returncode
    return _Finished(
        _whole_lines(done.stdout),
        f"crashed (signal {-status})" if status < 0 else f"ended with status {status}",
    )


def _whole_lines(text: str) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
