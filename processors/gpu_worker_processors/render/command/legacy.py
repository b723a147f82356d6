"""What older versions of FFmpeg took, and tutorials still say, in the words of today's version."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpu_worker_processors.render.command.graph import Graph, parse_graph
from gpu_worker_processors.render.command.options import find_option
from gpu_worker_processors.render.command.script import Given

OF_OUTPUT_ANYWHERE = frozenset({"vsync", "fps_mode", "async"})
"""Options that applied to the whole command before FFmpeg 5.1."""
_VSYNC = {"-1": "auto", "0": "passthrough", "1": "cfr", "2": "vfr"}
"""The numbers of -vsync, as -fps_mode names them."""
_MAP_OF_FIRST = re.compile(r"(-?)([A-Za-z].*)")
"""`-map a` means the first input's audio."""


def modern_value(word: str, text: str) -> str:
    """The value of an option, as today's FFmpeg writes it."""
    name = word.partition(":")[0]
    if name == "map" and (stream := _MAP_OF_FIRST.fullmatch(text)):
        return f"{stream[1]}0:{stream[2]}"
    if name == "x264opts":  # a flag may stand there without its value
        return ":".join(pair if "=" in pair else f"{pair}=1" for pair in text.split(":"))
    return _VSYNC.get(text, text) if name == "vsync" else text


def with_async(settings: Sequence[Given]) -> tuple[Given, ...]:
    """The output's options without `-async`, which became the filter aresample in FFmpeg 7: after
    the filters of `-af`, or as the only one."""
    rest = [given for given in settings if given.name != "async"]
    amounts = [given for given in settings if given.name == "async"]
    if not amounts:
        return tuple(rest)
    added = parse_graph(f"aresample=async={amounts[-1].plain}", ())
    for index, given in enumerate(rest):
        if given.name == "filter" and given.specifier[:1] == "a" and isinstance(given.value, Graph):
            *before, last = given.value.chains
            graph = Graph((*before, (*last, *added.chains[0])))
            rest[index] = Given(given.option, given.specifier, graph, given.token)
            return tuple(rest)
    option, specifier = find_option("af", before_input=False)
    return (*rest, Given(option, specifier, added, amounts[-1].token))
