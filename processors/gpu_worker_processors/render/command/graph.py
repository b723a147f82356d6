"""Filter graphs: text to a tree of known filters with checked values, and back.

Only what the tree holds is ever written: a filter of the table, keys of that filter, values that
their kind has read, labels that are plain names. Every value is written with its key, so the order
of a filter's options plays no part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from gpu_worker_processors.render.command import units
from gpu_worker_processors.render.command.errors import Denied, shown
from gpu_worker_processors.render.command.filters import FILTERS, FilterSpec, why_no_filter
from gpu_worker_processors.render.command.quoting import quote, read_quoted, skip_space
from gpu_worker_processors.render.command.values import InputFile, Value

MAX_FILTERS = 256
"""In one graph."""

MAX_FONT_PX = 4096
"""As high as a frame of 8K. A letter of four times as much takes a quarter of a gigabyte."""

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
"""`[0:v:0]` and `[scaled]`; no bracket, quote or separator."""
_INSTANCE = re.compile(r"[A-Za-z0-9_]{1,32}")
_KEY = re.compile(r"([A-Za-z0-9_./-]*)[ \n\t\r]*=")
"""As libavutil finds a key, after white space: what has none is the next positional value."""
_DEFAULT_FILES = {
    "vidstabdetect": ("result", "transforms.trf"),
    "vidstabtransform": ("input", "transforms.trf"),
}
"""The file that a filter takes where none is named."""
_GRAPH_SPECIALS = "[],;"
_VALUE_SPECIALS = ":="


@dataclass(frozen=True)
class Filter:
    """One filter of a chain."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()
    """(key, value), each key once."""
    inputs: tuple[str, ...] = ()
    """Labels before it."""
    outputs: tuple[str, ...] = ()
    """Labels after it."""
    instance: str = ""
    """What follows `@` in `name@instance`."""

    def option(self, key: str) -> Value | None:
        return dict(self.options).get(key)

    def text(self, file: Callable[[str], str]) -> str:
        values = (
            f"{key}={quote(value.text(file), _VALUE_SPECIALS)}" for key, value in self.options
        )
        argument = quote(":".join(values), _GRAPH_SPECIALS)
        name = f"{self.name}@{self.instance}" if self.instance else self.name
        before, after = (
            "".join(f"[{label}]" for label in labels) for labels in (self.inputs, self.outputs)
        )
        return f"{before}{name}={argument}{after}" if argument else f"{before}{name}{after}"


@dataclass(frozen=True)
class Graph:
    """Chains of filters, the first one first."""

    chains: tuple[tuple[Filter, ...], ...]

    @property
    def filters(self) -> Iterator[Filter]:
        return (item for chain in self.chains for item in chain)

    @property
    def files(self) -> Iterator[InputFile]:
        """Inputs that filters read by themselves: subtitles, colour tables, fonts."""
        return (
            value
            for item in self.filters
            for _, value in item.options
            if isinstance(value, InputFile)
        )

    @property
    def open_outputs(self) -> frozenset[str]:
        """Labels that a filter writes and none reads. A label that was read may be used again."""
        written = Counter(label for item in self.filters for label in item.outputs)
        written.subtract(label for item in self.filters for label in item.inputs)
        return frozenset(label for label, count in written.items() if count > 0)

    def text(self, file: Callable[[str], str]) -> str:
        """The graph as FFmpeg reads it.

        Args:
            file: from an input's name to what is to stand for it, usually its path.
        """
        return ";".join(",".join(item.text(file) for item in chain) for chain in self.chains)


def parse_graph(text: str, names: Collection[str]) -> Graph:
    """Reads the argument of `-vf`, `-af`, `-filter_complex` or of a lavfi input.

    Args:
        names: of the task's inputs, which a filter may name where it reads a file.

    Raises:
        Denied: it is no graph, or something in it is not in the table.
    """
    chains: list[tuple[Filter, ...]] = []
    chain: list[Filter] = []
    at = skip_space(text, 0)
    if text.startswith("sws_flags", at):
        raise Denied("options in front of a graph are not allowed; give scale its flags")
    while True:
        item, at = _filter(text, at, names)
        chain.append(item)
        if sum(map(len, chains)) + len(chain) > MAX_FILTERS:
            raise Denied(f"a graph may have {MAX_FILTERS} filters")
        at = skip_space(text, at)
        if at == len(text) or text[at] == ";":
            chains.append(tuple(chain))
            chain = []
        elif text[at] != ",":
            raise Denied("after a filter stands a comma, a semicolon or the end of the graph")
        at = skip_space(text, at + 1)
        if at >= len(text):
            break
    if chain:
        raise Denied("a graph ends with a comma")
    return Graph(tuple(chains))


