"""JSON text read one item at a time: memory holds the item and a piece of the text, however long
its lists are.

Accepts text from anyone; what is no JSON, or larger than a limit, is a `ValueError`. Containers are
walked through; what is in them is read by `json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

MAX_OTHER_CHARS = 8 * 1024**2
"""Of all lists and objects that are read whole, which take up to 25 times as much memory. A cut
for every second of nine hours makes 1 MB."""
MAX_SCALAR_CHARS = 128 * 1024**2
"""Of one text or number in a text that comes in pieces: `columnar.MAX_BOXES` take 100 MB."""
FIRST_SCALAR_CHARS = 1000
"""So much is read ahead for a text or number, and then four times more each time."""


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_SPACE = re.compile(r"[ \t\n\r]*")


class JsonReader:
    """A position in JSON text.

    Args:
        text: the text, or its beginning.
        more: what follows, a piece at each call; "" is the end.
        constant: the value of NaN and Infinity by its name, where Python's `json` wrote them.
    """

    def __init__(
        self,
        text: str = "",
        more: Callable[[], str] = lambda: "",
        constant: Callable[[str], object] = _refuse_constant,
    ) -> None:
        self._text = text
        self._at = 0
        self._passed = 0
        self._more = more
        self._other_chars = MAX_OTHER_CHARS
        self._decoder = json.JSONDecoder(parse_constant=constant)

    def value(self) -> Any:
        """Any value, whole: a long text too, lists and objects up to a limit on all of them."""
        self._skip_space()
        if not self._text.startswith(("[", "{"), self._at):
            return self._scalar()
        start = self._passed + self._at
        value = self.short_value(self._other_chars)
        self._other_chars -= self._passed + self._at - start
        return value

    def short_value(self, most: int) -> Any:
        """A value of at most so many characters."""
        self._skip_space()
        self._lies_ahead(most)
        part = self._text[self._at : self._at + most]
        try:
            value, length = self._decoder.raw_decode(part)
        except ValueError:
            if len(part) < most:
                raise
            raise ValueError(f"a value has more than {most} characters, or is no JSON") from None
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        self._at += length
        return value

    def fields(self, **special: Callable[[], Any]) -> dict[str, Any]:
        """An object. Values of `special` keys are read by their own function."""
        found: dict[str, Any] = {}
        for _ in self.items("{", "}"):
            name = self.value()
            if not isinstance(name, str) or name in found:
                raise ValueError("a key is no text, or stands twice")
            self._need(":")
            found[name] = special.get(name, self.value)()
        return found

    def items(self, opening: str = "[", closing: str = "]") -> Iterator[None]:
        """Stops at each item of a list, which the caller reads then."""
        self._need(opening)
        if self._is_next(closing):
            return
        while True:
            yield
            if self._is_next(closing):
                return
            self._need(",")

    def end(self) -> None:
        self._skip_space()
        if self._at != len(self._text):
            raise ValueError("something follows the JSON")

    def _scalar(self) -> Any:
        ahead = FIRST_SCALAR_CHARS
        while True:
            goes_on = self._lies_ahead(ahead)
            try:
                value, at = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if not goes_on:
                    raise
            else:
                # A number at the end of a piece may have more digits in the next.
                if at < len(self._text) or not goes_on:
                    self._at = at
                    return value
            ahead = 4 * (len(self._text) - self._at)
            if ahead > MAX_SCALAR_CHARS:
                raise ValueError(f"a text has more than {ahead // 4} characters, or is no JSON")

    def _need(self, mark: str) -> None:
        if not self._is_next(mark):
            position = self._passed + self._at
            raise ValueError(f"not the JSON expected: no {mark} at character {position}")

    def _is_next(self, mark: str) -> bool:
        self._skip_space()
        there = self._text.startswith(mark, self._at)
        self._at += there
        return there

    def _skip_space(self) -> None:
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text) or not self._lies_ahead(1):
                return

    def _lies_ahead(self, count: int) -> bool:
        """Whether so many characters follow, which then are in `_text`."""
        while len(self._text) - self._at < count:
            piece = self._more()
            if not piece:
                return False
            self._passed += self._at
            self._text, self._at = self._text[self._at :] + piece, 0
        return True
