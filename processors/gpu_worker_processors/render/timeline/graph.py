"""The text of a filter graph, written from values. Every value is quoted here, so none of them can
be read as syntax."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

Value = str | int | float | Fraction

_IN_OPTION = re.compile(r"([\\':\s])")
"""What means something inside a filter's options.
https://ffmpeg.org/ffmpeg-filters.html#Notes-on-filtergraph-escaping"""
_IN_GRAPH = re.compile(r"([\\'\[\],;])")
"""What means something between filters; applied to the text that the first level has quoted."""


def filter_text(name: str, /, *positional: Value, **options: Value) -> str:
    """One filter: `filter_text("trim", end_frame=25)` is `trim=end_frame=25`."""
    pairs = [quoted(value) for value in positional] + [
        f"{key}={quoted(value)}" for key, value in options.items()
    ]
    return f"{name}={':'.join(pairs)}" if pairs else name


def quoted(value: Value) -> str:
    """A value as it stands in a graph, backslashes at both levels."""
    return _IN_GRAPH.sub(
        r"\\\1", _IN_OPTION.sub(r"\\\1", number(value) if not isinstance(value, str) else value)
    )


def number(value: int | float | Fraction) -> str:
    """A number as FFmpeg reads it: no exponent, no more digits than it can hold. A fraction stays
    one."""
    if isinstance(value, Fraction):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.9f}".rstrip("0").rstrip(".")


@dataclass
class Graph:
    """A filter graph under construction: chains of filters between labelled pads."""

    _chains: list[str] = field(default_factory=list[str])
    _labels: int = 0

    def add(
        self, sources: Sequence[str], filters: Iterable[str], outputs: int = 1
    ) -> tuple[str, ...]:
        """Adds a chain that reads the pads `sources` and answers the labels of its `outputs` new
        pads."""
        labels = tuple(f"p{self._labels + n}" for n in range(outputs))
        self._labels += outputs
        self._chains.append(_pads(sources) + ",".join(filters) + _pads(labels))
        return labels

    def chain(self, sources: Sequence[str], filters: Iterable[str]) -> str:
        """As `add`, with a single output."""
        return self.add(sources, filters)[0]

    @property
    def text(self) -> str:
        return ";".join(self._chains)


def _pads(labels: Sequence[str]) -> str:
    return "".join(f"[{label}]" for label in labels)
