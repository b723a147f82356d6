"""The README keeps its word: the SDK example runs as printed, every feature it names exists and is
named by a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import clips
from support.paths import ROOT

from gpu_worker.devserver import LocalPlatform
from gpu_worker_client.protocol import TASKS
from gpu_worker_client.protocol.upscale import SrModel
from gpu_worker_processors.models.weights import SHIPPED

README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def code(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.S)


def test_the_sdk_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = clips.make(
        tmp_path / "in.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )
    (example,) = code("The SDK", "python")
    assert len(example.strip().splitlines()) <= 9, "the example is meant to be read at a glance"
    with LocalPlatform() as platform:
        monkeypatch.setenv("GPU_WORKER_ENDPOINT_ID", platform.endpoint_id)
        monkeypatch.setenv("GPU_WORKER_BASE_URL", platform.base_url)
        monkeypatch.setenv("RUNPOD_API_KEY", platform.api_key)
        platform.gate.put("in.mp4", video)
        worker = platform.start_worker({"WEIGHTS_DIR": ""})
        platform.wait_ready(worker)
        names = {
            "get_url": platform.gate.presign("GET", "in.mp4"),
            "put_url": platform.gate.presign("PUT", "out.mp4"),
        }
        exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own document
        assert platform.gate.read("out.mp4")
    assert capsys.readouterr().out.split("\n")[:2] == ["[0.0, 1.0]", "256x192"]


def test_the_example_asks_for_a_model_of_the_default_image() -> None:
    baked = re.search(r'^ARG WEIGHTS="(.*)"$', (ROOT / "Dockerfile").read_text(), re.M)
    assert baked is not None
    (example,) = code("The SDK", "python")
    (model,) = re.findall(r'model="(.*?)"', example)
    assert model in {*SHIPPED, *baked[1].split()}


@pytest.mark.parametrize(
    "document", ["README.md", "client/README.md", "docs/sdk.md", "docs/files.md", "docs/split.md"]
)
def test_the_install_line_works_from_a_clone_and_says_that_nothing_is_published(
    document: str,
) -> None:
    text = (ROOT / document).read_text()
    folders = re.findall(r"pip install '?\./([\w-]+)", text)
    assert "client" in folders
    for folder in folders:
        assert (ROOT / folder / "pyproject.toml").is_file()
    assert re.search(r"not\son\sPyPI\syet", text)
    assert not re.search(r"pip install '?gpu-worker", text), "no such package can be installed"


def test_the_two_commands_are_targets_that_need_nothing_but_python_and_make() -> None:
    assert code("Two commands", "")[0].split("\n")[:2] == ["make demo", "make test"]
    for target in ("demo", "test"):
        # Run by make itself, this make would report its level.
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MAKE") and name != "MFLAGS"
        }
        planned = subprocess.run(
            ["make", "-n", target], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        ).stdout
        words = {
            line.split()[0]
            for line in planned.splitlines()
            if line.strip() and not line.startswith((" ", "\t"))
        }
        assert words <= {
            "echo",
            "test",
            "touch",
            ".venv/bin/uv",
            ".venv/bin/gpu-worker",
            ".venv/bin/python",
        }, words


def test_every_task_and_model_is_listed() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", section("Tasks"), re.M))
    assert named == set(TASKS)
    assert set(SrModel.__args__) <= set(re.findall(r"`([\w-]+)`", section("Tasks")))


def test_every_command_answers_to_its_name() -> None:
    for program, verb in re.findall(r"^\| `(gpu-\w+) ([\w-]+)", section("Commands"), re.M):
        argv = [str(BIN / program), verb] + ([] if verb.startswith("-") else ["--help"])
        helped = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert helped.returncode == 0 and helped.stdout.startswith("usage:"), (
            f"{program} {verb}: {helped.stderr}"
        )


def test_figures_come_from_the_benchmarks() -> None:
    """A speed that the README states must stand in docs/benchmarks.md, digit for digit."""
    measured = (ROOT / "docs/benchmarks.md").read_text()
    figures = re.findall(r"\b\d+(?:\.\d+)? (?:frames/s|ms|s|x)(?!\w)", section("Tasks"))
    assert len(figures) >= 5
    for figure in figures:
        assert figure in measured, f"{figure} was not measured"
