"""The table of command-line options: where each may stand, whether it names a stream, and which
values it takes."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.errors import Denied, shown
from gpu_worker_processors.render.command.expression import read_expression
from gpu_worker_processors.render.command.filters import entries
from gpu_worker_processors.render.command.graph import Graph, parse_graph
from gpu_worker_processors.render.command.units import MAX_SECONDS, seconds
from gpu_worker_processors.render.command.values import (
    InputFile,
    OutputFile,
    OutputName,
    Pattern,
    Text,
    kind,
)


class Scope(Enum):
    """What an option applies to: the run, an input, the output or one kind of its streams."""

    GLOBAL = "global"
    IGNORED = "ignored"
    INPUT = "input"
    OUTPUT = "output"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"

    @property
    def of_output(self) -> bool:
        return self in (Scope.OUTPUT, Scope.IMAGE, Scope.VIDEO, Scope.AUDIO)


Setting = Text | InputFile | OutputFile | Graph | None
"""The value of an option; None for a flag."""


@dataclass(frozen=True)
class Option:
    """One option of the table."""

    name: str
    scope: Scope
    per_stream: bool
    """It may be followed by a stream specifier."""
    kind: str

    @property
    def takes_value(self) -> bool:
        return self.kind != "flag"

    def read(self, text: str, names: Collection[str]) -> Setting:
        """The checked value.

        Args:
            names: of the task's inputs.

        Raises:
            Denied: it is not of the option's kind.
        """
        if self.kind == "graph":
            return parse_graph(text, names)
        if self.kind in _NAMED:
            return Text(_from_table(text, self.kind))
        if self.kind == "keyframes":
            return Text(_key_frames(text))
        return (_PATTERNS.get(self.kind) or kind(self.kind)).read(text, names)


_KIND = r"(?:[vVasdt]|[pg]:[0-9]{1,6}|disp:[a-z_]{2,20}(?:\+[a-z_]{2,20}){0,8})"
_ONE_OF_KIND = (
    r"(?:[0-9]{1,3}|u|(?:#|i:)(?:0x[0-9A-Fa-f]{1,8}|[0-9]{1,9})|m:[\w.-]{1,64}(?::[\w .-]{1,128})?)"
)
STREAM = rf"(?:(?:{_KIND}:){{0,3}}(?:{_KIND}|{_ONE_OF_KIND}))"
"""A stream specifier, as the documentation of ffmpeg has it: "v", "a:1", "2", "m:language:eng",
"a:m:language:eng", "p:1:v", "disp:default", "#0x101", "u"."""
_SPECIFIER = re.compile(STREAM)
_METADATA_SPECIFIER = re.compile(rf"g|s(?::{STREAM})?|[cp]:[0-9]{{1,3}}")

_NAMED: dict[str, Collection[str]] = {
    "encoder": {*formats.ENCODERS, *formats.ENCODER_ALIASES, "copy"},
    "decoder": formats.DECODERS,
    "format": {*formats.MUXERS, *formats.DEMUXERS, "lavfi"},
    "container": formats.MUXERS.keys() - formats.NOT_INSIDE,
    "bsf": formats.BITSTREAM_FILTERS,
}
_PATTERNS = {
    "map": Pattern(
        re.compile(rf"-?[0-9]{{1,2}}(?::{STREAM})?\??|\[[A-Za-z0-9_][A-Za-z0-9_.:#-]{{0,63}}\]"),
        'an input and its streams ("0:v:0", "1:a?") or a label of the graph ("[out]")',
    ),
    "source": Pattern(
        re.compile(rf"-1|[0-9]{{1,2}}(?::(?:g|s:{STREAM}|c:[0-9]{{1,3}}))?"),
        "-1 or the index of an input",
    ),
    "entry": Pattern(
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}=[^\x00]{0,256}"),
        "key=value, the value of at most 256 characters",
    ),
    "disposition": Pattern(
        re.compile(r"0|[+-]?[a-z_]{2,20}(?:[+-][a-z_]{2,20}){0,8}"),
        '"default" or another disposition',
    ),
    "tag": Pattern(re.compile(r"[A-Za-z0-9]{4}"), 'a code of four letters, "hvc1" for example'),
    "timestamp": Pattern(
        re.compile(r"now|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}:[0-9]{2}Z?)?"), "a date"
    ),
    "made": OutputName(),
    "inside": Pattern(
        re.compile(r"[A-Za-z0-9_$%][A-Za-z0-9_.$%-]{0,127}"), "the name of a file, without a path"
    ),
    "streams": Pattern(
        re.compile(r"[A-Za-z0-9 ,:=_-]{1,512}"), 'streams by variant, "v:0,a:0 v:1,a:1" for example'
    ),
    "target": Pattern(
        re.compile(r"(?:(?:pal|ntsc|film)-)?(?:vcd|svcd|dvd|dv|dv50)"), '"pal-dvd" for example'
    ),
    "streamid": Pattern(re.compile(r"[0-9]{1,3}:[0-9]{1,8}"), 'a stream and its id, "0:33"'),
    "timebase": Pattern(
        re.compile(r"-1|0|demux|filter|[0-9]{1,9}[:/][0-9]{1,9}"),
        'a time base, "1/90000" for example',
    ),
}


def _from_table(text: str, which: str) -> str:
    """One of the names of a table, or several bit stream filters."""
    allowed = _NAMED[which]
    for part in text.split(",") if which == "bsf" else [text]:
        name, _, options = part.partition("=")
        if options and not _BSF_OPTIONS.fullmatch(options):
            raise Denied('options of a bit stream filter must be like "level=4.1:crop_left=8"')
        if name not in allowed:
            why = formats.why_not(name)
            raise Denied(
                f"the {_WHAT[which]} {shown(name)} is not allowed{why}",
                "" if why else name,
                allowed,
            )
    return formats.ENCODER_ALIASES.get(text, text) if which == "encoder" else text


_BSF_OPTIONS = re.compile(
    r"[a-z0-9_]{1,32}=[\w/.+|-]{1,128}(?::[a-z0-9_]{1,32}=[\w/.+|-]{1,128}){0,16}"
)
_WHAT = {
    "encoder": "encoder",
    "decoder": "decoder",
    "format": "container",
    "container": "container",
    "bsf": "bit stream filter",
}


def _key_frames(text: str) -> str:
    if text.startswith("expr:"):
        return "expr:" + read_expression(text.removeprefix("expr:"))
    times = [seconds(part) for part in text.split(",")]
    if text != "source" and any(time is None or not 0 <= time <= MAX_SECONDS for time in times):
        raise Denied(
            'must be times with commas between them, "source", or "expr:" and an expression'
        )
    return text


def _load() -> dict[tuple[str, bool], Option]:
    options: dict[tuple[str, bool], Option] = {}
    for entry in entries((Path(__file__).with_name("tables") / "options.txt").read_text()):
        where, _, rest = entry.partition(":")
        scope, _, stream = where.partition(" ")
        for name, spelled in (part.split("=", 1) for part in rest.split()):
            option = Option(name, Scope(scope), bool(stream), spelled)
            options[name, option.scope is Scope.INPUT] = option
    return options


_OPTIONS = _load()
OPTIONS: tuple[Option, ...] = tuple(_OPTIONS.values())

_ALIASES: dict[str, tuple[str, str]] = {
    "vcodec": ("c", "v"),
    "acodec": ("c", "a"),
    "scodec": ("c", "s"),
    "codec": ("c", ""),
    "vf": ("filter", "v"),
    "af": ("filter", "a"),
    "lavfi": ("filter_complex", ""),
    "vframes": ("frames", "v"),
    "aframes": ("frames", "a"),
    "qscale": ("q", ""),
    "ab": ("b", "a"),
    "aq": ("q", "a"),
    "vtag": ("tag", "v"),
    "atag": ("tag", "a"),
    "stag": ("tag", "s"),
    "channel_layout": ("ch_layout", ""),
    "spatial_aq": ("spatial-aq", ""),
    "temporal_aq": ("temporal-aq", ""),
    "vsync": ("fps_mode", ""),
    "x264opts": ("x264-params", ""),
    "pixel_format": ("pix_fmt", ""),
    "video_size": ("s", ""),
}
"""Other names of options, with the stream that they mean."""


def find_option(word: str, before_input: bool) -> tuple[Option, str]:
    """The option that a word names, and its stream specifier.

    Args:
        word: without its dash.
        before_input: it stands before an `-i` rather than before the output.

    Raises:
        Denied: there is no such option in the table, or not at this position, or not with this
            specifier.
    """
    name, _, specifier = word.partition(":")
    name, implied = _ALIASES.get(name, (name, ""))
    option = _OPTIONS.get((name, before_input)) or _option_anywhere(name)
    if option is None:
        raise _unknown(name, before_input)
    specifier = specifier or implied or ("v" if name == "b" else "")
    if specifier and not option.per_stream:
        raise Denied(f"-{name} takes no stream specifier")
    form = _METADATA_SPECIFIER if name in ("metadata", "map_metadata") else _SPECIFIER
    if specifier and not form.fullmatch(specifier):
        raise Denied(
            f"-{name} knows no stream specifier {shown(specifier)}; use v, a or s, with a number"
            ' behind it for one stream: "a:1"'
        )
    return option, specifier


def is_option(word: str, before_input: bool) -> bool:
    """Whether there is an option of this name at this position; as `find_option`."""
    name = word.partition(":")[0]
    return (_ALIASES.get(name, (name, ""))[0], before_input) in _OPTIONS


def _option_anywhere(name: str) -> Option | None:
    option = _OPTIONS.get((name, False))
    return option if option is not None and option.scope in (Scope.GLOBAL, Scope.IGNORED) else None


def _unknown(name: str, before_input: bool) -> Denied:
    if (name, not before_input) in _OPTIONS:
        where = "before the input it is for" if not before_input else "after the last input"
        return Denied(f"-{name} must stand {where}")
    why = formats.why_not("-" + name)
    allowed = {option.name for option in OPTIONS} | _ALIASES.keys()
    return Denied(f"the option {shown(name)} is not allowed{why}", "" if why else name, allowed)
