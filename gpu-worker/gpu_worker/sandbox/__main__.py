"""Enters a jail over a directory and prints the level as JSON: `python -m gpu_worker.sandbox POLICY DIRECTORY`.

A jail cannot be left again, so whoever wants to know the level (`doctor`, `capabilities`) starts this and reads its answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

from gpu_worker.sandbox.level import JailSpec, Policy, apply
from gpu_worker_client.protocol import TaskError


def main(arguments: list[str]) -> int:
    policy, directory = arguments
    spec = JailSpec.for_engine(
        policy=cast(Policy, policy), work_root=Path(directory), weights_dir=None, max_output_bytes=1 << 20
    )
    try:
        answer = apply(spec).summary()
    except TaskError as error:
        answer = {"error": error.body().model_dump(mode="json")}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
