"""Every allowed filter at the ends of its ranges: FFmpeg never crashes, and never runs on for long.
What lies outside of a range, and what is no number, is refused before it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ffmpeg_help
from support.extremes import AUDIO, INT_MAX, VIDEO, check, ends

from gpu_worker_processors.render.command.errors import Denied
from gpu_worker_processors.render.command.filters import FILTERS, FilterSpec
from gpu_worker_processors.render.command.graph import parse_graph
from gpu_worker_processors.render.command.values import Number, kind
from gpu_worker_processors.sandbox import landlock

WIDE = 100_000
"""A range in which an end may be far from anything that anybody has tried."""
SOURCES = {"V": VIDEO, "A": AUDIO}
"""What a filter reads, by the letter of its pad in FFmpeg's list."""
CRASHED_ONCE = [
    "bm3d=range=2147483647",
    "deband=range=-2147483648",
    "chorus=0.5:0.9:50:0.4:0.25:1000000",
    "chorus=0.5:0.9:1000000:0.4:0.25:2",
    "crossfeed=block_size=32768",
]


def pads() -> dict[str, tuple[str, str]]:
    """Kinds of the inputs and outputs of each filter: "VV", "V"; "|" for none, "N" for any
    number."""
    rows = re.findall(r"^ [T.]\S* +(\w+) +(\S+)->(\S+)", ffmpeg_help.ffmpeg_says("-filters"), re.M)
    return {name: (before, after) for name, before, after in rows}


def ranges(spec: FilterSpec) -> Iterator[tuple[str, float, float]]:
    """Every number of a filter, with the ends of its range."""
    for names, spelled in spec.keys:
        entry = kind(spelled)
        if isinstance(entry, Number):
            yield names[0], *ends(entry)


def graphs(spec: FilterSpec) -> Iterator[str]:
    """All numbers at their least, all at their greatest, and each wide one at either end."""
    numbers = list(ranges(spec))
    for end in (1, 2):
        yield f"{spec.name}=" + ":".join(f"{number[0]}={number[end]:.10g}" for number in numbers)
    for key, low, high in numbers:
        if high - low > WIDE:
            yield f"{spec.name}={key}={low:.10g}"
            yield f"{spec.name}={key}={high:.10g}"


def swept() -> list[str]:
    """Filters with numbers that run on a CPU, with a fixed number of pads."""
    return [
        spec.name
        for spec in FILTERS.values()
        if any(True for _ in ranges(spec)) and not spec.name.endswith("_cuda")
    ]


@pytest.mark.slow
@pytest.mark.skipif(landlock.abi() == 0, reason="render requires Landlock")
@pytest.mark.parametrize("name", swept())
def test_no_value_in_a_range_crashes_a_filter(name: str, tmp_path: Path) -> None:
    before, after = PADS[name]
    if "N" in before + after or before == after == "|":
        pytest.skip("how many streams it reads depends on its options")
    sources = [] if before == "|" else [SOURCES[letter] for letter in before]
    inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    labels = "".join(f"[{number}]" for number in range(len(sources)))
    outs = [] if after == "|" else [f"[o{number}]" for number in range(len(after))]
    maps = [word for label in outs for word in ("-map", label)]
    has_size = any("size" in names for names, _ in FILTERS[name].keys) and before == "|"
    for graph in graphs(FILTERS[name]):
        graph += ":size=64x48" * has_size
        words = [*inputs, "-filter_complex", f"{labels}{graph}{''.join(outs)}", *maps]
        check([*words, "-t", "0.2", "-f", "null", "-"], tmp_path)


PADS = pads()


@pytest.mark.parametrize("graph", CRASHED_ONCE)
def test_what_crashed_ffmpeg_once_is_refused(graph: str) -> None:
    with pytest.raises(Denied, match="must lie between"):
        parse_graph(graph, ())


@pytest.mark.parametrize(
    "value", ["nan", "NAN", "inf", "-inf", "1e99", "0x7fffffff", "1/0", "1e9^9"]
)
def test_what_is_no_finite_number_is_none(value: str) -> None:
    for name in swept():
        key = next(iter(ranges(FILTERS[name])))[0]
        with pytest.raises(Denied):
            parse_graph(f"{name}={key}={value}", ())


def test_what_is_outside_of_a_range_is_refused() -> None:
    for name in swept():
        for key, low, high in ranges(FILTERS[name]):
            beyond = [low - 1] * (low > -INT_MAX) + [high + 1] * (high < INT_MAX)
            for value in beyond:
                with pytest.raises(Denied):
                    parse_graph(f"{name}={key}={value:.10g}", ())
