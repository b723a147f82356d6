"""The client stays thin: what it weighs once installed, what importing it pulls in, and what that
costs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gpu_worker_client
from gpu_worker_client.protocol import TASKS

MAX_INSTALLED_BYTES = 15_000_000
MAX_OWN_MODULES = 40
MAX_OTHER_MODULES = 60
"""Loaded by the first import of the client, and not by pydantic, which every typed client pays: 35
and 49."""
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
        waiting += [
            need.name
            for need in needs
            if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return found


def installed_bytes(name: str) -> int:
    if (
        name == "gpu-worker-client"
    ):  # installed editable: its files are not in the distribution's list
        return sum(
            path.stat().st_size for path in Path(gpu_worker_client.__file__).parent.rglob("*.py")
        )
    paths = [Path(str(file.locate())) for file in importlib.metadata.files(name) or []]
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


def test_the_installed_closure_is_small() -> None:
    sizes = {name: installed_bytes(name) for name in closure("gpu-worker-client")}
    print(
        {name: f"{size / 1e6:.2f} MB" for name, size in sizes.items()},
        f"total {sum(sizes.values()) / 1e6:.2f} MB",
    )
    assert {"pydantic", "pydantic-core", "requests", "urllib3"} <= set(sizes)
    assert all(size > 1000 for size in sizes.values())
    assert sum(sizes.values()) < MAX_INSTALLED_BYTES
    assert not HEAVY & {name.replace("-", "_") for name in sizes}


def imported(statement: str) -> set[str]:
    """The modules loaded after a statement in a fresh interpreter."""
    script = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement", ["import gpu_worker_client", "from gpu_worker_client import Client, Job, JobError"]
)
def test_importing_pulls_in_nothing_heavy(statement: str) -> None:
    modules = imported(statement)
    assert "gpu_worker_client" in modules
    assert not {name.partition(".")[0] for name in modules} & (HEAVY | {"requests", "urllib3"})


def test_importing_costs_little_more_than_pydantic() -> None:
    """Counted in modules, since seconds say more of the machine's neighbours: 0.06 s of processor
    time for pydantic alone and 0.18 s for the client were 0.10 s and 0.29 s a minute later.
    docs/sdk.md has the times."""
    ours = imported("from gpu_worker_client import Client, Job, JobError")
    theirs = imported("from pydantic import BaseModel")
    added = ours - theirs
    own = {name for name in added if name.partition(".")[0] == "gpu_worker_client"}
    assert 0 < len(own) <= MAX_OWN_MODULES
    assert len(added - own) <= MAX_OTHER_MODULES, sorted(added - own)


def test_a_webhook_costs_a_dozen_of_our_modules_and_no_event_loop() -> None:
    modules = imported("from gpu_worker_client import unwrap")
    own = {name for name in modules if name.partition(".")[0] == "gpu_worker_client"}
    assert 0 < len(own) <= 12, sorted(own)
    assert "asyncio" not in modules


def test_importing_builds_no_validator() -> None:
    """Half a second when all of them were built: each is built when its task is first used."""
    script = (
        "from pydantic import BaseModel\nfrom gpu_worker_client import Client, Job, JobError\nfrom"
        " gpu_worker_client.protocol import *\ndef below(kind):\n    for one in"
        " kind.__subclasses__():\n        yield one\n        yield from below(one)\nours = [one for"
        " one in below(BaseModel) if"
        " one.__module__.startswith('gpu_worker_client')]\nprint(len(ours), *[one.__qualname__ for"
        " one in ours if one.__pydantic_complete__])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    count, *built = done.stdout.split()
    assert int(count) > 30
    assert not built


def test_importing_loads_no_task() -> None:
    """Their models are most of what the package has to make: each task's come when it is first
    named."""
    homes = {f"gpu_worker_client.protocol.{name}" for name in TASKS}
    assert not homes & imported("from gpu_worker_client import Client, Job, JobError")
    assert homes & imported("from gpu_worker_client.protocol import UpscaleTask") == {
        "gpu_worker_client.protocol.upscale"
    }
    assert homes & imported(
        "from gpu_worker_client.protocol import TASKS\nTASKS['beat'].result"
    ) == {"gpu_worker_client.protocol.beat"}


@pytest.mark.parametrize("package", ["gpu_worker_client", "gpu_worker_client.protocol"])
def test_every_public_name_is_there(package: str) -> None:
    script = (
        f"import {package} as p\nassert sorted(p.__all__) == dir(p) and all(getattr(p, name) is"
        " getattr(p, name) for name in p.__all__)\nassert not hasattr(p, 'Nothing') and not"
        f" hasattr(p, 'annotations_')\nfrom {package} import *\nassert not set(p.__all__) -"
        " set(globals())"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    "name", ["torch", "pydantic", "requests", "gpu_worker_client.client", "gpu_worker_processors"]
)
def test_setup_leaves_bytecode(name: str) -> None:
    """The engine's sandbox lets none be written: without it each engine compiles torch anew, for
    seconds. `make clean setup` mends a `.venv` that was made in another way."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.cached is not None
    assert Path(spec.cached).is_file()


def test_the_whole_client_in_use_pulls_in_nothing_heavy() -> None:
    modules = imported(
        "from gpu_worker_client import Client\nimport gpu_worker_client.cli\nClient('e', 'k',"
        " 'http://127.0.0.1:9')"
    )
    assert "requests" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY


def test_importing_starts_no_thread_and_opens_no_connection() -> None:
    watch = (
        "import sys, threading\nopened = []\nsys.addaudithook(lambda event, _: opened.append(event)"
        " if event.startswith(('socket.', 'subprocess.')) else None)\nimport"
        " gpu_worker_client.cli\nassert threading.active_count() == 1 and not opened, opened"
    )
    modules = imported(watch)
    assert "gpu_worker_client.cli" in modules
