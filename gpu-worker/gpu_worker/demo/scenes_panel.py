"""detect_scenes in the demo: the film as a strip, one picture per scene, as wide as the scene is
long."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from gpu_worker.demo.images import data_uri, frames_at, thumbnail
from gpu_worker.demo.panel import Desk, Film, Panel
from gpu_worker_client.protocol import DetectScenesResult, Scene

THUMBNAIL_PX = 320
MAX_PICTURES = 60
"""A long film of its own gets pictures for its first scenes only; all scenes are in the table."""


def request(desk: Desk) -> dict[str, Any]:
    return {"task": "detect_scenes", "input_url": desk.input_url()}


def estimate_seconds(film: Film) -> float:
    return (
        2 + film.frames * film.width * film.height / 200e6
    )  # decoding: about 100 frames/s of 1080p on two cores


def summary(result: DetectScenesResult) -> str:
    return f"{result.stats.total_scenes} scenes, {result.stats.avg_scene_length:.2f} s on average"


def html(result: DetectScenesResult, film: Film, _folder: Path) -> str:
    middles = {(s.start_frame + s.end_frame) // 2: s for s in result.scenes[:MAX_PICTURES]}
    pictures = frames_at(film.path, middles)
    figures = [
        _figure(number, scene, data_uri(thumbnail(pictures[middle], THUMBNAIL_PX)))
        for number, (middle, scene) in enumerate(middles.items(), 1)
    ]
    return f'<div class="strip">{"".join(figures)}</div>{_truth(result, film)}'


def _figure(number: int, scene: Scene, picture: str) -> str:
    frames = scene.end_frame - scene.start_frame + 1
    return (
        f'<figure style="flex-grow:{frames}"><img src="{picture}" alt="scene {number}">'
        f"<figcaption><b>{number}</b> {scene.start_time:.3f} s to {scene.end_time:.3f} s<br>"
        f"frames {scene.start_frame} to {scene.end_frame}</figcaption></figure>"
    )


def _truth(result: DetectScenesResult, film: Film) -> str:
    """For the demo's own clip: whether the cuts found are the cuts that were made."""
    if film.cuts is None:
        return ""
    found = tuple(scene.start_frame for scene in result.scenes[1:])
    verdict = "exactly those" if found == film.cuts else f"{', '.join(map(str, found)) or 'none'}"
    return (
        f"<p>Cuts were made at frames {', '.join(map(str, film.cuts))}; found:"
        f" {escape(verdict)}.</p>"
    )


PANEL = Panel("detect_scenes", request, summary, html, estimate_seconds)