def _filter(text: str, at: int, names: Collection[str]) -> tuple[Filter, int]:
    inputs, at = _labels(text, at)
    full_name, at = read_quoted(text, at, "=,;[")
    name, _, instance = full_name.partition("@")
    if name not in FILTERS:
        why = why_no_filter(name)
        raise Denied(f"the filter {shown(name)} is not allowed{why}", "" if why else name, FILTERS)
    if "@" in full_name and not _INSTANCE.fullmatch(instance):
        raise Denied(f"the name of an instance of {name} may have letters, digits and _")
    argument = ""
    if text[at : at + 1] == "=":
        argument, at = read_quoted(text, at + 1, _GRAPH_SPECIALS)
    outputs, at = _labels(text, at)
    try:
        options = tuple(_options(argument, FILTERS[name], names))
        key, file = _DEFAULT_FILES.get(name, ("", ""))
        if key and key not in dict(options):
            value = FILTERS[name].read(key, file, names)
            options += ((key, value),) if value is not None else ()
        _check_sizes(name, options)
    except Denied as denied:
        raise denied.within(f"in the filter {name}") from None
    return Filter(name, options, inputs, outputs, instance), at


def _check_sizes(name: str, options: tuple[tuple[str, Value], ...]) -> None:
    """Raises Denied: a stated size is above its limit."""
    font = dict(options).get("fontsize") if name == "drawtext" else None
    if font is not None and (units.number(font.text(str)) or 0) > MAX_FONT_PX:
        raise Denied(f"fontsize may be {MAX_FONT_PX}")
    if stated_pixels(name, options) > units.MAX_PIXELS:
        raise Denied(f"the frame may have {units.MAX_PIXELS} pixels")


def stated_pixels(name: str, options: tuple[tuple[str, Value], ...]) -> float:
    """Pixels of the frames that a filter makes, 0 where its options do not say it in numbers."""
    if name not in ("scale", "v360", "zscale"):
        return 0
    sides = [dict(options).get(key) for key in ("w", "h")]
    width, height = (side and units.number(side.text(str)) for side in sides)
    return max(0.0, width or 0.0) * max(0.0, height or 0.0)


def _labels(text: str, at: int) -> tuple[tuple[str, ...], int]:
    labels: list[str] = []
    at = skip_space(text, at)
    while text[at : at + 1] == "[":
        label, at = read_quoted(text, at + 1, "]")
        if text[at : at + 1] != "]":
            raise Denied("a label is not closed with ]")
        if not _LABEL.fullmatch(label):
            raise Denied("a label may have letters, digits, _ . : and -")
        labels.append(label)
        at = skip_space(text, at + 1)
    return tuple(labels), at


def _options(
    argument: str, spec: FilterSpec, names: Collection[str]
) -> Iterator[tuple[str, Value]]:
    """Each option once. Values without a key take the filter's options in order, as long as none
    had a key."""
    positional = iter(spec.positional)
    seen: set[str] = set()
    named = False
    at = 0
    while at < len(argument):
        found = _KEY.match(argument, skip_space(argument, at))
        if found:
            named = True
            key = spec.key(found[1])
            at = found.end()
        elif named:
            raise Denied("a value without its key stands after one with a key")
        else:
            key = next(positional, None)
            if key is None:
                some = (
                    "fewer values without a key are"
                    if spec.positional
                    else "no value without a key is"
                )
                raise Denied(f"{some} allowed")
        text, at = read_quoted(argument, at, ":")
        at += 1
        if key in seen:
            raise Denied(f"{key} is given twice")
        seen.add(key)
        value = spec.read(key, text, names)
        if value is not None:
            yield key, value
