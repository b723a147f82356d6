"""`make bench`: every benchmark in a process of its own, peer and us side by side, into
docs/benchmarks.md, the README's table and the client's figures.json, which `estimate` reads.

    python benchmarks/run.py                  all of them; writes the document
    python benchmarks/run.py beat sr          these only; prints, writes nothing

A benchmark is a module here with `rows() -> list[dict]`: `name`, `ours`, `unit`, and where they
make sense `peer`, `ratio` (above 1: we are better), `peak_rss_mb`, `note`, and `work`: what was
done in how many seconds, for estimates. A row that cannot be measured here has `name` and
`skipped`, the reason; then nothing is written. Peer and we are measured in one run on one machine:
that makes the ratio mean something.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import TASKS

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BENCHMARKS = (
    *("overhead", "transfer", "sr", "crop_path"),
    *(kind.module for name, kind in TASKS.items() if name != "selftest"),
)
"""Modules beside this one, in the order of the table; `overhead` measures the self-test."""
VERSIONS = (
    "torch",
    "torchvision",
    "av",
    "numpy",
    "opencv-python-headless",
    "scenedetect-headless",
    "spandrel",
    "ultralytics",
    "librosa",
    "runpod",
)

FIGURES = ROOT / "client" / "gpu_worker_client" / "figures.json"
README = ROOT / "README.md"
README_ROWS = {name: f"{name}: " for name in TASKS} | {
    "upscale": "upscale, file to file, ",
    "detect_scenes": "detect_scenes: made at run time, ",
    "track": "track, file to result, ",
    "auto_crop": "auto_crop, file to file, ",
    "beat": "beat: 30 s of sound, file to beats, ",
    "render": "render, ",
}
"""Task in the README's table -> how the name of the row begins whose figures stand there."""

Row = dict[str, Any]

INTRO = """# Benchmarks

Written by `make bench`. Each row is one run on the machine described here: the peer and
this project one after the other in the same process, so the ratio holds even where the absolute
figures do not. A ratio above 1 means that this project is better.
Ratios vary by some 10 % from run to run on a shared machine.
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"some of: {', '.join(BENCHMARKS)}; all when none is given",
    )
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        Path(args.one[1]).write_text(
            json.dumps(importlib.import_module(args.one[0]).rows()), encoding="utf-8"
        )
        return 0
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    load = os.getloadavg()[0]
    results = {name: run_one(name) for name in args.names or BENCHMARKS}
    rows = [row for found in results.values() for row in found or []]
    text = "\n".join(table(rows))
    print(text)
    failed = [name for name, found in results.items() if found is None]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    if any("skipped" in row for row in rows):
        print("nothing is written: rows were skipped", file=sys.stderr)
    elif not args.names:
        # Found where this file is the program.
        from gpu_report import section

        when = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        DOCUMENT.write_text(
            "\n".join([INTRO, measured_on(when, load), "", text, "", section()]), encoding="utf-8"
        )
        figures = json.loads(FIGURES.read_text(encoding="utf-8"))
        figures["measured"] = {"device": "cpu", "date": when, "machine": machine()}
        figures["measured"]["rows"] = [
            {"row": row["name"], **row["work"]} for row in rows if "work" in row
        ]
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        README.write_text(with_figures(README.read_text(encoding="utf-8"), rows), encoding="utf-8")
        print(f"\nwritten to {DOCUMENT.relative_to(ROOT)}")
    return 0


def run_one(name: str) -> list[Row] | None:
    """The rows of one benchmark, run in a fresh process; None when it failed. Its peak memory fills
    rows that give none."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        process = subprocess.Popen(
            [sys.executable, __file__, "--one", name, out], stdout=sys.stderr
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            return None
        rows: list[Row] = json.loads(out.read_text(encoding="utf-8"))
    return [
        {"peak_rss_mb": usage.ru_maxrss / 1024, **{k: v for k, v in row.items() if v is not None}}
        for row in rows
    ]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as a Markdown table."""
    yield "| what | ours | peer | ratio | peak RSS | note |"
    yield "|---|---:|---:|---:|---:|---|"
    for row in rows:
        if "skipped" in row:
            yield f"| {row['name']} | skipped |  |  |  | {row['skipped']} |"
            continue
        unit = row.get("unit", "")
        ratio = f"{row['ratio']:.2f} x" if "ratio" in row else ""
        yield (
            f"| {row['name']} | {figure(row.get('ours'), unit)} | {figure(row.get('peer'), unit)}"
            f" | {ratio} | {row['peak_rss_mb']:.0f} MB | {row.get('note', '')} |"
        )


def figure(value: float | None, unit: str) -> str:
    """A cell: three digits and the unit; empty for None."""
    return (
        ""
        if value is None
        else f"{value:.3g} {unit}".strip()
        if abs(value) < 100
        else f"{value:.0f} {unit}".strip()
    )


def with_figures(readme: str, rows: Sequence[Row]) -> str:
    """The README's text with the last cell of each task's line set to the figures of its row."""
    for task, prefix in README_ROWS.items():
        row = next((row for row in rows if row["name"].startswith(prefix)), None)
        if row is not None:
            unit = row.get("unit", "")
            cell = f"{row['name'].removeprefix(prefix)}: {figure(row['ours'], unit)}"
            if "peer" in row:
                cell += f"; peer {figure(row['peer'], unit)}, ratio {row['ratio']:.2f} x"
            readme = re.sub(
                rf"^(\| `{task}` \|.*\| )[^|]*( \|)$",
                lambda m, cell=cell: m[1] + cell + m[2],
                readme,
                flags=re.M,
            )
    return readme


def measured_on(when: str, load: float) -> str:
    """The paragraph above the table. `load`: average before the first benchmark started."""
    busy = (
        " Other work shared the machine: an idle one gives higher absolute figures."
        if load > 1
        else ""
    )
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return (
        f"Measured on {when}: {machine()}; {versions}. Load average at the start: {load:.1f}.{busy}"
    )


def machine() -> str:
    """What the figures were measured on, without a name or a path."""
    return (
        f"{cpu_name()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB, Linux"
        f" {platform.machine()}, Python {platform.python_version()}"
    )


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
