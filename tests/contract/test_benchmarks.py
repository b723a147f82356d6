"""The benchmark runner and its document. The benchmarks themselves run in `make bench`, not
here."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT

from gpu_worker_client.estimate import CARDS
from gpu_worker_client.protocol import TASKS

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


def test_estimates_rest_on_the_figures_of_the_document(run: ModuleType) -> None:
    """One run writes docs/benchmarks.md, the README's table and the figures that `estimate`
    reads."""
    figures = json.loads(run.FIGURES.read_text(encoding="utf-8"))
    text, readme = run.DOCUMENT.read_text(encoding="utf-8"), run.README.read_text(encoding="utf-8")
    measured = figures["measured"]
    assert f"Measured on {measured['date']}: {measured['machine']};" in text
    found = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text, re.M))
    assert {row["task"] for row in measured["rows"]} == set(TASKS)
    for row in measured["rows"]:
        value, unit = found[row["row"]].split()
        scale = {"s": 1, "ms": 1000}.get(unit)
        ours = row["seconds"] * scale if scale else row["frames"] / row["seconds"]
        assert found[row["row"]] == run.figure(ours, unit), row["row"]
    for task, prefix in run.README_ROWS.items():
        name = next(name for name in found if name.startswith(prefix))
        assert re.search(
            rf"^\| `{task}` \|.*\| {re.escape(f'{name.removeprefix(prefix)}: {found[name]}')}",
            readme,
            re.M,
        ), task
    for name, card in figures["cards"].items():
        if price := card["usd_per_second"]:
            assert f"{CARDS[name].short_name} (${price:.5f}/s)" in text


def test_a_run_writes_the_figures(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DOCUMENT", "README", "FIGURES"):
        copy = tmp_path / name
        copy.write_text(getattr(run, name).read_text(encoding="utf-8"), encoding="utf-8")
        monkeypatch.setattr(run, name, copy)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    work = {"task": "beat", "audio_seconds": 30, "seconds": 0.5}
    row = {"name": "beat: x", "ours": 0.5, "unit": "s", "peak_rss_mb": 1.0, "work": work}
    monkeypatch.setattr(run, "run_one", lambda name: [row] if name == "beat" else [])
    before = json.loads(run.FIGURES.read_text(encoding="utf-8"))
    assert run.main([]) == 0
    after = json.loads(run.FIGURES.read_text(encoding="utf-8"))
    assert after["measured"]["rows"] == [{"row": "beat: x", **work}]
    assert (after["cards"], after["networks"]) == (before["cards"], before["networks"])
    assert after["measured"]["date"] in run.DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_row_without_its_weights_is_skipped_and_nothing_is_written(
    run: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "DOCUMENT", tmp_path / "benchmarks.md")
    code = "import json, sr; print(json.dumps(sr.rows()))"
    env = {name: value for name, value in os.environ.items() if name != "WEIGHTS_DIR"}
    argv = [sys.executable, "-c", code]
    shown = subprocess.run(argv, cwd=FOLDER, env=env, capture_output=True, text=True, check=True)
    rows = json.loads(shown.stdout)
    monkeypatch.setattr(run, "run_one", lambda name: rows if name == "sr" else [])
    assert run.main([]) == 0
    assert not run.DOCUMENT.exists()
    assert (
        "| realesr-animevideov3, 176x144, network only | skipped |  |  |  | needs"
        " realesr-animevideov3: `WEIGHTS_DIR=weights .venv/bin/gpu-worker weights pull"
        " realesr-animevideov3` |"
    ) in capsys.readouterr().out
