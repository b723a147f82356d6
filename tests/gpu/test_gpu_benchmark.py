"""The GPU benchmark without a GPU: its arithmetic, its variants of a network, and all of it with
tiny sizes on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from spandrel import MAIN_REGISTRY
from support.paths import ROOT
from support.tiny_weights import rrdb

from gpu_worker_client.estimate import CARDS, NETWORKS

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks' folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load(name: str) -> ModuleType:
        from importlib import import_module

        return import_module(name)

    return load


def rrdb_net() -> torch.nn.Module:
    descriptor = MAIN_REGISTRY["ESRGAN"].architecture.load(rrdb(2))
    descriptor.eval()
    descriptor.model.requires_grad_(False)
    return descriptor.model


@pytest.mark.parametrize("variant", ["by_input", "inplace", "folded"])
@pytest.mark.parametrize(("count", "height", "width"), [(1, 13, 10), (2, 8, 9)])
def test_variants_are_the_same_network(
    module: Any, variant: str, count: int, height: int, width: int
) -> None:
    from gpu_worker_processors.models.sr.banded import band_tail

    frames = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))
    published, changed = rrdb_net(), rrdb_net()
    band_tail(changed)
    module("gpu_variants").VARIANTS[variant](changed)
    expected, found = published(frames), changed(frames)
    assert expected.std() > 0.05
    assert torch.allclose(found, expected, rtol=0, atol=2e-5)


def test_operations_are_what_torch_counts(module: Any, tmp_path: Path) -> None:
    """Of the networks with the fewest layers; the others are slow to make and counted by the
    benchmark itself."""
    gpu_nets, sizes = module("gpu_nets"), module("gpu_sizes")
    chosen = ("realesr-general-x4v3", "realesr-animevideov3", "RealESRGAN_x4plus_anime_6B")
    for net in (net for net in gpu_nets.nets(sizes.FULL) if net.name in chosen):
        counted = gpu_nets.flops_per_pixel(net, gpu_nets.folder_with(net, tmp_path / net.name))
        assert counted == pytest.approx(NETWORKS[net.name].flops, rel=2e-3)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"value": 30, "bar": 25}, "met"),
        ({"value": 20, "bar": 25}, "missed"),
        ({"value": 2, "bar": 3, "lower_is_better": True}, "met"),
        ({"value": 4, "bar": 3, "lower_is_better": True}, "missed"),
        ({"value": 2, "bar": 3, "lower_is_better": True, "ratio": 3.9, "bar_ratio": 4.0}, "missed"),
        ({"value": 2, "ratio": 4.1, "bar_ratio": 4.0}, "met"),
        ({"value": 2, "ratio": 0.5}, ""),
    ],
)
def test_a_row_says_whether_its_bars_are_met(
    module: Any, row: dict[str, Any], expected: str
) -> None:
    text = module("gpu_report").verdict(row)
    assert expected in text and bool(text) == bool(expected)


def test_costs_are_measured_where_measured_and_marked_where_not(module: Any) -> None:
    report = module("gpu_report")
    assert "*" not in report._seconds_and_dollars(1, CARDS["NVIDIA L4"])  # noqa: SLF001
    row = {
        "name": "n",
        "model": "RealESRGAN_x4plus",
        "flops_per_pixel": 35.85e6,
        "value": 30.0,
        "limit": 60.0,
    }
    results = {
        "machine": {"gpu": "NVIDIA H200"},
        "sections": {"nets": {"rows": [row], "problem": None}},
    }
    line = next(
        line
        for line in report.section(results).splitlines()
        if line.startswith("| RealESRGAN_x4plus |")
    )
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    # 1800 frames at 30 frames/s; on an L4 half of its peak, 121 TFLOP/s over 12.39 TFLOP a frame.
    assert cells[-1] == "**60 s, $0.093**"
    assert (
        cells[1]
        == f"{1800 / (0.5 * 121 / 12.39):.3g} s, ${1800 / (0.5 * 121 / 12.39) * 0.00019:.2g}"
    )
    trial = {**results, "machine": {"gpu": "none, the CPU instead"}}
    line = next(
        line
        for line in report.section(trial).splitlines()
        if line.startswith("| RealESRGAN_x4plus |")
    )
    assert "**" not in line and line.count("*") == 12


@pytest.mark.slow
def test_the_whole_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        str(BENCHMARKS / "gpu.py"),
        "--cpu",
        "--only",
        "nets",
        "parity",
        "track",
        "upscale",
        "cold",
        "variants",
    ]
    done = subprocess.run(
        argv, env={**os.environ, "OUT": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    rows = {name: part["rows"] for name, part in results["sections"].items()}
    assert {name: len(found) for name, found in rows.items()} == {
        "nets": 9, "parity": 9, "track": 1, "upscale": 1, "cold": 2, "variants": 4,
    }  # fmt: skip
    assert all(row["value"] > 0 for found in rows.values() for row in found)
    assert all(row["value"] >= row["bar"] for row in rows["parity"])
    assert "mean nothing" in done.stdout
