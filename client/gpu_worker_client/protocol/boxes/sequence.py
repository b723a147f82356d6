"""The boxes of one track as a sequence: read from and written to JSON like a list of `TrackBox`,
held as arrays.

Accepts boxes with rising frames and finite numbers in range, from anyone; the rest is refused as a
`ValueError`. Rounds to 0.1 px and 0.001 of confidence, as the wire has it. Keys that a newer worker
adds to a box are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gpu_worker_client.protocol.base import ResponseModel
from gpu_worker_client.protocol.boxes.arrays import BBox, BoxColumns


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
    """The arrays behind it, for whoever reads many: take them as they are and do not change
    them."""

    def __init__(self, boxes: BoxColumns | Iterable[TrackBox | dict[str, Any]] = ()) -> None:
        """
        Raises:
            ValueError: what is no box, a number out of range, or frames that do not rise.
        """
        self.columns = boxes if isinstance(boxes, BoxColumns) else BoxColumns()
        if not isinstance(boxes, BoxColumns):
            for box in boxes:
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
