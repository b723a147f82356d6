"""The boxes of one track as a sequence: read from and written to JSON like a list of `TrackBox`,
held as arrays.

Accepts boxes with rising frames and finite numbers in range, from anyone; the rest is refused as a
`ValueError`. Rounds to 0.1 px and 0.001 of confidence, as the wire has it. Keys that a newer worker
adds to a box are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gpu_worker_client.protocol.base import ResponseModel
from gpu_worker_client.protocol.box_columns import CONFIDENCE, PX, BoxColumns


class TrackBox(ResponseModel):
    """Where a track is in one frame."""

    frame: int
    """0-based, display order."""
    bbox: tuple[float, float, float, float]
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

    def __init__(self, boxes: BoxColumns | Iterable[TrackBox] = ()) -> None:
        """
        Raises:
            ValueError: a number out of range, or frames that do not rise.
        """
        if not isinstance(boxes, BoxColumns):
            columns = BoxColumns()
            for box in boxes:
                columns.put(box.frame, box.bbox, box.confidence, box.interpolated)
            boxes = columns
        self.columns = boxes

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: int) -> TrackBox: ...
    @overload
    def __getitem__(self, index: slice) -> TrackFrames: ...
    def __getitem__(self, index: int | slice) -> TrackBox | TrackFrames:
        columns = self.columns
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return TrackFrames(columns.part(start, max(start, stop)))
            return TrackFrames(self[position] for position in range(start, stop, step))
        index = range(len(self))[index]
        x1, y1, x2, y2 = columns.corners[index * 4 : index * 4 + 4]
        return TrackBox.model_construct(
            frame=columns.frames[index],
            bbox=(x1 / PX, y1 / PX, x2 / PX, y2 / PX),
            confidence=columns.confidences[index] / CONFIDENCE,
            interpolated=bool(columns.flags[index]),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrackFrames) and self.columns == other.columns

    __hash__ = None  # type: ignore[assignment] # as a list

    def __repr__(self) -> str:
        frames = self.columns.frames
        return (
            f"TrackFrames({len(frames)} boxes, frames {frames[0]} to {frames[-1]})"
            if frames
            else "TrackFrames()"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        boxes = handler.generate_schema(list[TrackBox])
        return core_schema.no_info_plain_validator_function(
            cls._validated,
            json_schema_input_schema=boxes,
            serialization=core_schema.plain_serializer_function_ser_schema(
                box_dicts, return_schema=core_schema.any_schema()
            ),
        )

    @classmethod
    def _validated(cls, value: Any) -> TrackFrames:
        if isinstance(value, TrackFrames):
            return value
        if not isinstance(value, list | tuple):
            raise ValueError("the frames of a track are a list")
        columns = BoxColumns()
        for box in cast("Sequence[Any]", value):
            put_box(columns, box)
        return cls(columns)


def put_box(columns: BoxColumns, box: Any) -> None:
    """Adds a box as JSON has it.

    Raises:
        ValueError: it is none.
    """
    if isinstance(box, TrackBox):
        columns.put(box.frame, box.bbox, box.confidence, box.interpolated)
        return
    if not isinstance(box, Mapping):
        raise ValueError("a box is an object")
    fields = cast("Mapping[str, Any]", box)
    frame, bbox, confidence = fields.get("frame"), fields.get("bbox"), fields.get("confidence")
    interpolated = fields.get("interpolated", False)
    if type(frame) is not int or type(interpolated) is not bool or type(confidence) not in _NUMBER:
        raise ValueError(
            "a box needs a frame (integer) and a confidence (number); interpolated is true or false"
        )
    if not isinstance(bbox, list | tuple):
        raise ValueError("a box needs a bbox of four numbers")
    corners = cast("Sequence[Any]", bbox)
    if len(corners) != 4 or not all(type(corner) in _NUMBER for corner in corners):
        raise ValueError("a box needs a bbox of four numbers")
    columns.put(frame, corners, cast(float, confidence), interpolated)


_NUMBER = (int, float)


def box_dicts(frames: TrackFrames) -> list[dict[str, Any]]:
    """The boxes as JSON has them."""
    columns, plain = frames.columns, list[dict[str, Any]]()
    for index, (frame, confidence, flag) in enumerate(
        zip(columns.frames, columns.confidences, columns.flags, strict=True)
    ):
        bbox = [corner / PX for corner in columns.corners[index * 4 : index * 4 + 4]]
        box: dict[str, Any] = {"frame": frame, "bbox": bbox, "confidence": confidence / CONFIDENCE}
        plain.append(box | {"interpolated": True} if flag else box)
    return plain


def box_texts(columns: BoxColumns) -> Iterator[str]:
    """Each box as JSON text, as `json.dumps` with compact separators writes `box_dicts`."""
    corners = iter(columns.corners)
    for frame, confidence, flag, x1, y1, x2, y2 in zip(
        columns.frames,
        columns.confidences,
        columns.flags,
        corners,
        corners,
        corners,
        corners,
        strict=False,
    ):
        more = ',"interpolated":true' if flag else ""
        yield (
            f'{{"frame":{frame},"bbox":[{x1 / PX},{y1 / PX},{x2 / PX},{y2 / PX}],'
            f'"confidence":{confidence / CONFIDENCE}{more}}}'
        )
