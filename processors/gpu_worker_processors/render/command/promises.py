"""What a command says about its output before it runs."""

from __future__ import annotations

from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.command import formats, units
from gpu_worker_processors.render.command.script import Script


def promised(script: Script) -> Expectation:
    """Of the last output; what the command leaves to its inputs is None."""
    names = {given.name for given in script.settings}
    muxer = formats.MUXERS[script.muxer]
    frames = script.last("frames")
    is_mapped = "map" in names
    return Expectation(
        video=False
        if "vn" in names or script.default_video is None
        else _is_mapped(script, "v")
        if is_mapped
        else None,
        audio=False
        if "an" in names or muxer.audio is None
        else _is_mapped(script, "a")
        if is_mapped
        else None,
        max_seconds=_max_seconds(script),
        max_frames=int(units.number(frames.plain) or 0) if frames and frames.is_of_video else None,
        frames=1 if muxer.still and not script.is_many else None,
        is_readable=muxer.is_checked,
    )


def _is_mapped(script: Script, media: str) -> bool | None:
    """True where a stream of this kind is mapped that must be there; None where only the inputs can
    decide."""
    maps = [given.plain for given in script.settings if given.name == "map"]
    if any(text.startswith("-") for text in maps):
        return None
    required = [text for text in maps if not text.startswith("[") and not text.endswith("?")]
    return True if any(f":{media}" in text for text in required) else None


def _max_seconds(script: Script) -> float | None:
    limits = [units.seconds(given.plain) for given in script.settings if given.name in ("t", "to")]
    return min((limit for limit in limits if limit is not None), default=None)
