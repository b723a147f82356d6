"""A track result's JSON, written and read a box at a time: beside the text itself, memory holds
arrays of 23 bytes a box.

Reading accepts any JSON object and guarantees what `json.loads` does, with `tracks` turned into
`Track` on the way; what is no JSON, or no track, is a `ValueError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn, Protocol

from pydantic import BaseModel

from gpu_worker_client.protocol.box_columns import BoxColumns
from gpu_worker_client.protocol.boxes import TrackFrames, box_texts, put_box

BOXES_A_PIECE = 1000
"""Some 70 kB of text."""


class HasFrames(Protocol):
    """A track, as far as it is written here."""

    @property
    def frames(self) -> TrackFrames: ...
    def model_dump(self, *, mode: str, exclude: set[str]) -> dict[str, Any]: ...


def write_result(result: BaseModel, tracks: Sequence[HasFrames]) -> Iterator[str]:
    """The result as JSON text, in pieces, its `tracks` last.

    Raises:
        ValueError: a number is not finite.
    """
    rest = _dumps(result.model_dump(mode="json", exclude={"tracks"}))
    yield rest[:-1] + ',"tracks":['
    for position, track in enumerate(tracks):
        head = _dumps(track.model_dump(mode="json", exclude={"frames"}))
        yield ("," if position else "") + head[:-1] + ',"frames":['
        boxes, separator = box_texts(track.frames.columns), ""
        while some := list(islice(boxes, BOXES_A_PIECE)):
            yield separator + ",".join(some)
            separator = ","
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
    text = data if isinstance(data, str) else data.decode("utf-8")
    reader = _Reader(text)

    def read_track() -> object:
        return track(reader.fields({"frames": lambda: _read_frames(reader)}))

    try:
        fields = reader.fields({"tracks": lambda: reader.items(read_track)})
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    reader.end()
    return fields


def _read_frames(reader: _Reader) -> TrackFrames:
    columns = BoxColumns()
    reader.each(lambda: put_box(columns, reader.value()))
    return TrackFrames(columns)


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_SPACE = re.compile(r"[ \t\n\r]*")


class _Reader:
    """A position in JSON text. Containers are walked through one item at a time; what is in them is
    read by `json`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def value(self) -> Any:
        """Any value, whole."""
        self._skip_space()
        value, self._at = self._decoder.raw_decode(self._text, self._at)
        return value

    def fields(self, special: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """An object. Values of `special` keys are read by their own function, unless they are
        null."""
        found: dict[str, Any] = {}

        def field() -> None:
            name = self.value()
            if not isinstance(name, str) or name in found:
                raise ValueError("a key is no text, or stands twice")
            self._need(":")
            found[name] = special[name]() if name in special else self.value()

        self._each("{", "}", field)
        return found

    def items(self, item: Callable[[], Any]) -> list[Any]:
        """A list, each of its items read by `item`."""
        found: list[Any] = []
        self.each(lambda: found.append(item()))
        return found

    def each(self, item: Callable[[], Any]) -> None:
        """Calls `item` at each item of a list."""
        self._each("[", "]", item)

    def end(self) -> None:
        self._skip_space()
        if self._at != len(self._text):
            raise ValueError("something follows the JSON")

    def _each(self, opening: str, closing: str, item: Callable[[], Any]) -> None:
        self._need(opening)
        if self._is_next(closing):
            return
        while True:
            item()
            if self._is_next(closing):
                return
            self._need(",")

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
