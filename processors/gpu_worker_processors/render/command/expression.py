"""Arithmetic expressions of FFmpeg options (`(iw-ow)/2`, `between(t,1,2)`), checked word by word.

They cannot read files, but they can run for ever: functions that loop (`while`, `root`, `taylor`)
are not in the table, and length and nesting are bounded. Names of variables are left to FFmpeg,
which knows those of the filter at hand.
"""

from __future__ import annotations

import re

from gpu_worker_processors.render.command.errors import Denied, shown

MAX_CHARS = 1024
MAX_DEPTH = 24
"""Parentheses that may be open at once."""

_COMMON = (
    "abs acos asin atan atan2 between bitand bitor ceil clip cos cosh eq exp floor gauss gcd gt gte"
    " hypot if ifnot isinf isnan ld lerp log lt lte max min mod not pow random randomi round sgn"
    " sin sinh sqrt squish st tan tanh trunc"
)
FUNCTIONS: dict[str, frozenset[str]] = {
    group: frozenset(f"{_COMMON} {more}".split())
    for group, more in {
        "": "",
        "rotate": "rotw roth",
        "drawtext": "rand",
        "lut": "gammaval gammaval709",
        "xfade": "a0 a1 a2 a3 b0 b1 b2 b3",
        "geq": "p lum cb cr alpha r g b psum lumsum cbsum crsum alphasum rsum gsum bsum",
        "aeval": "val",
        "spectrum": "real imag",
        "cqt": "a_weighting b_weighting c_weighting midi r g b",
        "gain": "gain_interpolate cubic_interpolate entry",
    }.items()
}
"""Functions of libavutil/eval.c that end, and what some filters add, by the group that the table of
filters names."""
_REFUSED = frozenset(("print", "root", "taylor", "while"))
"""The other functions of eval.c but `time`, which some filters have as a variable. FFmpeg takes a
name that is no variable for the function of the next parenthesis, wherever that stands:
`while+(1,1)` runs for ever."""

_TOKEN = re.compile(
    r"(?P<number>0x[0-9A-Fa-f]{1,8}|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?(?:dB|[kKMGTmu](?:i?B|i)?|B)?(?![A-Za-z0-9_.]))"
    r"|(?P<call>[A-Za-z_][A-Za-z0-9_]*)(?=\()"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>[-+*/^(),;])"
)
_SPACE = re.compile(r"[ \t\r\n]+")


def read_expression(text: str, group: str = "") -> str:
    """The expression without its white space, which FFmpeg drops as well.

    Args:
        group: key of `FUNCTIONS`: whose functions may be called.

    Raises:
        Denied: a function outside the table, a character that no expression has, too long, nested
            too deeply, or unbalanced.
    """
    if len(text) > MAX_CHARS:
        raise Denied(f"an expression may have {MAX_CHARS} characters")
    text = _SPACE.sub("", text)
    if not text:
        raise Denied("an expression is empty")
    at = depth = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise Denied("a character that is no part of an expression")
        _check_call(token["call"], FUNCTIONS[group])
        if token["name"] in _REFUSED:
            raise Denied(f"the function {shown(token['name'])} is not allowed in an expression")
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if not 0 <= depth <= MAX_DEPTH:
            raise Denied(f"parentheses must match and nest at most {MAX_DEPTH} deep")
        at = token.end()
    if depth:
        raise Denied("a parenthesis is not closed")
    return text


def _check_call(name: str | None, allowed: frozenset[str]) -> None:
    if name is not None and name not in allowed:
        raise Denied(f"the function {shown(name)} is not allowed in an expression", name, allowed)
