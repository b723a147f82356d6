"""track in the demo: boxes with their ids on four frames, and a timeline with one bar per track."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from gpu_worker.demo.images import data_uri, frames_at, thumbnail
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker_client.protocol import Track, TrackResult

MODEL = "yolov8n"
NO_WEIGHTS = "hog"
"""Finds standing people without any weights; taken where the network's are not here."""
NO_WEIGHTS_STRIDE = 4
"""It takes a fifth of a second for a frame."""
IMAGES = 4
IMAGE_PX = 480
MAX_BARS = 40
"""A video of its own may have hundreds of tracks; the timeline shows the longest."""
BAR_PX = 14
_GOLDEN_ANGLE = 0.381966


def request(desk: Desk) -> dict[str, Any]:
    params: dict[str, Any] = {"model": MODEL, "classes": ["person", "sports ball", "bus"]}
    if not desk.has_weights(MODEL):
        params = {"model": NO_WEIGHTS, "classes": ["person"], "frame_stride": NO_WEIGHTS_STRIDE}
    return {"task": "track", "input_url": desk.input_url(), "params": params}


def estimate_seconds(video: Video) -> float:
    return 3 + video.frames / 20  # yolov8n on two cores


def summary(result: TrackResult) -> str:
    return f"{result.stats.unique_tracks} tracks, {result.stats.boxes} boxes"


def html(result: TrackResult, video: Video, _folder: Path) -> str:
    if not result.tracks:
        return "<p>Nothing of the asked classes is in this video.</p>"
    busiest = busiest_frames(result.tracks, video.frames)
    images = frames_at(video.path, busiest)
    figures = "".join(
        _figure(result.tracks, frame, data_uri(thumbnail(images[frame], IMAGE_PX)), video)
        for frame in busiest
    )
    return f'<div class="frames">{figures}</div>{_timeline(result, video)}'


def busiest_frames(tracks: Sequence[Track], frames: int) -> list[int]:
    """The frame with most boxes of each quarter of the video, in order; a quarter without any is
    left out."""
    counts: dict[int, int] = {}
    for track in tracks:
        for box in track.frames:
            counts[box.frame] = counts.get(box.frame, 0) + 1
    quarters: dict[int, int] = {}
    for frame, count in sorted(counts.items()):
        quarter = frame * IMAGES // max(1, frames)
        if count > counts.get(quarters.get(quarter, -1), 0):
            quarters[quarter] = frame
    return [quarters[quarter] for quarter in sorted(quarters)]


def _figure(tracks: Sequence[Track], frame: int, image: str, video: Video) -> str:
    boxes = [(track, box) for track in tracks for box in track.frames if box.frame == frame]
    line = video.width / 200
    shapes = "".join(
        f'<rect x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}" fill="none"'
        f' stroke="{_color(track)}" stroke-width="{line:g}"/><text x="{x1:g}"'
        f' y="{max(y1 - line, 4 * line):g}" font-size="{video.height / 14:g}"'
        f' fill="{_color(track)}">{track.track_id} {escape(track.class_name)}</text>'
        for track, box in boxes
        for x1, y1, x2, y2 in [box.bbox]
    )
    return (
        f'<figure><svg viewBox="0 0 {video.width} {video.height}" style="width:100%" role="img"'
        f' aria-label="frame {frame}"><image href="{image}" width="{video.width}"'
        f' height="{video.height}"/>{shapes}</svg><figcaption>frame {frame}</figcaption></figure>'
    )


def _timeline(result: TrackResult, video: Video) -> str:
    longest = sorted(result.tracks, key=lambda track: -len(track.frames))[:MAX_BARS]
    bars = sorted(longest, key=lambda track: track.track_id)
    rows = "".join(
        f'<rect x="{track.frames[0].frame}" y="{row * BAR_PX + 2}"'
        f' width="{track.frames[-1].frame - track.frames[0].frame + 1}" height="{BAR_PX - 4}"'
        f' fill="{_color(track)}"><title>{track.track_id} {escape(track.class_name)}</title></rect>'
        for row, track in enumerate(bars)
    )
    height = len(bars) * BAR_PX
    cuts = "".join(
        f'<line x1="{cut}" x2="{cut}" y1="0" y2="{height}" stroke="currentColor"/>'
        for cut in result.cuts
    )
    return (
        f'<svg viewBox="0 0 {video.frames} {height}" preserveAspectRatio="none"'
        f' style="width:100%;height:{height}px" role="img" aria-label="timeline of'
        f' tracks">{rows}{cuts}</svg><p>One bar per track from its first frame to its last; lines'
        " are cuts, which no track crosses.</p>"
    )


def _color(track: Track) -> str:
    red, green, blue = colorsys.hsv_to_rgb(track.track_id * _GOLDEN_ANGLE % 1, 0.75, 0.9)
    return f"rgb({red * 255:.0f},{green * 255:.0f},{blue * 255:.0f})"


PANEL = Panel("track", request, summary, html, estimate_seconds)
