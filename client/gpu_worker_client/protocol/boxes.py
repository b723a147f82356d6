"""Boxes of one track, by the million: `BoxColumns` holds them as arrays, `TrackFrames` shows them
as a sequence of `TrackBox`; `write_result` and `read_result` take a track result's JSON box by box,
so that memory holds the text and the arrays, no more.

Accepts boxes with rising frames and finite numbers in range, from anyone; the rest is refused as a
`ValueError`. Rounds to 0.1 px and 0.001 of confidence, as the wire has it. Keys that a newer worker
adds to a box are dropped.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gpu_worker_client.protocol.base import ResponseModel
from gpu_worker_client.protocol.json_reader import JsonReader

MAX_FRAME = 2**30
PX = 10
"""Steps of a coordinate in a pixel."""
MAX_PX = 1_000_000
"""Largest coordinate, to either side of 0."""
CONFIDENCE = 1000
"""Steps of a confidence from 0 to 1."""
BOXES_A_PIECE = 1000
"""Some 70 kB of text."""
MAX_BOX_CHARS = 10_000
"""Of one box with what a tracker adds to it, laid out in lines: 200 are usual."""

BBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


@dataclass(slots=True, repr=False)
class BoxColumns:
    """Boxes of one track as arrays, 23 bytes a box."""

    frames: array[int] = field(default_factory=lambda: array("i"))
    """int32, shape (n,), rising."""
    corners: array[int] = field(default_factory=lambda: array("i"))
    """int32, shape (n * 4,): x1, y1, x2, y2 of each box in tenths of a pixel."""
    confidences: array[int] = field(default_factory=lambda: array("H"))
    """uint16, shape (n,), thousandths."""
    flags: array[int] = field(default_factory=lambda: array("B"))
    """uint8, shape (n,), 1 where the box is interpolated."""

    def __len__(self) -> int:
        return len(self.frames)

    def put(
        self, frame: int, bbox: Sequence[float], confidence: float, interpolated: bool = False
    ) -> None:
        """Adds a box, rounded. Raises ValueError: a number that is not finite or out of range, or
        a frame that is not after the one before."""
        x1, y1, x2, y2 = bbox
        try:
            corners = (round(x1 * PX), round(y1 * PX), round(x2 * PX), round(y2 * PX))
            thousandths = round(confidence * CONFIDENCE)
        except OverflowError:
            raise ValueError("a number of a box is not finite") from None
        if max(corners) > MAX_PX * PX or min(corners) < -MAX_PX * PX:
            raise ValueError(f"a coordinate is beyond {MAX_PX} px")
        if not 0 <= thousandths <= CONFIDENCE:
            raise ValueError("a confidence is not between 0 and 1")
        if not (self.frames[-1] if self.frames else -1) < frame < MAX_FRAME:
            raise ValueError(f"the frames of a track must rise, from 0 to {MAX_FRAME - 1}")
        self.frames.append(frame)
        self.corners.extend(corners)
        self.confidences.append(thousandths)
        self.flags.append(interpolated)

    def rows(self) -> Iterator[tuple[int, BBox, float, bool]]:
        """Each box as `put` takes it."""
        corner = iter([steps / PX for steps in self.corners])
        bboxes = zip(corner, corner, corner, corner, strict=True)
        confidences = [steps / CONFIDENCE for steps in self.confidences]
        return zip(self.frames, bboxes, confidences, map(bool, self.flags), strict=True)

    def part(self, start: int, stop: int) -> BoxColumns:
        """A copy of some boxes in a row."""
        corners, one = self.corners[start * 4 : stop * 4], slice(start, stop)
        return BoxColumns(self.frames[one], corners, self.confidences[one], self.flags[one])

    def extend(self, other: BoxColumns) -> None:
        """Adds another's boxes behind these."""
        self.frames.extend(other.frames)
        self.corners.extend(other.corners)
        self.confidences.extend(other.confidences)
        self.flags.extend(other.flags)


class TrackBox(ResponseModel):
    """Where a track is in one frame."""

    frame: int
    """0-based, display order."""
    bbox: BBox
    """x1, y1, x2, y2 in pixels of the upright frame, to 0.1 px."""
    confidence: float
    """0 to 1, to three digits."""
    interpolated: bool = False
    """Not seen in this frame but placed between neighbours that were. Left out of JSON when
    false."""


