"""The crop window of a clip as expressions of FFmpeg: straight lines between keyframes, to 1/256
pixel.

The window is laid onto the whole frame by the `perspective` filter, so that it can stand between
two pixels and grow while it moves. What it is scaled to afterwards is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gpu_worker_client.protocol.timeline import ClipKeyframe
from gpu_worker_processors.render.timeline.graph import filter_text, number
from gpu_worker_processors.render.timeline.plan import PlacedClip, refused

_SAME_SHAPE = 0.01
"""Largest difference between the aspect ratios of a clip's windows."""
_OVERHANG_PX = 1.0
"""Pixels that a window may stand over the edge: sizes are rounded."""


def window_shape(placed: PlacedClip) -> Fraction:
    """Width over height of what is shown of a clip, in square pixels.

    Raises:
        TaskError: `invalid_task` for a window that is not in the frame, or windows of different
            shapes.
    """
    video = placed.video
    keys = placed.clip.keyframes
    if not keys:
        return video.shown_width / video.height
    first = keys[0].width / keys[0].height
    for n, key in enumerate(keys):
        field = f"clips.{placed.number}.keyframes.{n}"
        if (
            key.x + key.width > video.width + _OVERHANG_PX
            or key.y + key.height > video.height + _OVERHANG_PX
        ):
            raise refused(
                field,
                f"stands over the edge of the image, which is {video.width}x{video.height}",
            )
        if abs(key.width / key.height / first - 1) > _SAME_SHAPE:
            raise refused(field, "has another aspect ratio than the clip's first window")
    return Fraction(first).limit_denominator(10_000) * video.sar


def window_filter(placed: PlacedClip, fps: Fraction) -> str:
    """The filter that enlarges the window to the whole frame. Its input has the video's frames,
    from the clip's first one."""
    video = placed.video
    keys = placed.clip.keyframes or []
    # The filter counts frames from 1. Its corners are those of the frame's pixel grid and it
    # samples at pixel corners, where images are sampled at pixel centres: hence the half pixel in
    # each scale.
    frame_of = [
        float((Fraction(repr(key.time)) - placed.start) / placed.speed * fps) + 1 for key in keys
    ]
    left = [key.x + 0.5 * key.width / video.width - 0.5 for key in keys]
    top = [key.y + 0.5 * key.height / video.height - 0.5 for key in keys]
    right = [x + key.width for x, key in zip(left, keys, strict=True)]
    bottom = [y + key.height for y, key in zip(top, keys, strict=True)]
    x0, x1, y0, y2 = (polyline(frame_of, values) for values in (left, right, top, bottom))
    moves = "frame" if is_moving(keys) else "init"
    corners = {"x0": x0, "y0": y0, "x1": x1, "y1": y0, "x2": x0, "y2": y2, "x3": x1, "y3": y2}
    return filter_text("perspective", **corners, interpolation="cubic", sense="source", eval=moves)


def is_moving(keys: Sequence[ClipKeyframe]) -> bool:
    return len({(key.x, key.y, key.width, key.height) for key in keys}) > 1


def polyline(frames: Sequence[float], values: Sequence[float]) -> str:
    """An expression of the frame number `on`: straight between the points, level before the first
    and after the last."""
    terms = [number(round(values[0], 4))]
    for (a, b), (low, high) in zip(
        zip(frames, frames[1:], strict=False), zip(values, values[1:], strict=False), strict=False
    ):
        slope = (high - low) / (b - a)
        if slope:
            terms.append(f"{slope:+.9f}*clip(on-({number(a)}),0,{number(b - a)})")
    return "".join(terms)
