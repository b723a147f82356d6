"""FFmpeg's quoting of text inside a filter graph, read as libavutil reads it and written so that it
reads back the same.

A backslash takes the next character as it is, single quotes take everything up to the next one, and
white space around a value is dropped unless it is quoted. A graph has two such levels: one around a
filter's whole argument, one around each value in it.
"""

from __future__ import annotations

WHITESPACE = " \n\t\r"
"""What libavutil's parser skips."""


def skip_space(text: str, at: int) -> int:
    """First position from `at` on that is no white space."""
    while at < len(text) and text[at] in WHITESPACE:
        at += 1
    return at


def read_quoted(text: str, at: int, stops: str) -> tuple[str, int]:
    """One value from `at` up to an unquoted character of `stops`, or the end.

    Returns:
        The value without its quoting, and the position of the stop.
    """
    out: list[str] = []
    quoted = 0  # characters up to here were quoted, so white space among them stays
    at = skip_space(text, at)
    while at < len(text) and text[at] not in stops:
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            out.append(text[at])
            at += 1
            quoted = len(out)
        elif char == "'":
            end = text.find("'", at)
            closed = end >= 0
            end = end if closed else len(text)
            out.extend(text[at:end])
            at = end + 1 if closed else end
            quoted = len(out) if closed else quoted
        else:
            out.append(char)
    while len(out) > quoted and out[-1] in WHITESPACE:
        out.pop()
    return "".join(out), at


def quote(value: str, specials: str) -> str:
    """`value` so that `read_quoted` with stops among `specials` gives it back."""
    return "".join(
        f"\\{char}" if char in specials or char in "\\'" or char in WHITESPACE else char
        for char in value
    )
