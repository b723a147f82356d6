"""One probe in a process of its own, sandboxed like an engine: `python -m gpu_worker.probe_child
POLICY FOLDER WHAT [NAME...]`.

A sandbox cannot be left again, a CUDA context costs its process hundreds of megabytes for life, and
a broken driver can crash it: so `capabilities` starts this and reads its lines of JSON. WHAT is
`sandbox` (the level), `gpu` (what torch computes on) or `encoders` (one line per NAME). Being
sandboxed makes the answer count: a device node that the sandbox forgot shows here, not in the first
job.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from gpu_worker_client.protocol import TaskError
from gpu_worker_processors.base import Policy
from gpu_worker_processors.sandbox.level import SandboxSpec, apply

MATRIX_SIDE = 64
MAX_OUTPUT_BYTES = 1 << 30


def main(arguments: list[str]) -> int:
    policy, folder, what, *names = arguments
    weights_dir = Path(os.environ["WEIGHTS_DIR"]) if os.environ.get("WEIGHTS_DIR") else None
    spec = SandboxSpec.for_engine(
        policy=cast(Policy, policy),
        work_root=Path(folder),
        weights_dir=weights_dir,
        max_output_bytes=MAX_OUTPUT_BYTES,
    )
    try:
        level = apply(spec)
    except TaskError as error:
        _say({"error": error.body().model_dump(mode="json")})
        return 1
    if what == "encoders":
        from gpu_worker_processors.selftest.encoders import main as try_encoders

        return try_encoders(names)
    _say(level.summary() if what == "sandbox" else gpus())
    return 0


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")


def gpus() -> dict[str, Any]:
    """Every GPU that torch can use, after one product of matrices was really computed on it."""
    import torch

    answer: dict[str, Any] = {"built_for_cuda": torch.version.cuda, "gpus": [], "problem": None}
    try:
        answer["gpus"] = [_describe(index) for index in range(torch.cuda.device_count())]
    except RuntimeError as error:  # torch raises it for whatever the driver says
        answer["problem"] = str(error).splitlines()[0]
    return answer


def _describe(index: int) -> dict[str, Any]:
    import torch

    ones = torch.ones(MATRIX_SIDE, MATRIX_SIDE, device=f"cuda:{index}")
    computed = float((ones @ ones)[0, 0]) == MATRIX_SIDE
    properties = torch.cuda.get_device_properties(index)
    return {
        "index": index,
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "computes": computed,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
