"""A track result's JSON, written and read a box at a time: beside the text itself, memory holds
arrays of 23 bytes a box.

Reading accepts any JSON object and guarantees what `json.loads` does, with `tracks` turned into
`Track` on the way; what is no JSON, or no track, is a `ValueError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from gpu_worker_client.protocol.boxes import BoxColumns, TrackFrames, box_dicts

BOXES_A_PIECE = 1000
"""Some 70 kB of text."""
MAX_BOX_CHARS = 10_000
"""Of one box with what a tracker adds to it, laid out in lines: 200 are usual."""
MAX_OTHER_CHARS = 8 * 1024**2
"""Of all lists and objects beside the boxes, which are read whole and take up to 25 times as much
memory. A cut for every second of nine hours makes 1 MB."""


def write_result(
    rest: dict[str, Any], tracks: Iterable[tuple[dict[str, Any], BoxColumns]]
) -> Iterator[str]:
    """A result as JSON text, in pieces, its `tracks` last.

    Args:
        rest: its other fields.
        tracks: the fields of each track but `frames`, and its boxes.

    Raises:
        ValueError: a number is not finite.
    """
    yield _dumps(rest)[:-1] + ',"tracks":['
    for position, (head, boxes) in enumerate(tracks):
        yield ("," if position else "") + _dumps(head)[:-1] + ',"frames":['
        for start in range(0, len(boxes), BOXES_A_PIECE):
            piece = _dumps(box_dicts(boxes.part(start, start + BOXES_A_PIECE)))
            yield ("," if start else "") + piece[1:-1]
        yield "]}"
    yield "]}"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_result(data: bytes | str, track: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The result's fields, as `TrackResult.model_validate` takes them.

    Args:
        track: makes a track of its fields, of which `frames` is a `TrackFrames`.

    Raises:
        ValueError: the text is no JSON object, or its `tracks` are none.
    """
    reader = _Reader(data if isinstance(data, str) else data.decode("utf-8"))

    def frames() -> TrackFrames:
        return TrackFrames(reader.short_value(MAX_BOX_CHARS) for _ in reader.items())

    def tracks() -> list[object]:
        return [track(reader.fields(frames=frames)) for _ in reader.items()]

    try:
        fields = reader.fields(tracks=tracks)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    reader.end()
    return fields


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_SPACE = re.compile(r"[ \t\n\r]*")


class _Reader:
    """A position in JSON text. Containers are walked through one item at a time; what is in them is
    read by `json`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._other_chars = MAX_OTHER_CHARS
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def value(self) -> Any:
        """Any value, whole: text of any length, lists and objects up to a limit on all of them."""
        self._skip_space()
        if not self._text.startswith(("[", "{"), self._at):
            value, self._at = self._decoder.raw_decode(self._text, self._at)
            return value
        start = self._at
        value = self.short_value(self._other_chars)
        self._other_chars -= self._at - start
        return value

    def short_value(self, most: int) -> Any:
        """A value of at most so many characters."""
        self._skip_space()
        part = self._text[self._at : self._at + most]
        try:
            value, length = self._decoder.raw_decode(part)
        except ValueError:
            if len(part) < most:
                raise
            raise ValueError(f"a value has more than {most} characters, or is no JSON") from None
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

    def _need(self, mark: str) -> None:
        if not self._is_next(mark):
            raise ValueError(
                f"no JSON of a track result: {mark} was expected at character {self._at}"
            )

    def _is_next(self, mark: str) -> bool:
        self._skip_space()
        there = self._text.startswith(mark, self._at)
        self._at += there
        return there

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()
