"""The client stays thin: what it weighs once installed, what importing it pulls in, and what that costs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gpu_worker_client

MAX_INSTALLED_BYTES = 15_000_000
MAX_IMPORT_SECONDS = 0.3
HEAVY = {"torch", "runpod", "numpy", "av", "cv2", "boto3", "gpu_worker", "gpu_worker_processors"}


def closure(name: str) -> set[str]:
    """A distribution and all it needs here, without extras."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = canonicalize_name(waiting.pop())
        if current in found:
            continue
        found.add(current)
        needs = map(Requirement, importlib.metadata.distribution(current).requires or [])
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def installed_bytes(name: str) -> int:
    if name == "gpu-worker-client":  # installed editable: its files are not in the distribution's list
        return sum(path.stat().st_size for path in Path(gpu_worker_client.__file__).parent.rglob("*.py"))
    paths = [Path(str(file.locate())) for file in importlib.metadata.files(name) or []]
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


def test_the_installed_closure_is_small() -> None:
    sizes = {name: installed_bytes(name) for name in closure("gpu-worker-client")}
    print({name: f"{size / 1e6:.2f} MB" for name, size in sizes.items()}, f"total {sum(sizes.values()) / 1e6:.2f} MB")
    assert {"pydantic", "pydantic-core", "requests", "urllib3"} <= set(sizes)
    assert all(size > 1000 for size in sizes.values())
    assert sum(sizes.values()) < MAX_INSTALLED_BYTES
    assert not HEAVY & {name.replace("-", "_") for name in sizes}


def imported(statement: str) -> tuple[float, set[str]]:
    """Processor seconds that a statement takes in a fresh interpreter (the wall time of a busy machine says nothing), and the
    modules loaded after it."""
    script = (
        "import json, sys, time\n"
        "start = time.process_time()\n"
        f"{statement}\n"
        "print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


@pytest.mark.parametrize("statement", ["import gpu_worker_client", "from gpu_worker_client import Client, Job, JobError"])
def test_importing_is_quick_and_pulls_in_nothing_heavy(statement: str) -> None:
    runs = [imported(statement) for _ in range(5)]
    modules = runs[0][1]
    assert "gpu_worker_client" in modules
    assert not {name.partition(".")[0] for name in modules} & (HEAVY | {"requests", "urllib3"})
    quickest = min(seconds for seconds, _ in runs)
    print(f"{statement}: {quickest * 1000:.0f} ms of processor time")
    assert quickest < MAX_IMPORT_SECONDS


def test_the_whole_client_in_use_pulls_in_nothing_heavy() -> None:
    _, modules = imported(
        "from gpu_worker_client import Client\nimport gpu_worker_client.cli\nClient('e', 'k', 'http://127.0.0.1:9')"
    )
    assert "requests" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY


def test_importing_starts_no_thread_and_opens_no_connection() -> None:
    watch = (
        "import sys, threading\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, _: opened.append(event) if event.startswith(('socket.', 'subprocess.')) else None)\n"
        "import gpu_worker_client.cli\n"
        "assert threading.active_count() == 1 and not opened, opened"
    )
    _, modules = imported(watch)
    assert "gpu_worker_client.cli" in modules
