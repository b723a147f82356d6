"""auto_crop in the demo: the window on the source beside what it shows, its path over time, a
contact sheet of the result."""

from __future__ import annotations

from bisect import bisect_right
from html import escape
from pathlib import Path
from typing import Any

from gpu_worker.demo.images import data_uri, frames_at, thumbnail
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker.demo.track_panel import MODEL, NO_WEIGHTS, NO_WEIGHTS_STRIDE
from gpu_worker_client.protocol import AutoCropResult

OUTPUT = "cropped.mp4"
PAIRS = 4
SHEET = 12
IMAGE_PX = 480
SHEET_PX = 200
PATH_PX = 160

Window = tuple[float, float, float, float]


def request(desk: Desk) -> dict[str, Any]:
    params: dict[str, Any] = {"model": MODEL, "classes": ["person", "sports ball"]}
    if not desk.has_weights(MODEL):
        params = {"model": NO_WEIGHTS, "classes": ["person"], "frame_stride": NO_WEIGHTS_STRIDE}
    return {
        "task": "auto_crop",
        "input_url": desk.input_url(),
        "output_url": desk.output_url(OUTPUT),
        "params": params,
    }


def estimate_seconds(video: Video) -> float:
    return 3 + video.frames / 15  # yolov8n, then x264, on two cores


def summary(result: AutoCropResult) -> str:
    stats = result.stats
    return (
        f"{stats.input_resolution} to {stats.output_resolution}, {stats.shots} shots, still in"
        f" {stats.still:.0%} of frames"
    )


def html(result: AutoCropResult, video: Video, folder: Path) -> str:
    frames = result.stats.frames_processed
    pairs = [(2 * n + 1) * frames // (2 * PAIRS) for n in range(PAIRS)]
    sheet = [(2 * n + 1) * frames // (2 * SHEET) for n in range(SHEET)]
    before, after = frames_at(video.path, pairs), frames_at(folder / OUTPUT, {*pairs, *sheet})
    rows = "".join(_pair(result, frame, before[frame], after[frame]) for frame in sorted(before))
    strip = "".join(
        _figure(data_uri(thumbnail(after[frame], SHEET_PX)), f"frame {frame}")
        for frame in sorted(set(sheet))
    )
    return (
        f'{rows}{_path(result)}{_who(result)}<div class="strip">{strip}</div><p><a'
        f' href="{OUTPUT}">{OUTPUT}</a></p>'
    )


def window_at(result: AutoCropResult, frame: int) -> Window:
    """The window at a frame: on the straight line between its neighbouring keyframes."""
    keys = result.crop_keyframes
    after = min(bisect_right([key.frame for key in keys], frame), len(keys) - 1)
    a, b = keys[max(0, after - 1)], keys[after]
    share = min(1.0, (frame - a.frame) / (b.frame - a.frame)) if b.frame > a.frame else 0.0
    pairs = ((a.x, b.x), (a.y, b.y), (a.width, b.width), (a.height, b.height))
    x, y, width, height = (one + share * (other - one) for one, other in pairs)
    return x, y, width, height


def _pair(result: AutoCropResult, frame: int, source: Any, cropped: Any) -> str:
    width, height = _size(result)
    x, y, w, h = window_at(result, frame)
    image = data_uri(thumbnail(source, IMAGE_PX))
    drawn = (
        f'<svg viewBox="0 0 {width} {height}" style="width:100%" role="img" aria-label="window at'
        f' frame {frame}"><image href="{image}" width="{width}" height="{height}"'
        f' preserveAspectRatio="none"/><path d="M0 0H{width}V{height}H0ZM{x:g}'
        f' {y:g}v{h:g}h{w:g}v{-h:g}Z" fill="#000" fill-opacity=".45"/><rect x="{x:g}" y="{y:g}"'
        f' width="{w:g}" height="{h:g}" fill="none" stroke="#fff"'
        f' stroke-width="{width / 200:g}"/></svg>'
    )
    left = (
        f"<figure>{drawn}<figcaption>frame {frame}, window {w:.0f}x{h:.0f} at {x:.2f},"
        f" {y:.2f}</figcaption></figure>"
    )
    right = _figure(data_uri(thumbnail(cropped, IMAGE_PX)), "result")
    share = width / (width + height * cropped.shape[1] / cropped.shape[0])
    return (
        f'<div style="display:grid;gap:8px;grid-template-columns:{share:.3f}fr'
        f' {1 - share:.3f}fr">{left}{right}</div>'
    )


def _path(result: AutoCropResult) -> str:
    """Time goes right; the band is what the window shows of the image's width. A new band begins
    at every cut."""
    width, _ = _size(result)
    last = max(1, result.stats.frames_processed)
    bands: dict[int, list[tuple[int, Window]]] = {}
    starts = sorted(
        {
            segment.start_frame
            for segment in result.segments
            if _begins_shot(result, segment.start_frame)
        }
    )
    for key in result.crop_keyframes:
        bands.setdefault(bisect_right(starts, key.frame), []).append(
            (key.frame, (key.x, key.y, key.width, key.height))
        )
    shapes = "".join(_band(points, last, width) for points in bands.values())
    return (
        f'<svg viewBox="0 0 1000 {PATH_PX}" preserveAspectRatio="none"'
        f' style="width:100%;height:{PATH_PX}px" role="img" aria-label="path of the window"><rect'
        f' width="1000" height="{PATH_PX}" fill="none" stroke="currentColor"/>{shapes}</svg><p>The'
        " window's left and right edge over time, the source's width from top to bottom.</p>"
    )


def _begins_shot(result: AutoCropResult, frame: int) -> bool:
    shots = {segment.start_frame: segment.shot for segment in result.segments}
    before = max((start for start in shots if start < frame), default=None)
    return before is not None and shots[before] != shots[frame]


def _band(points: list[tuple[int, Window]], last: int, width: float) -> str:
    there = [
        f"{frame / last * 1000:.1f},{window[0] / width * PATH_PX:.2f}" for frame, window in points
    ]
    back = [
        f"{frame / last * 1000:.1f},{(window[0] + window[2]) / width * PATH_PX:.2f}"
        for frame, window in reversed(points)
    ]
    return (
        f'<polygon points="{" ".join([*there, *back])}" fill="var(--accent)" fill-opacity=".35"'
        ' stroke="var(--accent)"/>'
    )


def _who(result: AutoCropResult) -> str:
    rows = "".join(
        f"<tr><td>{segment.start_time:.2f} to {segment.end_time:.2f}"
        f" s</td><td>{segment.layout}</td><td>{escape(segment.subject.class_name or 'nobody')}"
        f" {segment.subject.track_id or ''}</td><td>{escape(segment.subject.reason)}</td></tr>"
        for segment in result.segments[:SHEET]
    )
    return f"<table><tr><th>when</th><th>layout</th><th>who</th><th>why</th></tr>{rows}</table>"


def _figure(image: str, caption: str) -> str:
    return f'<figure><img src="{image}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _size(result: AutoCropResult) -> tuple[int, int]:
    width, height = (int(side) for side in result.stats.input_resolution.split("x"))
    return width, height


PANEL = Panel("auto_crop", request, summary, html, estimate_seconds, outputs=(OUTPUT,))
