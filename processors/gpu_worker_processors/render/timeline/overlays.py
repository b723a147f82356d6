"""What lies over a video: images, videos and text, each from one frame of it to another."""

from __future__ import annotations

from fractions import Fraction

from gpu_worker_client.protocol.timeline import Overlay
from gpu_worker_processors.render.fonts import TextFont
from gpu_worker_processors.render.timeline.graph import Graph, filter_text
from gpu_worker_processors.render.timeline.plan import VideoPlan, even, refused
from gpu_worker_processors.render.timeline.sources import TimelineSource
from gpu_worker_processors.render.timeline.text import text_filters
from gpu_worker_processors.render.timeline.video import on_time


def overlaid(
    graph: Graph,
    video_pad: str,
    pad: str,
    overlay: Overlay,
    number: int,
    source: TimelineSource,
    plan: VideoPlan,
) -> str:
    """The pad of the video with a frame or video over it.

    Args:
        pad: the overlay's video stream, "3:0".

    Raises:
        TaskError: `invalid_task` where the input has no frame, or the overlay is never shown.
    """
    video = source.video
    if video is None:
        raise refused(f"overlays.{number}.input", "holds no image and no video")
    first, end = _span(overlay, number, plan)
    width = overlay.width or even(video.shown_width)
    height = even(width / video.shown_width * video.height)
    times = ["setpts=0"] if source.is_still else _played(source, first, end, plan.fps)
    clear = (
        [f"format=rgba,{filter_text('colorchannelmixer', aa=overlay.opacity)}"]
        if overlay.opacity < 1
        else []
    )
    size = filter_text(
        "scale", width, height, flags="bicubic", out_color_matrix="bt709", out_range="tv"
    )
    over = graph.chain([pad], ["settb=AVTB", *times, *clear, size, "format=yuva420p", "setsar=1"])
    shown = filter_text(
        "overlay",
        x=overlay.x,
        y=overlay.y,
        eof_action="repeat",
        enable=_during(first, end, plan.fps),
    )
    return graph.chain([video_pad, over], [shown])


def written(
    graph: Graph, video_pad: str, overlay: Overlay, number: int, font: TextFont, plan: VideoPlan
) -> str:
    """The pad of the video with a text over it."""
    first, end = _span(overlay, number, plan)
    return graph.chain([video_pad], text_filters(overlay, first, end, font, plan))


def _span(overlay: Overlay, number: int, plan: VideoPlan) -> tuple[int, int]:
    """First frame of the video with the overlay, and the first one after it."""
    first = plan.frame_at(overlay.start)
    end = plan.frames if overlay.end is None else min(plan.frames, plan.frame_at(overlay.end))
    if first >= end:
        raise refused(
            f"overlays.{number}",
            f"is never shown: the video ends at {float(plan.seconds):.3f} seconds",
        )
    return first, end


def _during(first: int, end: int, fps: Fraction) -> str:
    """True from one frame up to another. Compared half a frame before them, so that no rounding of
    `t` decides."""
    half = Fraction(1, 2)
    return f"between(t,{float((first - half) / fps):.6f},{float((end - half) / fps):.6f})"


def _played(source: TimelineSource, first: int, end: int, fps: Fraction) -> list[str]:
    """Filters that give the overlay the video's frames, from `first` up to `end`: what it has
    beyond them would make the video longer."""
    return [
        *on_time(source.origin_seconds, fps),
        filter_text("trim", end_frame=end - first),
        filter_text("setpts", f"(N+{first})*{fps.denominator}/{fps.numerator}/TB"),
    ]
