"""upscale in the demo: the video four times as large, beside what repeating pixels and bicubic
interpolation make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu_worker.demo.images import crop, data_uri, enlarge, frames_at
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker_client.protocol import UpscaleResult

MODEL = "realesr-animevideov3"
"""The smallest network of the task with weights to download: the demo must end within minutes on
two CPU cores."""
NO_WEIGHTS = "lite"
"""The network that ships with the worker."""
OUTPUT = "upscaled.mp4"
SECONDS_PER_MEGAPIXEL = 3.0
"""Of input, with this model on two CPU cores: about 0.1 s for a frame of 256x144."""
PAIRS = 4
CROP_PX = (400, 225)


def request(desk: Desk) -> dict[str, Any]:
    return {
        "task": "upscale",
        "input_url": desk.input_url(),
        "output_url": desk.output_url(OUTPUT),
        "params": {"model": MODEL if desk.has_weights(MODEL) else NO_WEIGHTS, "scale": 4},
    }


def estimate_seconds(video: Video) -> float:
    return video.frames * video.width * video.height / 1e6 * SECONDS_PER_MEGAPIXEL


def summary(result: UpscaleResult) -> str:
    stats = result.stats
    return f"{stats.input_resolution} to {stats.output_resolution}, {stats.frames_processed} frames"


def html(_result: UpscaleResult, video: Video, folder: Path) -> str:
    indices = [(2 * n + 1) * video.frames // (2 * PAIRS) for n in range(PAIRS)]
    before, after = frames_at(video.path, indices), frames_at(folder / OUTPUT, indices)
    rows = [_row(index, before[index], after[index]) for index in sorted(after)]
    slider = _slider(before[min(after)], after[min(after)])
    network = f"{MODEL}, or {NO_WEIGHTS} where its weights are not here"
    return (
        f'{slider}{"".join(rows)}<p>The whole video: <a href="{OUTPUT}">{OUTPUT}</a>. Network:'
        f" {network}.</p>"
    )


def _row(index: int, small: Any, large: Any) -> str:
    """One frame three times: a part of each at full size."""
    height, width = large.shape[:2]
    ways = (
        ("nearest", enlarge(small, width, height, smooth=False)),
        ("bicubic", enlarge(small, width, height, smooth=True)),
        ("network", large),
    )
    shown = [(name, data_uri(crop(image, 0.5, 0.4, *CROP_PX))) for name, image in ways]
    figures = [
        f'<figure><img src="{uri}" alt="{name}"><figcaption>{name}</figcaption></figure>'
        for name, uri in shown
    ]
    return f'<h3>Frame {index}</h3><div class="trio">{"".join(figures)}</div>'


def _slider(small: Any, large: Any) -> str:
    """The whole frame, bicubic left of a line that follows the slider, network right of it."""
    height, width = large.shape[:2]
    bicubic = data_uri(enlarge(small, width, height, smooth=True))
    return (
        '<div class="compare" style="--at:50%">'
        f'<img src="{data_uri(large)}" alt="network"><img class="over" src="{bicubic}"'
        ' alt="bicubic">'
        '<input type="range" min="0" max="100" value="50" aria-label="bicubic left, network right" '
        "oninput=\"this.parentNode.style.setProperty('--at',this.value+'%')\">"
        "<span>bicubic</span><span>network</span></div>"
    )


PANEL = Panel("upscale", request, summary, html, estimate_seconds, outputs=(OUTPUT,))
