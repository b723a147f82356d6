"""A results file of the queue, read a box at a time.

Accepts the worker's form, whose `result` is the answer of a task, and the form of `detections`
with a bbox of x, y, width, height:

    {"job_id": "abc", "video_id": 1, "completed_at": "2026-01-22T12:30:00Z", "result": {...}}
    {"job_id": "abc", "video_id": 1, "completed_at": "2026-01-22T12:30:00Z",
     "frames_processed": 108000,
     "detections": [{"frame": 0, "track_id": 1, "bbox": [100, 200, 50, 120], "confidence": 0.92}]}

Guarantees that a file from anyone ends in `ValueError` or in boxes within the limits of
`protocol/boxes.py`, and that memory holds one row of `detections`, or a `result` with 23 bytes for
each of its boxes. A row of `detections` that is no box is counted and left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from gpu_worker_client.protocol import State, Track, TrackResult
from gpu_worker_client.protocol.boxes import MAX_BOX_CHARS, MAX_FRAME, MAX_PX, read_fields
from gpu_worker_client.protocol.columnar import MAX_ID, MAX_TRACKS
from gpu_worker_client.protocol.json_reader import JsonReader
from gpu_worker_client.status import JobStatus, read_result

MAX_PROBLEMS = 5
"""Bad rows that are named; all are counted."""
_PIECE_CHARS = 1 << 18


class Box(NamedTuple):
    """One detection."""

    track_id: int
    frame: int
    """0-based, display order."""
    seconds: float | None
    """Time of the frame; None where the file does not say."""
    x: float
    """Left edge in pixels of the upright frame."""
    y: float
    width: float
    height: float
    confidence: float
    interpolated: bool = False


@dataclass
class BadRows:
    """Rows that were left out."""

    count: int = 0
    problems: list[str] = field(default_factory=list[str])
    """The first of them, each with its index and what is wrong."""

    def add(self, index: int, problem: str) -> None:
        self.count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"detections[{index}]: {problem}")


class Sink(Protocol):
    """Where the boxes go."""

    def put_track(self, track_id: int, class_name: str | None, shot: int | None) -> None: ...

    def put_boxes(self, boxes: Iterable[Box]) -> None:
        """Takes each box while it is read. The track of a box was put before it."""
        ...


def read_results(file: BinaryIO, sink: Sink, bad: BadRows) -> dict[str, Any]:
    """The file's fields but `detections`; `result` is the result's model, without tracks.

    Raises:
        ValueError: the file is no JSON of either form.
        ResultUnreadable: its `result` is none of a task's.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    reader = JsonReader(more=partial(text.read, _PIECE_CHARS), constant=lambda _: None)

    def detections() -> None:
        sink.put_boxes(_detections(reader, sink, bad))

    def result() -> object:
        fields = read_fields(reader, Track.model_validate)
        found = read_result(JobStatus("", State.completed), fields)
        if isinstance(found, TrackResult):
            sink.put_boxes(boxes_of(found, sink))
            return found.model_copy(update={"tracks": []})
        return found

    fields = reader.fields(detections=detections, result=result)
    reader.end()
    text.detach()
    return fields


def _detections(reader: JsonReader, sink: Sink, bad: BadRows) -> Iterator[Box]:
    known: set[int] = set()
    for index, _ in enumerate(reader.items()):
        box = _box(reader.short_value(MAX_BOX_CHARS))
        if isinstance(box, str):
            bad.add(index, box)
            continue
        if box.track_id not in known:
            if len(known) == MAX_TRACKS:
                raise ValueError(f"more than {MAX_TRACKS} tracks")
            known.add(box.track_id)
            sink.put_track(box.track_id, None, None)
        yield box


def _box(row: Any) -> Box | str:
    """A row of `detections`, or what is wrong with it."""
    if not isinstance(row, dict):
        return "no object"
    fields = cast("dict[str, Any]", row)
    frame, track_id, bbox = fields.get("frame"), fields.get("track_id"), fields.get("bbox")
    confidence = fields.get("confidence")
    if type(frame) is not int or not 0 <= frame < MAX_FRAME:
        return f"frame must be an integer from 0 to {MAX_FRAME - 1}"
    if type(track_id) is not int or not 0 <= track_id <= MAX_ID:
        return f"track_id must be an integer from 0 to {MAX_ID}"
    if not isinstance(bbox, list) or len(cast("list[Any]", bbox)) != 4 or not _finite(bbox):
        return "bbox must be four numbers: x, y, width, height"
    if max(map(abs, bbox)) > MAX_PX or bbox[2] <= 0 or bbox[3] <= 0:
        return f"bbox must have a width and height above 0, and no number beyond {MAX_PX}"
    if not _finite([confidence]) or not 0 <= cast(float, confidence) <= 1:
        return "confidence must be a number from 0 to 1"
    x, y, width, height = cast("list[float]", bbox)
    return Box(track_id, frame, None, x, y, width, height, cast(float, confidence))


def _finite(numbers: Iterable[Any]) -> bool:
    return all(type(number) in (int, float) and isfinite(number) for number in numbers)


def boxes_of(result: TrackResult, sink: Sink) -> Iterator[Box]:
    """Every box of a result; each track is put before its first."""
    video = result.video
    for track in result.tracks:
        sink.put_track(track.track_id, track.class_name, track.shot)
        for frame, (x1, y1, x2, y2), confidence, interpolated in track.frames.columns.rows():
            seconds = None if video is None else video.seconds_of(frame)
            size = round(x2 - x1, 1), round(y2 - y1, 1)
            yield Box(track.track_id, frame, seconds, x1, y1, *size, confidence, interpolated)
