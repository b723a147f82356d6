"""What a type checker knows about a call: the result's type follows from the task's, for every task
there is, and of the installed wheels as of the source."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from gpu_worker_client.protocol import TASKS


def check(folder: Path, program: str) -> tuple[int, str]:
    (folder / "program.py").write_text(program)
    (folder / "pyrightconfig.json").write_text(
        '{"typeCheckingMode": "strict", "extraPaths": ["%s"]}' % (ROOT / "client")
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_results_are_typed_by_their_task(tmp_path: Path) -> None:
    lines = [
        "from typing_extensions import assert_type",
        "from gpu_worker_client import AsyncClient, AsyncJob, Client, Job, Outcome, TaskResult",
        "from gpu_worker_client import protocol as p",
        "async def async_program(client: AsyncClient, task: p.TrackTask) -> None:",
        "    assert_type(await client.submit(task), AsyncJob[p.TrackResult])",
        "    assert_type(await client.run(task), p.TrackResult)",
        '    assert_type(await client.job("id", p.TrackTask).result(), p.TrackResult)',
        '    assert_type(await client.job("id", task).result(), p.TrackResult)',
        "    async for outcome in client.map([task]):",
        "        assert_type(outcome, Outcome[p.TrackResult])",
        "def program(client: Client) -> None:",
        "    for outcome in client.map([p.TrackTask.model_construct()]):",
        "        assert_type(outcome.get(), p.TrackResult)",
        '    assert_type(client.submit({"task": "selftest"}), Job[TaskResult])',
        '    assert_type(client.submit(b"{}"), Job[TaskResult])',
        '    assert_type(client.job("id"), Job[TaskResult])',
    ]
    for kind in TASKS.values():
        request, result = kind.request.__name__, kind.result.__name__
        lines.append(
            f"    assert_type(client.submit(p.{request}.model_construct()), Job[p.{result}])"
        )
        lines.append(f"    assert_type(client.run(p.{request}.model_construct()), p.{result})")
        lines.append(f'    assert_type(client.job("id", p.{request}).result(), p.{result})')
    status, told = check(tmp_path, "\n".join(lines) + "\n")
    assert status == 0, told
    broken = "\n".join(lines).replace("Job[p.SelftestResult]", "Job[p.UpscaleResult]")
    status, told = check(tmp_path, broken + "\n")
    assert status == 1 and "SelftestResult" in told


@pytest.mark.slow
def test_the_methods_on_files_are_typed(tmp_path: Path) -> None:
    """The blocking ones take what the awaited ones take."""
    program = """
from typing_extensions import assert_type
from gpu_worker_client import AsyncClient, Client
from gpu_worker_client import protocol as p
from gpu_worker_client.split import SplitResult
def program(client: Client) -> None:
    assert_type(client.track("in.mp4"), p.TrackResult)
    assert_type(client.beat("in.wav", "out.wav", on_event=print, timeout=3), p.BeatResult)
    assert_type(client.auto_crop("in.mp4", tracks="t.json", dry_run=True), p.AutoCropResult)
    assert_type(client.detect_scenes("in.mp4"), p.DetectScenesResult)
    assert_type(client.render(["-i", "a"], ["a"], "b.mp4", 3.0, print), p.RenderResult)
    assert_type(client.upscale("in.mp4", "out.mp4"), p.UpscaleResult)
    assert_type(client.upscale("in.mp4", "out.mp4", split=True), SplitResult)
async def async_program(client: AsyncClient) -> None:
    assert_type(await client.track("in.mp4"), p.TrackResult)
    assert_type(await client.upscale("in.mp4", "out.mp4", split=True), SplitResult)
"""
    status, told = check(tmp_path, program)
    assert status == 0, told
    wrong = program + "def wrong(client: Client) -> None:\n    client.track(3)\n    client.beat()\n"
    status, told = check(tmp_path, wrong)
    assert (
        status == 1 and 'to parameter "input"' in told and 'missing for parameter "input"' in told
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the three packages as wheels, and what they need from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv/bin/python"
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder / "venv"], check=True)
    for project in ("client", "processors", "gpu-worker"):
        build = [uv, "build", "-q", "--wheel", "--no-build-isolation", "-o", folder, ROOT / project]
        subprocess.run([*build, "-p", sys.executable], check=True)
    install = [uv, "pip", "install", "-q", "--no-deps", "-p", python, *folder.glob("*.whl")]
    subprocess.run(install, check=True)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_examples_are_typed_by_the_wheels(
    checker: str, installed: Path, tmp_path: Path
) -> None:
    """Strictly, and one error is planted: a checker that knew no types would not see it."""
    shutil.copytree(ROOT / "examples", tmp_path, dirs_exist_ok=True)
    (tmp_path / "planted.py").write_text(
        "from gpu_worker.settings import Settings\n"
        "from gpu_worker_client import Client\n"
        "from gpu_worker_client.protocol import UpscaleTask\n"
        "from gpu_worker_processors.base import ProcessorSettings\n"
        "planted: str = Client().run(UpscaleTask.model_construct())\n"
        "print(planted, Settings, ProcessorSettings)\n"
    )
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    options = {
        "mypy": ["--strict", "--no-error-summary", "--python-executable", str(installed), "."],
        "pyright": ["--pythonpath", str(installed)],
    }
    done = subprocess.run(
        [sys.executable, "-m", checker, *options[checker]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert done.returncode == 1 and len(errors) == 1, done.stdout
    assert "planted.py:5:" in errors[0] and '"UpscaleResult"' in errors[0]
