"""What importing RunPod's SDK costs: no measuring of the processor in a child of a child, and yet
the SDK knows its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
started = []
sys.addaudithook(
    lambda event, args: started.append(args[1]) if event == "subprocess.Popen" else None
)
{statement}
from runpod.serverless.utils import rp_debugger
print(json.dumps([[str(part) for command in started for part in command], rp_debugger.PROCESSOR]))
"""


@pytest.mark.parametrize(
    "statement", ["import gpu_worker.serve", "from gpu_worker.runpod_sdk import runpod"]
)
def test_importing_it_measures_nothing(statement: str) -> None:
    script = SCRIPT.format(statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    started, name = json.loads(done.stdout)
    assert not [part for part in started if part.endswith("cpuinfo.py")], "py-cpuinfo runs itself"
    assert name in Path("/proc/cpuinfo").read_text(encoding="utf-8")
