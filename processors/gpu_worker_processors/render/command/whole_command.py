"""What one word cannot show: that streams and labels exist, and that the work
ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_worker_processors.render.command.errors import Denied, at_token
from gpu_worker_processors.render.command.graph import Filter, Graph
from gpu_worker_processors.render.command.script import Input, Script

_STREAM_LABEL = re.compile(r"([0-9]+)(?::.*)?")
_GENERATED = (
    "color testsrc testsrc2 smptebars smptehdbars rgbtestsrc gradients nullsrc anullsrc sine"
    " anoisesrc allrgb allyuv colorchart colorspectrum haldclutsrc mandelbrot pal75bars pal100bars"
    " perlin sierpinski yuvtestsrc zoneplate aevalsrc"
)
_SOURCES = frozenset(_GENERATED.split())
"""Filters that make images or audio out of nothing, for ever without a duration."""
READERS = frozenset({"movie", "amovie"})
"""Filters that read one of the inputs by themselves."""
_PAD_LENGTHS = ("pad_len", "whole_len", "pad_dur", "whole_dur")
MAX_MAPS = 32
MAX_GRAPHS = 32
MAX_FILTERS = 256
"""Of all graphs together, as of one."""
_HOW_TO_END = "give the source a duration, or the output -t, -frames:v or -shortest"


def check_sense(script: Script, output_token: int) -> None:
    """Refuses what is right word by word and wrong as a whole.

    Args:
        output_token: index of the output's word.

    Raises:
        TaskError: `ffmpeg_arg_denied`.
    """
    _check_amount(script)
    with at_token(output_token):
        _check_outputs(script)
    _check_labels(script)
    for one in script.outputs:
        _check_maps(one)
        _check_end(one)
    with at_token(output_token):
        if not script.inputs and not any(
            _is_source(item) or item.name in READERS
            for graph in script.graphs
            for item in graph.filters
        ):
            raise Denied("there is no input; give one with -i")


def _check_amount(script: Script) -> None:
    """FFmpeg starts threads for each stream it writes and for each graph, and all of them before
    the first frame."""
    maps = [given for given in script.given if given.name == "map"]
    if len(maps) > MAX_MAPS:
        with at_token(maps[MAX_MAPS].token):
            raise Denied(f"a command may have {MAX_MAPS} times -map")
    filters = 0
    for number, (token, graph) in enumerate(_placed_graphs(script), 1):
        filters += sum(map(len, graph.chains))
        with at_token(token):
            if number > MAX_GRAPHS or filters > MAX_FILTERS:
                raise Denied(
                    f"a command may have {MAX_GRAPHS} graphs with {MAX_FILTERS} filters in all"
                )


def _check_outputs(script: Script) -> None:
    for one in script.outputs:
        if one.output in script.side_files:
            raise Denied("a filter writes a file of the output's name")
    for given in script.given:
        is_pass = given.name == "pass" or (given.name == "x265-params" and "pass=" in given.plain)
        if is_pass and script.earlier:
            with at_token(given.token):
                raise Denied("a command in two passes has one output: submit a job for each")


def _placed_graphs(script: Script) -> Iterator[tuple[int, Graph]]:
    """Every graph with the index of its word."""
    for given in script.given:
        if isinstance(given.value, Graph):
            yield given.token + 1, given.value
    for item in script.inputs:
        if isinstance(item.source, Graph):
            yield item.token + 1, item.source


def _check_maps(script: Script) -> None:
    open_labels = {label for graph in script.graphs for label in graph.open_outputs}
    for given in script.settings:
        with at_token(given.token + 1):
            if given.name == "map" and given.plain.startswith("["):
                label = given.plain[1:-1]
                if label not in open_labels:
                    raise Denied("no filter graph leaves this label open", label, open_labels)
            elif given.name in ("map", "map_metadata", "map_chapters"):
                index = re.match(r"-?([0-9]+)", given.plain)
                minus_one = given.plain == "-1" and given.name != "map"
                if index and not minus_one and int(index[1]) >= len(script.inputs):
                    raise Denied(f"there are {len(script.inputs)} inputs, counted from 0")


def _check_labels(script: Script) -> None:
    for given in script.common:
        if not isinstance(given.value, Graph):
            continue
        written = {label for item in given.value.filters for label in item.outputs}
        for label in (
            label for item in given.value.filters for label in item.inputs if label not in written
        ):
            stream = _STREAM_LABEL.fullmatch(label)
            with at_token(given.token + 1):
                if stream and int(stream[1]) >= len(script.inputs):
                    raise Denied(
                        f"a label names input {int(stream[1])}; there are {len(script.inputs)},"
                        " counted from 0"
                    )


def _check_end(script: Script) -> None:
    """Work without an end needs an end that the command states. The wall clock would stop it too,
    and the work be lost."""
    if any(given.name in ("t", "to", "frames", "shortest") for given in script.settings):
        return
    graphs = list(script.graphs)
    if any(_ends(item) for graph in graphs for item in graph.filters):
        return
    for item in script.inputs:
        with at_token(item.token):
            if _is_endless_input(item):
                raise Denied(f"this input never ends: {_HOW_TO_END}")
    for given in (*script.common, *script.settings):
        if isinstance(given.value, Graph):
            with at_token(given.token + 1):
                for name in _endless(given.value):
                    raise Denied(f"the filter {name} never ends: {_HOW_TO_END}")


def _is_endless_input(item: Input) -> bool:
    values = {given.name: given.plain for given in item.settings}
    if "t" in values or "to" in values:
        return False
    looped = values.get("stream_loop", "0").startswith("-") or values.get("loop", "0") in (
        "1",
        "true",
        "yes",
        "on",
        "auto",
        "-1",
    )
    return looped or (isinstance(item.source, Graph) and any(True for _ in _endless(item.source)))


def _endless(graph: Graph) -> Iterator[str]:
    for item in graph.filters:
        never = (
            (_is_source(item) and item.option("duration") is None)
            or (item.name in ("loop", "aloop") and _is_negative(item, "loop"))
            or (item.name in READERS and _text(item, "loop") == "0")
            or (item.name == "tpad" and _is_negative(item, "stop"))
            or (item.name == "apad" and not any(_is_positive(item, key) for key in _PAD_LENGTHS))
        )
        if never:
            yield item.name


def _is_source(item: Filter) -> bool:
    return item.name in _SOURCES


def _is_negative(item: Filter, key: str) -> bool:
    return _text(item, key).startswith("-")


def _is_positive(item: Filter, key: str) -> bool:
    return _text(item, key)[:1] in set("0123456789")


def _ends(item: Filter) -> bool:
    """Whether a filter ends its output though one of its inputs goes on."""
    if item.name in ("trim", "atrim"):
        return any(
            item.option(key) is not None
            for key in ("duration", "end", "end_frame", "end_pts", "end_sample")
        )
    if item.name == "amix":
        return _text(item, "duration") in ("shortest", "first", "1", "2")
    return _text(item, "shortest") in ("1", "true", "yes", "on") or _text(item, "eof_action") in (
        "endall",
        "1",
    )


def _text(item: Filter, key: str) -> str:
    value = item.option(key)
    return value.text(str) if value is not None else ""
