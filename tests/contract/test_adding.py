"""processors/ADDING.md names every path that a new task needs, and each task has them all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import adding
from support.paths import ROOT

from gpu_worker_client.protocol import TASKS

GUIDE = (ROOT / "processors/ADDING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_all_that_it_needs(task: str) -> None:
    assert adding.missing(task) == []


def test_a_task_that_nobody_wrote_lacks_all_of_it() -> None:
    assert adding.missing("blur") == [
        "client/gpu_worker_client/protocol/blur.py: BlurParams BlurResult BlurTask",
        "processors/gpu_worker_processors/blur/processor.py: PROCESSOR",
        "processors/gpu_worker_processors/blur/sample.py: SAMPLE",
        "gpu-worker/gpu_worker/demo/blur_panel.py: PANEL",
        "benchmarks/blur.py: rows",
        'client/gpu_worker_client/protocol/registry.py: "blur": TaskKind(',
        "client/gpu_worker_client/protocol/__init__.pyi: import BlurTask as BlurTask",
        "CHANGELOG.md: `blur`",
    ]


@pytest.mark.parametrize("lost", [*adding.FILES, *adding.TEXTS])
def test_each_that_is_missing_is_named(lost: str, tmp_path: Path) -> None:
    """`beat` as it is, without one of its files or lines."""
    for path in (*adding.FILES, *adding.TEXTS):
        name = path.format(task="beat")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    assert adding.missing("beat", tmp_path) == []
    (tmp_path / lost.format(task="beat")).write_text("")
    (named,) = adding.missing("beat", tmp_path)
    assert named.startswith(f"{lost.format(task='beat')}: ")


def test_the_guide_has_six_steps_and_names_every_path() -> None:
    steps = [line for line in GUIDE.splitlines() if line[:1].isdigit()]
    assert [line.split(".")[0] for line in steps] == ["1", "2", "3", "4", "5", "6"]
    for path in (*adding.FILES, *adding.TEXTS):
        whole = path.format(task="blur")
        folder, _, name = whole.rpartition("/")
        assert f"`{whole}`" in GUIDE or (f"`{folder}/`" in GUIDE and f"`{name}`" in GUIDE), whole
