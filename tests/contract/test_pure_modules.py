"""What plans and decides needs no network: its modules import no torch, FFmpeg or OpenCV."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.paths import ROOT

PURE = [
    "auto_crop.banded",
    "auto_crop.candidates",
    "auto_crop.group_shot",
    "auto_crop.importance",
    "auto_crop.in_view",
    "auto_crop.l1",
    "auto_crop.layout",
    "auto_crop.metrics",
    "auto_crop.path",
    "auto_crop.plan",
    "auto_crop.resample",
    "auto_crop.subject",
    "auto_crop.windows",
    "detect_scenes.scenes",
    "media.color",
    "media.matroska",
    "media.sniff",
    "media.truncation",
    "models.sr.tiles",
]


def run(*modules: str) -> subprocess.CompletedProcess[str]:
    lines = ["from support.fast_guard import forbid_heavy_work", "forbid_heavy_work()"]
    lines += [f"import {module}" for module in modules]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=ROOT / "tests",
        check=False,
    )


def test_pure_modules_import_nothing_heavy() -> None:
    assert run(*(f"gpu_worker_processors.{module}" for module in PURE)).stderr == ""


@pytest.mark.parametrize("module", ["torch", "cv2", "gpu_worker_processors.models.sr.resolver"])
def test_the_guard_refuses_what_is_heavy(module: str) -> None:
    assert "a fast test imports" in run(module).stderr
