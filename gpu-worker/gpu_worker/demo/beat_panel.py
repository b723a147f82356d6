"""beat in the demo: loudness over time with a line on every beat, and the mix-down with a click on
each to listen to."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker_client.protocol import BeatResult, TaskError

MIX_DOWN = "beats.mp3"
ENERGY_HZ = 40
WIDTH, HEIGHT = 1200, 160
"""Units of the drawing; it is scaled to the page."""
MAX_SECONDS = 120.0
"""A long video of its own gets a drawing of its beginning only."""
MAX_INLINE_BYTES = 2_000_000
"""Two minutes of the mix-down."""
_TRUE_SECONDS = 0.015
"""Nearer than half a frame: cut on it."""


def request(desk: Desk) -> dict[str, Any]:
    return {
        "task": "beat",
        "input_url": desk.input_url(),
        "output_url": desk.output_url(MIX_DOWN),
        "params": {"energy_hz": ENERGY_HZ},
    }


def estimate_seconds(video: Video) -> float:
    return 1 + video.frames / video.fps / 60  # about 100 times as fast as it sounds, on one core


def unfit(video: Video) -> str | None:
    """Why the video has no audio to analyse; None when it has."""
    from gpu_worker_processors.media.audio import find_audio

    try:
        find_audio(video.path)
    except TaskError as error:
        return error.message
    return None


def summary(result: BeatResult) -> str:
    return (
        f"{result.stats.beats} beats, {result.tempo:.1f} a minute"
        if result.beat_times
        else "no beat"
    )


def html(result: BeatResult, video: Video, folder: Path) -> str:
    tempos = ", ".join(f"{c.bpm:.1f} ({c.score:.0%})" for c in result.tempo_candidates)
    said = f"<p>Tempos by evidence: {escape(tempos)}.</p>" if tempos else ""
    player = f'<p><audio controls preload="none" src="{_playable(folder / MIX_DOWN)}"></audio></p>'
    return f"{drawing(result)}{player}{said}{_truth(result, video)}"


def drawing(result: BeatResult) -> str:
    """The loudness as a mirrored outline, beats as lines, fainter where less sure."""
    seconds = min(result.duration, MAX_SECONDS) or 1.0
    loudest = max(result.energy.rms, default=0.0) or 1.0

    def x(time: float) -> float:
        return round(time / seconds * WIDTH, 2)

    points = [
        (x(t), r / loudest * HEIGHT / 2)
        for t, r in zip(result.energy.times, result.energy.rms, strict=True)
        if t <= seconds
    ]
    upper = [f"{at},{HEIGHT / 2 - height:.1f}" for at, height in points]
    lower = [f"{at},{HEIGHT / 2 + height:.1f}" for at, height in reversed(points)]
    lines = "".join(
        f'<line x1="{x(time)}" x2="{x(time)}" y1="0" y2="{HEIGHT}"'
        f' stroke-opacity="{0.3 + 0.7 * sure:.2f}"/>'
        for time, sure in zip(result.beat_times, result.confidence, strict=True)
        if time <= seconds
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="beats" style="width:100%"'
        f' preserveAspectRatio="none"><polygon points="{" ".join(upper + lower)}"'
        f' fill="var(--line)"/><g stroke="var(--accent)" stroke-width="2">{lines}</g></svg>'
    )


def _playable(path: Path) -> str:
    """A short click as a data URI, so that the report needs nothing beside it; a long one by its
    name."""
    if path.stat().st_size > MAX_INLINE_BYTES:
        return path.name
    return f"data:audio/mpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _truth(result: BeatResult, video: Video) -> str:
    """For the demo's own clip: how near the beats found are to the clicks that were made."""
    if video.cuts is None:
        return ""
    from gpu_worker.demo.clip import beat_times

    made = beat_times()
    near = sum(
        any(abs(time - beat) <= _TRUE_SECONDS for beat in result.beat_times) for time in made
    )
    extra = len(result.beat_times) - near
    return (
        f"<p>{len(made)} clicks were made, {near} of them found within 15 ms; {extra} beats too"
        " many.</p>"
    )


PANEL = Panel("beat", request, summary, html, estimate_seconds, outputs=(MIX_DOWN,), unfit=unfit)
