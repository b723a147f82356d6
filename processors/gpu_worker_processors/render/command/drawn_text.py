"""The text that drawtext draws: plain characters and `%{function:...}`, of which some are allowed."""

from __future__ import annotations

import re

from gpu_worker_processors.render.command.denial import Denied
from gpu_worker_processors.render.command.expression import read_expression

_PLAIN = frozenset({"pts", "n", "frame_num", "pict_type", "gmtime", "localtime"})
"""Time and number of the frame, and the clock."""
_ARITHMETIC = frozenset({"e", "expr", "eif", "expr_int_format"})
"""Functions whose first argument is an expression."""
_CALL = re.compile(r"%\{([a-z_]+)(?=[:}])[^}]*\}")
_FIRST_ARGUMENT = re.compile(r"%\{[a-z_]+:([^:}\\'%]*)[:}]")


def read_drawn_text(text: str) -> str:
    """The text as it is.

    Raises:
        Denied: `%{...}` of a function outside the table, or written in a way that hides which one it is.
    """
    for start in (found.start() for found in re.finditer(r"%[\\' \n\t\r]*\{", text)):
        call = _CALL.match(text, start)
        if call is None or call[1] not in _PLAIN | _ARITHMETIC:
            known = ", ".join(sorted(_PLAIN | _ARITHMETIC))
            raise Denied(f"%{{...}} in a text must be one of {known}", call[1] if call else "", _PLAIN | _ARITHMETIC)
        if call[1] in _ARITHMETIC:
            argument = _FIRST_ARGUMENT.match(text, start)
            read_expression(argument[1] if argument else "", "drawtext")
    return text
