"""The kinds of values that options have: each reads a text into the form in which it is written
again, or refuses it.

A kind is named in the tables by a word (`time`), with a range (`int[0,63]`), with names
(`flags{lanczos|bicubic}`), or with a group (`expr(geq)`, `input(lut)`). No kind but `input` yields
a file name, and none takes a value that FFmpeg would open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from gpu_worker_client.protocol.base import is_file_name
from gpu_worker_processors.render.command import units
from gpu_worker_processors.render.command.arithmetic import value_of
from gpu_worker_processors.render.command.drawn_text import read_drawn_text
from gpu_worker_processors.render.command.errors import Denied, no_input, shown
from gpu_worker_processors.render.command.expression import FUNCTIONS, read_expression
from gpu_worker_processors.render.command.forms import FORMS

MAX_SIDE = 16384
"""Pixels of one side of a frame that a command may ask for by number."""
MAX_TEXT_CHARS = 4096
MAX_CHANNELS = 64


@dataclass(frozen=True)
class Text:
    """A checked value, in the form that FFmpeg gets."""

    content: str

    def text(self, file: Callable[[str], str]) -> str:  # noqa: ARG002 - a Value either way
        return self.content


@dataclass(frozen=True)
class InputFile:
    """The file of an input that an option reads."""

    name: str
    """As the task's `inputs` call it."""
    purpose: str
    """"subtitle", "lut", "font" or "rnn"."""

    def text(self, file: Callable[[str], str]) -> str:
        return file(self.name)


@dataclass(frozen=True)
class OutputFile:
    """A file that the command makes beside its output."""

    name: str

    def text(self, file: Callable[[str], str]) -> str:
        return file(self.name)


@dataclass(frozen=True)
class Sequence:
    """Images by number or by pattern, read as one stream."""

    pattern: str
    names: tuple[str, ...]
    """Of the inputs that it matches, in order."""

    def text(self, file: Callable[[str], str]) -> str:
        return file(self.pattern)


Value = Text | InputFile | OutputFile


class Kind(Protocol):
    """What one option takes."""

    def read(self, text: str, names: Collection[str]) -> Value | None:
        """The checked value; None where FFmpeg is not to get the option.

        Args:
            text: the value without any quoting.
            names: of the task's inputs.

        Raises:
            Denied: the value is not of this kind.
        """
        ...


@dataclass(frozen=True)
class Pattern:
    """Text of a certain form."""

    form: re.Pattern[str]
    meaning: str

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        if not self.form.fullmatch(text):
            raise Denied(f"must be {self.meaning}")
        return Text(text)


@dataclass(frozen=True)
class Number:
    """A literal, or one of the names that FFmpeg has for some."""

    low: float
    high: float
    names: frozenset[str] = frozenset()

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        text = text.strip()
        if text in self.names:
            return Text(text)
        value = value_of(text)
        if value is None:
            known = f" or one of {', '.join(sorted(self.names))}" if self.names else ""
            raise Denied(f"must be a number{known}", text, self.names)
        if not self.low <= value <= self.high:
            raise Denied(f"must lie between {self.low:g} and {self.high:g}")
        return Text(text if units.number(text) is not None else f"{value:.15g}")


@dataclass(frozen=True)
class Numbers:
    """Numbers with | between them, one for each voice or channel."""

    low: float
    high: float

    def read(self, text: str, names: Collection[str]) -> Value:
        one = Number(self.low, self.high)
        return Text("|".join(one.read(part, names).text(str) for part in text.split("|")))


@dataclass(frozen=True)
class OneOf:
    names: frozenset[str]

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        if text not in self.names:
            raise Denied(
                f"{shown(text)} must be one of {', '.join(sorted(self.names))}", text, self.names
            )
        return Text(text)


@dataclass(frozen=True)
class Flags:
    """Names joined by `+` and `-`, as `+faststart` or `lanczos+accurate_rnd`."""

    names: frozenset[str]

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        parts = re.split(r"[+-]", text.removeprefix("+").removeprefix("-"))
        for part in parts:
            if part not in self.names:
                raise Denied(
                    f"{shown(part)} is not one of {', '.join(sorted(self.names))}", part, self.names
                )
        return Text(text)


@dataclass(frozen=True)
class Pairs:
    """`key=value:key=value`, as the encoders' own parameters are written; a key without a value is
    switched on."""

    keys: frozenset[str]

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        for pair in text.split(":"):
            key, _, value = pair.partition("=")
            if key not in self.keys:
                raise Denied(f"the parameter {shown(key)} is not allowed", key, self.keys)
            if not _PARAMETER.fullmatch(value):
                raise Denied(f"the value of {key} may have letters, digits and . , ( ) + -")
        return Text(text)


_PARAMETER = re.compile(r"[A-Za-z0-9.,()+_-]{0,128}")


@dataclass(frozen=True)
class Expressions:
    """Expressions with | between them, one for each channel."""

    group: str = ""

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        parts = text.split("|")
        if len(parts) > MAX_CHANNELS:
            raise Denied(f"there may be {MAX_CHANNELS} expressions")
        return Text("|".join(read_expression(part, self.group) for part in parts))


@dataclass(frozen=True)
class Expression:
    group: str = ""

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        return Text(read_expression(text, self.group))


class Side:
    """Width or height: an expression, or a size where FFmpeg takes one instead."""

    def read(self, text: str, names: Collection[str]) -> Value:
        if text.strip() in units.SIZE_NAMES or units.size(text.strip()) is not None:
            return Size().read(text.strip(), names)
        side = read_expression(
            text
        )  # without its white space, which could stand between two digits
        value = units.number(side)
        if value is not None and value > MAX_SIDE:
            raise Denied(f"a side may have {MAX_SIDE} pixels")
        return Text(side)


