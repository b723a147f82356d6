"""`tests/gpu` on the machine at hand: on a GPU none may be skipped for want of one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_sizes import Row, Sizes

ROOT = Path(__file__).parents[1]


def test_rows(sizes: Sizes) -> Iterator[Row]:
    """One row: how many passed.

    Raises:
        RuntimeError: one failed.
    """
    required = {"REQUIRE_GPU": "1"} if sizes.device.type == "cuda" else {}
    # The machine's versions are not the pins: what they warn of is no failure here.
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        "tests/gpu",
    ]
    done = subprocess.run(
        argv, check=False, cwd=ROOT, env={**os.environ, **required}, capture_output=True, text=True
    )
    print(done.stdout, done.stderr, file=sys.stderr)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "pytest said nothing"
    passed = re.search(r"(\d+) passed", summary)
    name = "tests/gpu" + (", REQUIRE_GPU=1" if required else "")
    yield {
        "name": name,
        "value": int(passed[1]) if passed else 0,
        "unit": "passed",
        "note": summary.strip("= "),
    }
    if done.returncode != 0:
        raise RuntimeError(summary)
