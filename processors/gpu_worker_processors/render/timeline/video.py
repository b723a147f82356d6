"""The frames of a timeline's video: each clip brought to the output's rate, colours and size, then
joined.

A frame of the output shows the source's frame that is on screen at that time, a clip that ends a
little early holds its last frame, and every stream leaves here as BT.709 in limited range with
square pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gpu_worker_processors.render.timeline.crop import window_filter, window_shape
from gpu_worker_processors.render.timeline.graph import Graph, filter_text
from gpu_worker_processors.render.timeline.plan import PlacedClip, VideoPlan, even, nearest
from gpu_worker_processors.render.timeline.sources import SourceVideo

FORMAT = "yuv420p"
"""Pixel format of the video until it is encoded."""
_EARLY = Fraction(1, 14)
"""Frames by which a source frame counts as on screen before its time stamp, which the
container may have rounded. Half a frame less than `fps` rounds by itself: at half, every second
frame of a 60 Hz source would be a toss-up at 30 Hz."""
_BT709 = 1
"""Matrix, primaries and transfer function alike in ITU-T H.273; zscale takes its numbers."""
_RGB = 0
_SDR_TONE_NITS = 100
"""Nominal peak of the video in the tone mapping of HDR sources, BT.2408's reference for SDR."""


def clip_video(graph: Graph, pad: str, placed: PlacedClip, plan: VideoPlan, fit: str) -> str:
    """The pad of a clip's frames, `placed.frames` frames of the video's size, the first at 0.

    Args:
        pad: the input's video stream, "0:0".
        fit: "contain" or "cover".

    Raises:
        TaskError: `invalid_task` for a crop window that cannot be shown.
    """
    shape = window_shape(placed)
    filters = [*_on_time(placed, plan.fps)]
    if placed.clip.keyframes:
        filters += [*to_bt709(placed.video), "format=yuv444p", window_filter(placed, plan.fps)]
        filters += [filter_text("zscale", *fitted(shape, plan, fit), filter="bicubic")]
    else:
        filters += to_bt709(placed.video, fitted(shape, plan, fit))
    filters += [f"format={FORMAT}", *_framed(shape, plan, fit), "setsar=1", *_faded(placed, plan)]
    return graph.chain([pad], filters)


def join_video(graph: Graph, pads: Sequence[str], plan: VideoPlan) -> str:
    """The pad of all clips' frames."""
    clock = filter_text("settb", 1 / plan.fps)
    joined = ""
    for run in runs(plan):
        part = pads[run[0]]
        if len(run) > 1:
            part = graph.chain(
                [pads[n] for n in run], [filter_text("concat", n=len(run), v=1, a=0), clock]
            )
        if not joined:
            joined = part
            continue
        seconds = plan.joins[run[0] - 1].dissolve / plan.fps
        start = plan.clips[run[0]].first / plan.fps
        mixed = filter_text(
            "xfade", transition="fade", duration=float(seconds), offset=float(start)
        )
        joined = graph.chain([joined, part], [mixed, clock])
    return joined


def runs(plan: VideoPlan) -> list[list[int]]:
    """Numbers of the clips in groups: within one they follow each other, between two there is a
    dissolve."""
    groups = [[0]]
    for number, join in enumerate(plan.joins, 1):
        if join.dissolve:
            groups.append([number])
        else:
            groups[-1].append(number)
    return groups


def to_bt709(video: SourceVideo, size: tuple[int, int] | None = None) -> list[str]:
    """Filters from a source's colours to BT.709 in limited range, scaled on the way."""
    tags = video.tags
    scaled: dict[str, int | str] = (
        {"width": size[0], "height": size[1], "filter": "bicubic"} if size else {}
    )
    is_rgb = video.pix_fmt.startswith(("rgb", "bgr", "gbr", "pal8", "argb", "abgr", "0rgb", "0bgr"))
    coming: dict[str, int | str] = {
        "matrixin": _RGB if is_rgb else tags.matrix,
        "primariesin": tags.primaries,
        "transferin": tags.transfer
        if tags.is_hdr
        else _BT709,  # SDR curves are shown alike, whatever they are called
        "rangein": "full" if is_rgb or tags.full_range else "limited",
    }
    going: dict[str, int | str] = {
        "matrix": _BT709,
        "primaries": _BT709,
        "transfer": _BT709,
        "range": "limited",
    }
    first = _whole_chroma(video, is_rgb)
    if not tags.is_hdr:
        return [*first, filter_text("zscale", **coming, **going, **scaled)]
    light = filter_text("zscale", **coming, transfer="linear", npl=_SDR_TONE_NITS, **scaled)
    primaries = filter_text("zscale", primaries=_BT709)
    return [
        *first,
        light,
        "format=gbrpf32le",
        primaries,
        "tonemap=hable:desat=0",
        filter_text("zscale", **going),
    ]


