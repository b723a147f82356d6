"""A track result's JSON, written and read a box at a time: beside the text itself, memory holds
arrays of 23 bytes a box.

Reading accepts any JSON object and guarantees what `json.loads` does, with `tracks` turned into
`Track` on the way; what is no JSON, or no track, is a `ValueError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gpu_worker_client.protocol.boxes import BoxColumns, TrackFrames, box_dicts
from gpu_worker_client.protocol.json_reader import JsonReader

BOXES_A_PIECE = 1000
"""Some 70 kB of text."""
MAX_BOX_CHARS = 10_000
"""Of one box with what a tracker adds to it, laid out in lines: 200 are usual."""


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
    reader = JsonReader(data if isinstance(data, str) else data.decode("utf-8"))
    fields = read_fields(reader, track)
    reader.end()
    return fields


def read_fields(reader: JsonReader, track: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """`read_result`, of the object that the reader stands before."""

    def frames() -> TrackFrames:
        return TrackFrames(reader.short_value(MAX_BOX_CHARS) for _ in reader.items())

    def tracks() -> list[object]:
        return [track(reader.fields(frames=frames)) for _ in reader.items()]

    return reader.fields(tracks=tracks)
