"""Arithmetic with plain numbers ("2*1000*1000", "30/2", "-(1+2)*1k"), which FFmpeg takes wherever
it takes a number. Worked out here, so that FFmpeg gets the value that was checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from gpu_worker_processors.render.command import units

_MAX_CHARS = 256
_MAX_DEPTH = 24
"""Parentheses and signs that may be open at once."""
_TOKEN = re.compile(
    r"\s*((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?(?:dB|(?:[kKMGm]i?)?B?)"
    r"|[-+*/^()])\s*"
)


def value_of(text: str) -> float | None:
    """The value of a number or of arithmetic with numbers; None for anything else, and for what has
    no finite value."""
    plain = units.number(text)  # "-3dB" is a number of its own, not minus "3dB"
    if plain is not None or len(text) > _MAX_CHARS:
        return plain
    tokens = list(_tokens(text))
    try:
        reader = _Reader(tokens)
        value = reader.sum()
        return value if reader.is_at_end and math.isfinite(value) else None
    except (ValueError, ArithmeticError):
        return None


def _tokens(text: str) -> Iterator[str]:
    """The tokens; an empty one where none is found."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            yield ""
            return
        yield found[1]
        at = found.end()


class _Reader:
    """Reads by descent, one method for each level of precedence.

    Raises:
        ValueError: no number where one must stand, or a parenthesis is not closed.
        ArithmeticError: a division by zero, or more than a float holds.
    """

    def __init__(self, tokens: list[str]) -> None:
        self._rest = tokens[::-1]
        self._depth = 0

    @property
    def is_at_end(self) -> bool:
        return not self._rest

    def _take(self, tokens: str) -> str:
        """The next token if it is one of `tokens`, else ""."""
        return self._rest.pop() if self._rest and self._rest[-1] in tuple(tokens) else ""

    def sum(self) -> float:
        value = self._product()
        while sign := self._take("+-"):
            value += self._product() if sign == "+" else -self._product()
        return value

    def _product(self) -> float:
        value = self._power()
        while sign := self._take("*/"):
            value = value * self._power() if sign == "*" else value / self._power()
        return value

    def _power(self) -> float:
        value = self._factor()
        while self._take("^"):  # from the left, as FFmpeg does it
            value = math.pow(value, self._factor())
        return value

    def _factor(self) -> float:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if sign := self._take("+-"):
            value = self._factor() if sign == "+" else -self._factor()
        elif self._take("("):
            value = self.sum()
            if not self._take(")"):
                raise ValueError("a parenthesis is not closed")
        else:
            number = units.number(self._rest.pop()) if self._rest else None
            if number is None:
                raise ValueError("no number")
            value = number
        self._depth -= 1
        return value
