"""What the shipped FFmpeg says about itself: its filters' options with their types, ranges and
constants, and what it lists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from tempfile import TemporaryDirectory

import imageio_ffmpeg

_OPTION = re.compile(r"^ {2,3}-?(\S+) +(\[?<\w+ *> *\]?) *[.A-Z]{11} ?(.*)$")
_CONSTANT = re.compile(r"^ {5}(\S+) +(?:-?\d+ +)?[.A-Z]{11}")
_RANGE = re.compile(r"\(from (\S+) to (\S+)\)")
_LISTED = re.compile(r"^ {1,2}(?:[A-Z.|]{2,6}|D E|DE|D|E) +(\S+)", re.MULTILINE)


@dataclass
class HelpOption:
    """One option as the help prints it."""

    name: str
    type: str
    """"int", "string", "pix_fmt", ...; "[int]" for an array."""
    low: float
    high: float
    constants: set[str] = field(default_factory=set[str])


@dataclass
class HelpFilter:
    own: list[HelpOption]
    """In the order in which values without a key take them."""
    inherited: list[HelpOption]
    """Of what is inside: frame synchronisation, the resampler."""
    has_timeline: bool

    @property
    def options(self) -> dict[str, HelpOption]:
        return {option.name: option for option in (*self.inherited, *self.own)}


def ffmpeg_says(*args: str) -> str:
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", *args]
    with TemporaryDirectory() as folder:  # a filter may write a file as soon as it is read
        run = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    return run.stdout + run.stderr


@cache
def listed(what: str) -> frozenset[str]:
    """Names that `ffmpeg -encoders`, `-muxers`, ... lists."""
    table = ffmpeg_says(f"-{what}")
    names = re.findall(r"^\w+$", table, re.MULTILINE) if what == "bsfs" else _LISTED.findall(table)
    return frozenset(part for name in names for part in name.split(","))


def settings_of(graph: str) -> list[tuple[str, str]]:
    """Every (key, value) that FFmpeg's own parser reads out of a filter graph, in order. Nothing is
    run: the output has a format that does not exist."""
    log = ffmpeg_says("-v", "repeat+debug", "-filter_complex", graph, "-f", "none_such", "-")
    pieces = re.split(r"\[AVFilterGraph @ 0x[0-9a-f]+\] Setting '([^']*)' to value '", log)[1:]
    return [
        (key, rest.split("'\n")[0]) for key, rest in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def filter_help(name: str) -> HelpFilter:
    """The help of one filter.

    Raises:
        LookupError: the shipped FFmpeg has no such filter.
    """
    text = ffmpeg_says("-h", f"filter={name}")
    if "Unknown filter" in text:
        raise LookupError(name)
    _, *sections = re.split(r"^\S.* AVOptions:$", text, flags=re.MULTILINE)
    groups = [list(_options(section)) for section in sections]
    inherited = [option for group in groups[1:] for option in group]
    return HelpFilter(groups[0] if groups else [], inherited, "support for timeline" in text)


def _options(section: str) -> Iterator[HelpOption]:
    current: HelpOption | None = None
    for line in section.splitlines():
        if found := _OPTION.match(line):
            bounds = _RANGE.search(found[3])
            low, high = (
                (_bound(bounds[1]), _bound(bounds[2])) if bounds else (float("-inf"), float("inf"))
            )
            current = HelpOption(found[1], re.sub(r"[< >]", "", found[2]), low, high)
            yield current
        elif current is not None and (constant := _CONSTANT.match(line)):
            current.constants.add(constant[1])


def _bound(text: str) -> float:
    """The number, or infinity for the limits of a C type."""
    if text in ("FLT_MIN", "DBL_MIN"):
        return 0.0  # the smallest positive number, not the most negative
    try:
        return float(text)
    except ValueError:
        return float("-inf") if "MIN" in text or text.startswith("-") else float("inf")
