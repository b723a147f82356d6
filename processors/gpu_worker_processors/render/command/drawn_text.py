"""The text that drawtext draws: plain characters and `%{function:...}`, of which some are
allowed."""

from __future__ import annotations

import re

from gpu_worker_processors.render.command.errors import Denied
from gpu_worker_processors.render.command.expression import read_expression

_PLAIN = frozenset({"pts", "n", "frame_num", "pict_type", "gmtime", "localtime"})
"""Time and number of the frame, and the clock."""
_ARITHMETIC = {
    "e": "",
    "expr": "",
    "eif": ":[xXdu](?::[0-9]{1,2})?",
    "expr_int_format": ":[xXdu](?::[0-9]{1,2})?",
}
"""Functions whose first argument is an expression, and what may follow it: a format, and a width of
two digits at most."""
_CALL = re.compile(r"%\{([a-z_]+)(?=[:}])[^}]*\}")
_EXPRESSION = r"%\{[a-z_]+:([^:}\\'%]*)"
_WIDE_FIELD = re.compile(r"%[-_0^#+]*[0-9]{3}")
"""A field of strftime(3) with a width: libc pads it to as many characters as are asked for."""


def read_drawn_text(text: str) -> str:
    """The text as it is.

    Raises:
        Denied: `%{...}` of a function outside the table, written so that it hides which one it is,
            or padded without measure.
    """
    for start in (found.start() for found in re.finditer(r"%[\\' \n\t\r]*\{", text)):
        call = _CALL.match(text, start)
        if call is None or call[1] not in _PLAIN | _ARITHMETIC.keys():
            known = ", ".join(sorted(_PLAIN | _ARITHMETIC.keys()))
            raise Denied(
                f"%{{...}} in a text must be one of {known}",
                call[1] if call else "",
                _PLAIN | _ARITHMETIC.keys(),
            )
        if call[1] in _ARITHMETIC:
            _check_arithmetic(text, start, call[1])
        elif _WIDE_FIELD.search(re.sub(r"[\\']", "", text[start:])):
            raise Denied(f"a field of %{{{call[1]}}} may be 99 characters wide")
    return text


def _check_arithmetic(text: str, start: int, function: str) -> None:
    form = _ARITHMETIC[function]
    argument = re.compile(_EXPRESSION + form + r"\}").match(text, start)
    if argument is None:
        what = (
            "an expression, one of x X d u, and a width of up to two digits"
            if form
            else "an expression"
        )
        raise Denied(f"%{{{function}}} takes {what}, with : between them and no quotes")
    read_expression(argument[1], "drawtext")
