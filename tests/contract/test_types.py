"""What a type checker knows about a call: the result's type follows from the task's, for every task
there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
