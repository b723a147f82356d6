"""Filters that hold all of what they read (`reverse`): whether that fits into a job's memory, found
out before the work begins."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.sniff import sniff
from gpu_worker_processors.render.command import Command, units
from gpu_worker_processors.render.command.graph import Filter
from gpu_worker_processors.render.command.script import Input
from gpu_worker_processors.render.command.values import InputFile
from gpu_worker_processors.render.run import memory_bytes

_HOLDING = frozenset({"reverse", "areverse"})
_SHARE = 0.6
"""Of the machine's memory; the rest is for the decoders, the encoder and the worker."""
_BYTES_OF_PIXEL = 1.5
"""8-bit 4:2:0, the least that video has."""


def check_held(command: Command, limits: Limits) -> None:
    """
    Raises:
        TaskError: `media_limit`: the frames that a filter would hold do not fit; `corrupt_media`
            and the like for an input that cannot be opened.
    """
    filters = [item for graph in command.script.graphs for item in graph.filters]
    times = sum(item.name in _HOLDING for item in filters)
    if not times:
        return
    pixels = min(_scaled_to(filters), default=limits.max_pixels)
    seconds = min(_trimmed_to(filters), default=units.MAX_SECONDS)
    held = max(
        (_decoded_bytes(command, item, pixels, seconds, limits) for item in command.script.inputs),
        default=0.0,
    )
    allowed = _SHARE * memory_bytes()
    if held * times > allowed:
        raise TaskError(
            ErrorCode.media_limit,
            "reverse holds every frame in memory: this would take"
            f" {held * times / 2**30:.1f} GiB, and a job may hold {allowed / 2**30:.1f} GiB; cut"
            " the input with -t before -i, or scale before the filter",
        )


def _decoded_bytes(
    command: Command, item: Input, pixels: float, seconds: float, limits: Limits
) -> float:
    """Of the first video stream of an input, at most `pixels` a frame and `seconds` long."""
    import av

    from gpu_worker_processors.media.container import opened

    if not isinstance(item.source, InputFile):
        return 0.0
    path = command.paths[item.source.name]
    try:
        kind = sniff(path)
    except TaskError:  # a still image, subtitles: what they are was checked with the command
        return 0.0
    with opened(path, kind, limits, decode=False) as container:
        video = next(iter(container.streams.video), None)
        if video is None:
            return 0.0
        length = (container.duration or 0) / av.time_base
        for given in item.settings:
            if given.name == "t":
                length = min(length, units.seconds(given.plain) or length)
        frames = min(length, seconds) * float(video.average_rate or 25)
        return frames * min(pixels, video.width * video.height) * _BYTES_OF_PIXEL


def _scaled_to(filters: list[Filter]) -> Iterator[float]:
    """Pixels of a frame after every scale to literal sides."""
    for item in filters:
        sides = [item.option(key) for key in ("w", "h")]
        numbers = [units.number(side.text(str)) for side in sides if side is not None]
        if item.name == "scale" and len(numbers) == 2 and all(numbers):
            yield max(0.0, numbers[0] or 0.0) * max(0.0, numbers[1] or 0.0) or 2.0**31


def _trimmed_to(filters: list[Filter]) -> Iterator[float]:
    """Seconds after every trim to a literal length."""
    for item in filters:
        for key in ("end", "duration"):
            value = item.option(key) if item.name == "trim" else None
            found = units.seconds(value.text(str)) if value is not None else None
            if found is not None:
                yield found
