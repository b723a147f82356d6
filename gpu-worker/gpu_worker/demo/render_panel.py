"""render in the demo: an edit list that joins the video's halves the other way round, by a
dissolve."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from gpu_worker.demo.images import data_uri, frames_at
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker_client.protocol import RenderResult

INPUT, OUTPUT = "film.mp4", "render.mp4"
DISSOLVE_SECONDS = 0.5
SECONDS_PER_MEGAPIXEL = 0.05
"""Decoded, blended and encoded on two CPU cores."""
MIN_SECONDS = 4 * DISSOLVE_SECONDS
STILLS = 5


def request(desk: Desk) -> dict[str, Any]:
    middle = round(desk.video.frames / desk.video.fps / 2, 3)
    clips = [{"input": INPUT, "start": middle}, {"input": INPUT, "end": middle}]
    timeline = {
        "clips": clips,
        "transition": {"kind": "dissolve", "seconds": DISSOLVE_SECONDS},
        "output": {"width": 320, "height": 180},
    }
    return {
        "task": "render",
        "inputs": {INPUT: desk.input_url()},
        "output_url": desk.output_url(OUTPUT),
        "params": {"timeline": timeline},
    }


def unfit(video: Video) -> str | None:
    """Why there is nothing to join; None when there is."""
    return (
        None
        if video.frames / video.fps >= MIN_SECONDS
        else f"the video is shorter than {MIN_SECONDS:g} s"
    )


def estimate_seconds(video: Video) -> float:
    return 1 + video.frames * video.width * video.height / 1e6 * SECONDS_PER_MEGAPIXEL


def summary(result: RenderResult) -> str:
    stats = result.stats
    return (
        f"{stats.frames} frames, {stats.duration:.2f} s by {stats.encoder_used}, sandbox"
        f" {stats.sandbox}"
    )


def html(result: RenderResult, _video: Video, folder: Path) -> str:
    """Stills of the made video from its beginning to its end; the middle one lies in the
    dissolve."""
    count = result.stats.frames
    stills = frames_at(folder / OUTPUT, [n * (count - 1) // (STILLS - 1) for n in range(STILLS)])
    figures = [
        f'<figure><img src="{data_uri(image)}" alt="frame {index}"><figcaption>frame'
        f" {index}</figcaption></figure>"
        for index, image in sorted(stills.items())
    ]
    reason = result.stats.fallback_reason
    said = f" {escape(reason)}." if reason else ""
    return (
        f'<div class="trio">{"".join(figures)}</div><p><a href="{OUTPUT}">{OUTPUT}</a>:'
        f" {escape(summary(result))}.{said}</p>"
    )


PANEL = Panel("render", request, summary, html, estimate_seconds, outputs=(OUTPUT,), unfit=unfit)
