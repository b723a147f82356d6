"""The benchmark runner and its document. The benchmarks themselves run in `make bench`, not
here."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_run", FOLDER / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_benchmark_of_the_table_has_rows(run: ModuleType) -> None:
    for name in run.BENCHMARKS:
        tree = ast.parse((FOLDER / f"{name}.py").read_text())
        assert "rows" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            name
        )


def test_a_row_becomes_a_line(run: ModuleType) -> None:
    rows = [
        {
            "name": "a",
            "ours": 9.71,
            "peer": 2.4,
            "ratio": 4.05,
            "unit": "frames/s",
            "peak_rss_mb": 812.4,
            "note": "why",
        },
        {"name": "b", "ours": 123.4, "unit": "ms", "peak_rss_mb": 70},
    ]
    assert list(run.table(rows))[2:] == [
        "| a | 9.71 frames/s | 2.4 frames/s | 4.05 x | 812 MB | why |",
        "| b | 123 ms |  |  | 70 MB |  |",
    ]


def test_the_readme_gets_the_figures_of_its_rows(run: ModuleType) -> None:
    readme = (
        "| `upscale` | makes it `x` | old |\n| `selftest` | tries | old |\n| `other` | a | old |\n"
    )
    rows = [
        {
            "name": "upscale, file to file, net, 176x144 x4",
            "ours": 9.71,
            "peer": 2.4,
            "ratio": 4.05,
            "unit": "frames/s",
        },
        {"name": "selftest: warm", "ours": 3.1, "unit": "ms"},
    ]
    assert (
        run.with_figures(readme, rows)
        == "| `upscale` | makes it `x` | net, 176x144 x4: 9.71 frames/s; peer 2.4 frames/s, ratio"
        " 4.05 x |\n| `selftest` | tries | warm: 3.1 ms |\n| `other` | a | old |\n"
    )


def test_a_failing_benchmark_fails_the_run(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "run_one", lambda name: None)
    monkeypatch.setattr(run, "DOCUMENT", tmp_path / "benchmarks.md")
    assert run.main([]) == 1
    assert not run.DOCUMENT.exists(), "half a table must not replace a whole one"


def test_each_runs_in_a_process_of_its_own_and_its_memory_is_measured(tmp_path: Path) -> None:
    """The runner with one small benchmark in place of ours."""
    (tmp_path / "run.py").write_text((FOLDER / "run.py").read_text())
    (tmp_path / "overhead.py").write_text(
        "def rows():\n    block = bytearray(300_000_000)\n"
        "    return [{'name': 'x', 'ours': len(block) / 1e8, 'unit': 'u', 'peer': None}]\n"
    )
    argv = [sys.executable, tmp_path / "run.py", "overhead"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    name, ours, peer, ratio, peak = re.findall(
        r"^\| (x) \| (.*?) \|(.*?)\|(.*?)\| (\d+) MB", shown, re.M
    )[0]
    assert (name, ours, peer.strip(), ratio.strip()) == ("x", "3 u", "", "")
    assert 300 < int(peak) < 700


def test_the_document_is_the_runners() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text()
    assert "Written by `make bench`" in text and "Not measured yet" in text
    assert re.search(r"Measured on \d{4}-\d\d-\d\d: .+ cores", text)
    assert "| what | ours | peer | ratio | peak RSS | note |" in text
