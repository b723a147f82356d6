"""The table of filters: which ones a command may use, and which values each of their options takes.

The text in `tables/` is the allow table; a test holds it against the help of the shipped FFmpeg, so
that nothing in it is missing there and no option that takes free text has gone without review.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gpu_worker_processors.render.command.errors import Denied, shown
from gpu_worker_processors.render.command.values import Value, kind

_TABLES = Path(__file__).with_name("tables")


@dataclass(frozen=True)
class FilterSpec:
    """One filter of the table."""

    name: str
    keys: tuple[tuple[tuple[str, ...], str], ...]
    """(name and aliases, kind as the table spells it), in FFmpeg's order."""

    positional: tuple[str, ...]
    """Keys that values without one take, in order."""

    @cached_property
    def _by_name(self) -> dict[str, tuple[str, str]]:
        return {name: (names[0], spelled) for names, spelled in self.keys for name in names}

    def key(self, name: str) -> str:
        """The first name of an option.

        Raises:
            Denied: the filter has no such option in the table.
        """
        if name not in self._by_name:
            raise Denied(f"the option {shown(name)} is not allowed", name, self._by_name)
        return self._by_name[name][0]

    def read(self, key: str, text: str, names: Collection[str]) -> Value | None:
        """The value of an option by its first name; None for what the worker does itself.

        Raises:
            Denied: it is not of the option's kind.
        """
        try:
            return kind(self._by_name[key][1]).read(text, names)
        except Denied as denied:
            raise denied.within(key) from None


def parse_table(text: str) -> Iterator[FilterSpec]:
    """The filters of a table's text."""
    lists: dict[str, str] = {}
    for entry in entries(text):
        name, _, rest = entry.partition(":")
        rest = re.sub(r"@\w+", lambda found: lists[found[0]], rest.strip())
        if name.startswith("@"):
            lists[name] = rest
            continue
        options = rest.split()
        count = options.index("+") if "+" in options else len(options)
        pairs = (option.split("=", 1) for option in options if option != "+")
        keys = tuple((tuple(names.split("|")), spelled) for names, spelled in pairs)
        yield FilterSpec(name, keys, tuple(names[0] for names, _ in keys[:count]))


def entries(text: str) -> Iterator[str]:
    """Logical lines of a table: comments left out, indented lines joined to the one before, no
    space after a `|`."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\n\s+", " ", lines)
    return (line for line in re.sub(r"\| +", "|", joined).splitlines() if line)


def _load() -> dict[str, FilterSpec]:
    parts = ("video", "audio", "measure", "sources", "cuda")
    text = "".join((_TABLES / f"filters_{part}.txt").read_text() for part in parts)
    return {spec.name: spec for spec in parse_table(text)}


FILTERS: dict[str, FilterSpec] = _load()

_WHY_NOT = {
    "anlmdn": ": FFmpeg 9.0 crashes in it; take afftdn",
    "sendcmd": ": give expressions of t, or enable, instead",
    "asendcmd": ": give expressions of t, or enable, instead",
}


def why_no_filter(name: str) -> str:
    """What to do without a filter that people ask for and that is not in the table."""
    return _WHY_NOT.get(name, "")
