"""demo-output/report.html: one file that needs nothing beside it, every image inlined, readable
in light and dark."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from gpu_worker import __version__
from gpu_worker.demo.panel import Panel, Row, Video

WAY = (
    "The video was put into a local object store. Each task was submitted by the client SDK over"
    " HTTP, taken by the RunPod SDK's own worker loop and run by the warm engine process; every"
    " file came and went through presigned URLs."
)


def write_report(path: Path, rows: Sequence[Row], panels: Sequence[Panel], video: Video) -> None:
    """Writes the report. The files that tasks made lie in the same folder."""
    sections = [
        _section(row, panel, video, path.parent)
        for row in rows
        for panel in panels
        if panel.task == row.task
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width">'
        f"<title>gpu-worker demo</title><style>{_style()}</style>"
        f'<h1>gpu-worker demo</h1><p class="soft">{escape(_subtitle(video))}</p>'
        f"<p>{escape(WAY)}</p>"
        f"<section><h2>Tasks</h2>{_table(rows)}</section>{''.join(sections)}</html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _section(row: Row, panel: Panel, video: Video, folder: Path) -> str:
    body = (
        panel.html(row.result, video, folder) if row.result is not None else f"<p>{_text(row)}</p>"
    )
    return f'<section id="{escape(row.task)}"><h2>{escape(row.task)}</h2>{body}</section>'


def _table(rows: Sequence[Row]) -> str:
    head = '<tr><th>task<th><th>result<th class="number">seconds<th class="number">frames/s</tr>'
    return f'<table class="results">{head}{"".join(_line(row) for row in rows)}</table>'


def _line(row: Row) -> str:
    seconds = f"{row.seconds:.1f}" if row.seconds is not None else ""
    rate = f"{row.frames_per_second:.1f}" if row.frames_per_second else ""
    return (
        f'<tr><td><a href="#{escape(row.task)}">{escape(row.task)}</a><td'
        f' class="{row.state}">{row.state}<td>{_text(row)}<td class="number">{seconds}<td'
        f' class="number">{rate}</tr>'
    )


def _text(row: Row) -> str:
    if row.state == "skipped":
        return f"needs weights: <code>{escape(row.text)}</code>"
    return escape(row.text)


def _subtitle(video: Video) -> str:
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    clip = f"{video.width}x{video.height}, {video.frames} frames, {video.fps:g} frames/s"
    return (
        f"{when}, version {__version__}, {platform.machine()} with {os.cpu_count()} CPU cores."
        f" Video: {clip}."
    )


def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")
