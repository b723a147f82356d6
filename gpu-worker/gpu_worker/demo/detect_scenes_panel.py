"""detect_scenes in the demo: the video as a strip, one image per scene, as wide as the scene is
long."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from gpu_worker.demo.images import data_uri, frames_at, thumbnail
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker_client.protocol import DetectScenesResult, Scene

THUMBNAIL_PX = 320
MAX_IMAGES = 60
"""A long video of its own gets images for its first scenes only; all scenes are in the table."""


def request(desk: Desk) -> dict[str, Any]:
    return {"task": "detect_scenes", "input_url": desk.input_url()}


def estimate_seconds(video: Video) -> float:
    return (
        2 + video.frames * video.width * video.height / 200e6
    )  # decoding: about 100 frames/s of 1080p on two cores


def summary(result: DetectScenesResult) -> str:
    return f"{result.stats.total_scenes} scenes, {result.stats.avg_scene_length:.2f} s on average"


def html(result: DetectScenesResult, video: Video, _folder: Path) -> str:
    middles = {(s.start_frame + s.end_frame) // 2: s for s in result.scenes[:MAX_IMAGES]}
    images = frames_at(video.path, middles)
    figures = [
        _figure(number, scene, data_uri(thumbnail(images[middle], THUMBNAIL_PX)))
        for number, (middle, scene) in enumerate(middles.items(), 1)
    ]
    return f'<div class="strip">{"".join(figures)}</div>{_truth(result, video)}'


def _figure(number: int, scene: Scene, image: str) -> str:
    frames = scene.end_frame - scene.start_frame + 1
    return (
        f'<figure style="flex-grow:{frames}"><img src="{image}" alt="scene {number}">'
        f"<figcaption><b>{number}</b> {scene.start_time:.3f} s to {scene.end_time:.3f} s<br>"
        f"frames {scene.start_frame} to {scene.end_frame}</figcaption></figure>"
    )


def _truth(result: DetectScenesResult, video: Video) -> str:
    """For the demo's own clip: whether the cuts found are the cuts that were made."""
    if video.cuts is None:
        return ""
    found = tuple(scene.start_frame for scene in result.scenes[1:])
    verdict = "exactly those" if found == video.cuts else f"{', '.join(map(str, found)) or 'none'}"
    return (
        f"<p>Cuts were made at frames {', '.join(map(str, video.cuts))}; found:"
        f" {escape(verdict)}.</p>"
    )


PANEL = Panel("detect_scenes", request, summary, html, estimate_seconds)
