"""Every allowed encoder in software at the ends of the ranges of its own numbers: FFmpeg never
crashes, and never runs on for long. What lies outside of a range, and what is no number, is refused
before it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support import ffmpeg_help
from support.extremes import AUDIO, VIDEO, check, ends

from gpu_worker_client.protocol import TaskError
from gpu_worker_processors.render.command import formats, parse_command
from gpu_worker_processors.render.command.options import OPTIONS, Option, Scope
from gpu_worker_processors.render.command.values import Number, kind
from gpu_worker_processors.render.hardware import STAND_INS
from gpu_worker_processors.sandbox import landlock

WIDE = 1000
"""A range in which an end may be far from anything that anybody has tried."""
FAILED_ONCE = [("wmv2", "quantizer_noise_shaping", "1"), ("vorbis", "ar", "1")]
"""A crash, and a run without an end."""
SOFTWARE = sorted((formats.VIDEO_ENCODERS | formats.AUDIO_ENCODERS) - STAND_INS.keys())


def media_of(encoder: str) -> str:
    return "v" if encoder in formats.VIDEO_ENCODERS else "a"


@cache
def own_options(encoder: str) -> frozenset[str]:
    """Names of the options that its help lists."""
    page = ffmpeg_help.ffmpeg_says("-h", f"encoder={encoder}")
    return frozenset(re.findall(r"^ {2}-([\w-]+) +<", page, re.MULTILINE))


def numbers(encoder: str) -> Iterator[tuple[Option, float, float]]:
    """Every number of the table that is an option of the encoder's own, with the ends of its
    range."""
    scope = Scope.VIDEO if media_of(encoder) == "v" else Scope.AUDIO
    for option in OPTIONS:
        if option.name not in own_options(encoder) or option.scope not in (scope, Scope.OUTPUT):
            continue
        entry = kind(option.kind) if re.match(r"(?:int|num)\b", option.kind) else None
        if isinstance(entry, Number):
            yield option, *ends(entry)


def words(encoder: str, *options: str) -> list[str]:
    media = media_of(encoder)
    source = ["-f", "lavfi", "-i", VIDEO if media == "v" else AUDIO]
    return [*source, f"-c:{media}", encoder, "-strict", "-2", *options, "-f", "null", "-"]


@pytest.mark.slow
@pytest.mark.skipif(landlock.abi() == 0, reason="render requires Landlock")
@pytest.mark.parametrize("encoder", SOFTWARE)
def test_no_value_in_a_range_crashes_an_encoder(encoder: str, tmp_path: Path) -> None:
    """All numbers at one end together, then each wide one at its greatest alone."""
    found = list(numbers(encoder))
    if not found:
        pytest.skip("it has no numbers of its own")
    media = media_of(encoder)
    for end in (1, 2):
        together = [(f"-{number[0].name}:{media}", f"{number[end]:.10g}") for number in found]
        check(words(encoder, *(word for pair in together for word in pair)), tmp_path)
    for option, low, high in found:
        if high - low > WIDE:
            check(words(encoder, f"-{option.name}:{media}", f"{high:.10g}"), tmp_path)


@pytest.mark.parametrize(("encoder", "name", "value"), FAILED_ONCE)
def test_what_an_encoder_failed_at_once_is_refused(encoder: str, name: str, value: str) -> None:
    with pytest.raises(TaskError, match="must lie between"):
        parse_command(words(encoder, f"-{name}", value), ())


@pytest.mark.parametrize("value", ["nan", "NAN", "inf", "-inf", "1e99", "1/0", "beyond"])
def test_what_is_no_number_of_the_range_is_refused(value: str) -> None:
    for option in OPTIONS:
        entry = kind(option.kind) if re.match(r"(?:int|num)\[", option.kind) else None
        if isinstance(entry, Number) and option.scope in (Scope.VIDEO, Scope.AUDIO):
            beyond = [f"{entry.low - 1:.17g}", f"{entry.high + max(1, abs(entry.high)):.17g}"]
            for text in beyond if value == "beyond" else [value]:
                with pytest.raises(TaskError, match="must"):
                    parse_command(["-i", "in.mp4", f"-{option.name}", text, "out.mp4"], ["in.mp4"])
