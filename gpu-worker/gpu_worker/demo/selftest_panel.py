"""selftest in the demo: versions, device, encoders, weights and processors of the worker that ran
everything else."""

from __future__ import annotations

from html import escape
from pathlib import Path

from gpu_worker.demo.panel import Panel, Video
from gpu_worker_client.protocol import SelftestResult


def summary(result: SelftestResult) -> str:
    waiting = [name for name, check in result.processors.items() if not check.ok]
    missing = f"; not ready: {', '.join(waiting)}" if waiting else ""
    return (
        f"{len(result.processors) - len(waiting)} of {len(result.processors)} processors ready on"
        f" {result.device}{missing}"
    )


def html(result: SelftestResult, _video: Video, _folder: Path) -> str:
    checks = {name: f"{_mark(c.ok)} {escape(c.detail)}" for name, c in result.processors.items()}
    return (
        '<div class="facts">'
        + _facts("Processors", checks)
        + _facts(
            "Encoders, by a real frame", {name: _mark(ok) for name, ok in result.encoders.items()}
        )
        + _facts("Weights", {name: _mark(ok) for name, ok in result.weights.items()})
        + _facts("Versions", {name: escape(version) for name, version in result.versions.items()})
        + "</div>"
    )


def _mark(ok: bool) -> str:
    return '<span class="yes">yes</span>' if ok else '<span class="no">no</span>'


def _facts(title: str, values: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in values.items()
    )
    return f"<div><h3>{escape(title)}</h3><table>{rows}</table></div>"


PANEL = Panel(
    "selftest", lambda _: {"task": "selftest"}, summary, html, estimate_seconds=lambda _: 10
)
