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
MAX_IMPORT_RATIO = 3.0
"""To importing pydantic alone, which every typed client pays: 0.3 s where pydantic takes 0.1 s."""
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
def test_importing_pulls_in_nothing_heavy(statement: str) -> None:
    _, modules = imported(statement)
    assert "gpu_worker_client" in modules
    assert not {name.partition(".")[0] for name in modules} & (HEAVY | {"requests", "urllib3"})


def test_importing_costs_little_more_than_pydantic() -> None:
    """Both in turns, the quickest of each: a ratio, since a busy machine's seconds say nothing."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(6):
        ours.append(imported("from gpu_worker_client import Client, Job, JobError")[0])
        theirs.append(imported("from pydantic import BaseModel")[0])
    print(f"client {min(ours) * 1000:.0f} ms, pydantic alone {min(theirs) * 1000:.0f} ms of processor time")
    assert min(ours) < MAX_IMPORT_RATIO * min(theirs)


def test_importing_builds_no_validator() -> None:
    """Half a second when all of them were built: each is built when its task is first used."""
    script = (
        "from pydantic import BaseModel\n"
        "from gpu_worker_client import Client, Job, JobError\n"
        "def below(kind):\n"
        "    for one in kind.__subclasses__():\n"
        "        yield one\n"
        "        yield from below(one)\n"
        "ours = [one for one in below(BaseModel) if one.__module__.startswith('gpu_worker_client')]\n"
        "print(len(ours), *[one.__qualname__ for one in ours if one.__pydantic_complete__])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    count, *built = done.stdout.split()
    assert int(count) > 30
    assert not built


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