class Size:
    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        if text in units.SIZE_NAMES:
            return Text(text)
        size = units.size(text)
        if size is None:
            raise Denied(
                'must be a size, "1280x720" or "hd720" for example', text, units.SIZE_NAMES
            )
        if max(size) > MAX_SIDE or size[0] * size[1] > units.MAX_PIXELS:
            raise Denied(f"a side may have {MAX_SIDE} pixels, the frame {units.MAX_PIXELS}")
        return Text(text)


class Cells:
    """Columns and rows of a mosaic."""

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        size = units.size(text)
        if size is None or not 1 <= size[0] * size[1] <= units.MAX_CELLS:
            raise Denied(
                f'must be columns x rows, "5x4" for example, of at most {units.MAX_CELLS} cells'
            )
        return Text(text)


@dataclass(frozen=True)
class Rate:
    """Frames per second."""

    names: frozenset[str] = frozenset()

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        if text in self.names or text in units.RATE_NAMES:
            return Text(text)
        exact = units.fraction(text)
        rate = exact if exact is not None else value_of(text)
        if rate is None or not 0 < rate <= units.MAX_RATE:
            raise Denied(f'must be a rate up to {units.MAX_RATE}, "25" or "30000/1001" for example')
        return Text(text if exact is not None else f"{rate:.15g}")


class Duration:
    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        seconds = units.seconds(text)
        if seconds is None:
            raise Denied('must be a time, "12.5" or "00:01:30" for example')
        if abs(seconds) > units.MAX_SECONDS:
            raise Denied(f"a time may have {units.MAX_SECONDS:g} seconds")
        return Text(text)


class DrawnText:
    """What drawtext draws, with its `%{...}`."""

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        if len(text) > MAX_TEXT_CHARS:
            raise Denied(f"a text may have {MAX_TEXT_CHARS} characters")
        return Text(read_drawn_text(text))


@dataclass(frozen=True)
class InputName:
    """The name of one of the task's inputs."""

    purpose: str

    def read(self, text: str, names: Collection[str]) -> Value:
        if text not in names:
            raise no_input(text, names)
        return InputFile(text, self.purpose)


class OutputName:
    """The name of a file that the command makes beside its output."""

    def read(self, text: str, names: Collection[str]) -> OutputFile:
        if not _OUTPUT_NAME.fullmatch(text) or ".." in text:
            raise Denied("must be the name of a file: no path, no URL")
        if "/" in text and "%v" not in text.partition("/")[0]:
            raise Denied('must be in no folder but one for each variant, "v%v/%03d.ts" for example')
        if _WIDE.search(text):
            raise Denied('pads a number in a name to 9 digits at most, "%05d" for example')
        if text in names:
            raise Denied("has the name of an input")
        return OutputFile(text)


_WIDE = re.compile(r"%0*[1-9][0-9]")
_PART = r"[A-Za-z0-9_%][A-Za-z0-9_.%-]{0,127}"
_OUTPUT_NAME = re.compile(rf"(?:{_PART}/)?{_PART}")


class OwnLog:
    """Where a filter writes its numbers: a file beside the output; or FFmpeg's standard output,
    which the worker keeps for itself: without the option they go to the log, where it reads
    them."""

    def read(self, text: str, names: Collection[str]) -> OutputFile | None:
        if text in ("-", "pipe:1", "/dev/stdout", "/dev/stderr"):
            return None
        if not is_file_name(text) or text in names:
            raise Denied(
                'must be "-", for numbers in stats.measurements, or the name of a new file: no'
                " path, no URL"
            )
        return OutputFile(text)


class Nothing:
    """An option of FFmpeg that names a file or another program's text: known, reviewed, and never
    allowed."""

    def read(self, text: str, names: Collection[str]) -> Value:  # noqa: ARG002
        raise Denied("this option is not allowed")


_PLAIN: dict[str, Kind] = {
    **{name: Pattern(re.compile(form), meaning) for name, (form, meaning) in FORMS.items()},
    "side": Side(),
    "size": Size(),
    "cells": Cells(),
    "rate": Rate(),
    "time": Duration(),
    "expr": Expression(),
    "text": DrawnText(),
    "log": OwnLog(),
    "denied": Nothing(),
}

_KIND = re.compile(
    r"(?P<word>[a-z]+)(?:\[(?P<low>[^,\]]*),(?P<high>[^\]]*)\])?(?:\{(?P<names>[^}]*)\})?(?:\((?P<group>\w+)\))?"
)


@cache
def kind(spelled: str) -> Kind:
    """The kind that a table's entry spells, "int[0,63]" for example."""
    found = _KIND.fullmatch(spelled)
    assert found is not None, spelled
    word = found["word"]
    names = frozenset(filter(None, re.split(r"[|\s]+", found["names"] or "")))
    widest = 1e9 if word in ("num", "list") else 2.0**53
    low, high = float(found["low"] or -widest), float(found["high"] or widest)
    if word == "list":
        return Numbers(low, high)
    if word in ("int", "num"):
        return Number(low, high, names)
    if word in ("expr", "exprs") and found["group"]:
        assert found["group"] in FUNCTIONS, spelled
        return (Expression if word == "expr" else Expressions)(found["group"])
    if word == "input":
        return InputName(found["group"])
    if names:
        return {"flags": Flags, "one": OneOf, "rate": Rate, "pairs": Pairs}[word](names)
    return _PLAIN[word]