def fitted(shape: Fraction, plan: VideoPlan, fit: str) -> tuple[int, int]:
    """Size of a frame of a shape, width over height, so that it fits into the video or covers it.
    Even."""
    wider = shape > Fraction(plan.width, plan.height)
    if wider == (fit == "contain"):
        return plan.width, even(plan.width / shape)
    return even(plan.height * shape), plan.height


def _on_time(placed: PlacedClip, fps: Fraction) -> list[str]:
    """Filters that make the source's frames the video's, `placed.frames` of them."""
    ended = filter_text("trim", end_frame=placed.frames)
    if placed.source.is_still:
        counted = filter_text("setpts", f"N*{fps.denominator}/{fps.numerator}/TB")
        return ["loop=loop=-1:size=1", "settb=AVTB", counted, filter_text("fps", fps=fps), ended]
    return [
        *(["bwdif=mode=send_frame:deint=interlaced"] if placed.video.interlaced else []),
        "settb=AVTB",
        *on_time(placed.source.origin_seconds + placed.start, fps, placed.speed),
        "tpad=stop_mode=clone:stop=-1",
        ended,
    ]


def on_time(start: Fraction, fps: Fraction, speed: Fraction = Fraction(1)) -> list[str]:  # noqa: B008 - immutable
    """Filters that make a source's frames those of the output's rate, time stamp `start` the
    first."""
    start_us, early_us = nearest(start * 1_000_000), nearest(_EARLY / fps * 1_000_000)
    slower = f"{speed.denominator}/{speed.numerator}"
    return [
        filter_text("setpts", f"(PTS-({start_us}))*{slower}+{early_us}"),
        filter_text("fps", fps=fps, start_time=0, round="near"),
    ]


def _whole_chroma(video: SourceVideo, is_rgb: bool) -> list[str]:
    """zscale takes neither packed RGB nor an odd size with halved chroma."""
    deep = video.bit_depth > 8
    if is_rgb:
        return ["format=gbrp16le" if deep else "format=gbrp"]
    if video.width % 2 or video.height % 2:
        return ["format=yuv444p10le" if deep else "format=yuv444p"]
    return []


def _framed(shape: Fraction, plan: VideoPlan, fit: str) -> list[str]:
    """Black around what is smaller than the video, or a cut of what is larger."""
    width, height = fitted(shape, plan, fit)
    if (width, height) == (plan.width, plan.height):
        return []
    x, y = abs(plan.width - width) // 4 * 2, abs(plan.height - height) // 4 * 2
    name = "pad" if fit == "contain" else "crop"
    return [filter_text(name, plan.width, plan.height, x, y)]


def _faded(placed: PlacedClip, plan: VideoPlan) -> list[str]:
    fade_in, fade_out = fades_of(placed, plan)
    filters = [filter_text("fade", t="in", start_frame=0, nb_frames=fade_in)] if fade_in else []
    if fade_out:
        filters.append(
            filter_text("fade", t="out", start_frame=placed.frames - fade_out, nb_frames=fade_out)
        )
    return filters


def fades_of(placed: PlacedClip, plan: VideoPlan) -> tuple[int, int]:
    """Frames that a clip takes to come from black, and to go to it."""
    number = placed.number
    fade_in = plan.joins[number - 1].fade_in if number else 0
    fade_out = plan.joins[number].fade_out if number < len(plan.joins) else 0
    return fade_in, fade_out
