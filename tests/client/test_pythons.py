"""The client as installed by each Python it is promised for, where that Python is found on this
machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile_endpoint import hostile_endpoint
from support.paths import ROOT

PROGRAM = """
import asyncio, sys
from gpu_worker_client import AsyncClient, Client
from gpu_worker_client.protocol import DetectScenesTask

task = DetectScenesTask(input_url="https://h/in.mp4")

async def scenes():
    async with AsyncClient("e", "k", sys.argv[1]) as client:
        return (await client.run(task, timeout=60)).stats.total_scenes

with Client("e", "k", sys.argv[1]) as client:
    mapped = [outcome.get().stats.total_scenes for outcome in client.map([task])]
    print(asyncio.run(scenes()), *mapped)
"""
DONE = {
    "id": "j",
    "status": "COMPLETED",
    "output": {
        "task": "detect_scenes",
        "scenes": [],
        "stats": {"total_scenes": 3, "avg_scene_length": 1.0},
    },
}


def interpreter(version: str) -> str | None:
    """The Python of this version on the search path, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [
        *sorted(map(str, pyenv.glob(f"{version}.*/bin/python"))),
        shutil.which(f"python{version}"),
    ]
    return next((found for found in candidates if found and runs(found, version)), None)


def runs(python: str, version: str) -> bool:
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode == 0 and done.stdout.strip() == version


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_installed_client_works(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    uv, home = Path(sys.executable).with_name("uv"), tmp_path / "venv"
    subprocess.run([uv, "venv", "-q", "--python", python, home], check=True, timeout=120)
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", home / "bin/python", ROOT / "client"],
        check=True,
        timeout=240,
    )
    with hostile_endpoint() as server:
        server.statuses = [DONE]
        command = [home / "bin/python", "-W", "error", "-c", PROGRAM, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3 3\n"), done.stderr
