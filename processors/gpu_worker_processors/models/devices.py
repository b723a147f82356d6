"""Where a network runs and in which number format; and how each device reports "out of
memory".

Accepts the worker's device setting ("auto", "cpu", "cuda:0"). Guarantees that a name which cannot
be served is a typed error, and that a lack of memory is not mistaken for a broken network.
"""

from __future__ import annotations

from pathlib import Path

import torch

from gpu_worker_client.protocol import ErrorCode, TaskError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "defaultcpuallocator",
)
"""Lower-case parts of the messages with which torch's allocators and cuBLAS/cuDNN report a lack of
memory as RuntimeError."""


def pick_device(name: str = "auto") -> torch.device:
    """The torch device of a setting; "auto" is the first CUDA device, else the CPU.

    Raises:
        TaskError: `resource_exhausted` (another worker may have the device) when this process sees
            no such device.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type != "cuda" or (device.index or 0) >= count:
        raise TaskError(
            ErrorCode.resource_exhausted,
            "GPU_WORKER_DEVICE names no device of this machine; use auto, cpu or cuda:N with N"
            f" below {count}",
        )
    return torch.device("cuda", device.index or 0)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware: Ampere or later, or a CPU with AVX512-BF16 or
    AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def best_dtype(
    device: torch.device, *, supports_half: bool = True, supports_bfloat16: bool = True
) -> torch.dtype:
    """The fastest format that the network bears: float16 on CUDA, bfloat16 where only that is
    allowed or on a CPU that computes it, else float32."""
    if device.type == "cuda" and supports_half:
        return torch.float16
    return torch.bfloat16 if supports_bfloat16 and fast_bfloat16(device) else torch.float32


def free_memory_bytes(device: torch.device) -> int:
    """Memory a network may take now: on CUDA what the driver and torch's own cache have free, on
    the CPU what is available to this process under its cgroup."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_available_bytes(), _cgroup_free_bytes())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        part in str(error).lower() for part in _NO_MEMORY
    )


def out_of_memory(device: torch.device, what: str) -> TaskError:
    """The typed error for the caller: `gpu_oom` or, on the CPU, `resource_exhausted`."""
    code = ErrorCode.gpu_oom if device.type == "cuda" else ErrorCode.resource_exhausted
    return TaskError(
        code,
        f"{what} does not fit into the memory of {device}; use a machine with more of it",
        device=str(device),
    )


def release_memory(device: torch.device) -> None:
    """Gives torch's cached blocks back, so that a smaller attempt finds room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _available_bytes() -> int:
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 2 << 30


def _cgroup_free_bytes() -> int:
    """Room under the cgroup v2 limit, inactive page cache counted as free; very large without a
    limit."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        facts = dict(
            line.split()
            for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return max(0, limit - used + int(facts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 1 << 62