class TrackFrames(Sequence[TrackBox]):
    """An immutable sequence of `TrackBox`, made when read."""

    __slots__ = ("columns",)

    columns: BoxColumns
    """The arrays behind it, for whoever reads many. Do not change them."""

    def __init__(self, boxes: BoxColumns | Iterable[TrackBox | dict[str, Any]] = ()) -> None:
        """Raises ValueError: what is no box, a number out of range, or frames that do not rise."""
        self.columns = boxes if isinstance(boxes, BoxColumns) else BoxColumns()
        for box in () if isinstance(boxes, BoxColumns) else boxes:
            _put(self.columns, box)

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: int) -> TrackBox: ...
    @overload
    def __getitem__(self, index: slice) -> TrackFrames: ...
    def __getitem__(self, index: int | slice) -> TrackBox | TrackFrames:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return TrackFrames(self.columns.part(start, max(start, stop)))
            return TrackFrames(self[position] for position in range(start, stop, step))
        index = range(len(self))[index]
        frame, bbox, confidence, interpolated = next(self.columns.part(index, index + 1).rows())
        return TrackBox.model_construct(
            frame=frame, bbox=bbox, confidence=confidence, interpolated=interpolated
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrackFrames) and self.columns == other.columns

    __hash__ = None  # type: ignore[assignment] # as a list

    def __repr__(self) -> str:
        if not len(self):
            return "TrackFrames()"
        frames = self.columns.frames
        return f"TrackFrames({len(self)} boxes, frames {frames[0]} to {frames[-1]})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated,
            json_schema_input_schema=handler.generate_schema(list[TrackBox]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda frames: box_dicts(frames.columns), return_schema=core_schema.any_schema()
            ),
        )

    @classmethod
    def _validated(cls, value: Any) -> TrackFrames:
        if isinstance(value, TrackFrames):
            return value
        if not isinstance(value, list | tuple):
            raise ValueError("the frames of a track are a list")
        return cls(cast("Sequence[Any]", value))


def _put(columns: BoxColumns, box: Any) -> None:
    """Adds a box: a model, or what JSON has for one."""
    if isinstance(box, TrackBox):
        columns.put(box.frame, box.bbox, box.confidence, box.interpolated)
        return
    fields: dict[str, Any] = box if isinstance(box, dict) else {}
    frame, interpolated = fields.get("frame"), fields.get("interpolated", False)
    bbox, confidence = fields.get("bbox"), fields.get("confidence")
    numbers: list[Any] = [*bbox, confidence] if isinstance(bbox, list | tuple) else []
    if (
        type(frame) is not int
        or type(interpolated) is not bool
        or len(numbers) != 5
        or not all(type(number) in (int, float) for number in numbers)
    ):
        raise ValueError(
            "a box has a frame (integer), a bbox of four numbers and a confidence (number);"
            " interpolated is true or false"
        )
    columns.put(frame, numbers[:4], numbers[4], interpolated)


def box_dicts(columns: BoxColumns) -> list[dict[str, Any]]:
    """The boxes as JSON has them."""
    boxes: list[dict[str, Any]] = []
    for frame, bbox, confidence, interpolated in columns.rows():
        boxes.append({"frame": frame, "bbox": list(bbox), "confidence": confidence})
        if interpolated:
            boxes[-1]["interpolated"] = True
    return boxes


def write_result(
    rest: dict[str, Any], tracks: Iterable[tuple[dict[str, Any], BoxColumns]]
) -> Iterator[str]:
    """A result as JSON text, in pieces, its `tracks` last; of each the fields but `frames`, and its
    boxes. Raises ValueError: a number is not finite."""
    yield _dumps(rest)[:-1] + ',"tracks":['
    for position, (head, boxes) in enumerate(tracks):
        yield ("," if position else "") + _dumps(head)[:-1] + ',"frames":['
        for start in range(0, len(boxes), BOXES_A_PIECE):
            piece = _dumps(box_dicts(boxes.part(start, start + BOXES_A_PIECE)))
            yield ("," if start else "") + piece[1:-1]
        yield "]}"
    yield "]}"


_dumps = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_result(data: bytes | str, track: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The result's fields, as `TrackResult.model_validate` takes them; `track` makes a track of its
    fields, of which `frames` is a `TrackFrames`. Raises ValueError: it is no JSON object, or its
    `tracks` are none."""
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
