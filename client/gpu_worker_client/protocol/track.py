"""track: people, balls and other things followed through a video, each under an id that holds until
it is gone.

A result may hold a million boxes. `Track.frames` keeps them as arrays, 23 bytes a box, and makes a
`TrackBox` of one when it is read; on the wire they are JSON, or columns (`tracks_columnar`)
that are read back without a word.
"""

from __future__ import annotations

import heapq
import json
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, JsonValue, field_validator, model_validator
from typing_extensions import Self

from gpu_worker_client.protocol.base import (
    BY_EITHER_NAME,
    AnsweredBy,
    ClassName,
    Many,
    ModelName,
    ResponseModel,
    Share,
)
from gpu_worker_client.protocol.boxes import TrackFrames, read_result, write_result
from gpu_worker_client.protocol.columnar import TrackHead, announced, read_columnar, write_columnar
from gpu_worker_client.protocol.result import PackedTooMany, Stats, TaskResult
from gpu_worker_client.protocol.task import OnDamage, OptionalFileTask, RequestModel

MAX_STATE_BYTES = 192 * 1024
"""Largest `tracker` of a state, as compact JSON: with its URLs a task has 256 KiB."""


class TrackState(RequestModel):
    """A tracker at the end of a piece of video, to go on with in the next piece. Made by the
    worker: pass it on as it came."""

    version: Literal[1] = 1
    """Version of this blob."""
    track_algorithm: Literal["botsort", "bytetrack"]
    """The algorithm that made it; the next piece must name the same."""
    frames: int = Field(ge=0, lt=2**30)
    """Frames of all pieces so far: what to add to the next piece's frame numbers, which start at 0
    again."""
    tracker: dict[str, JsonValue]
    """What the tracker remembers: the next id, and position, speed and age of tracks that may be
    seen again."""

    @field_validator("tracker")
    @classmethod
    def _fits_into_a_task(cls, tracker: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if len(json.dumps(tracker, separators=(",", ":")).encode()) > MAX_STATE_BYTES:
            raise ValueError(f"the state has more than {MAX_STATE_BYTES} bytes")
        return tracker


class TrackParams(RequestModel):
    model: ModelName = "yolov8n"
    """Detector, by its name in the weights manifest: yolov8n, yolov8m, yolov8x, a yolo11 or yolo26,
    or another one listed there; `hog` is OpenCV's person detector and needs no weights."""
    classes: list[ClassName] = Field(default=["person", "sports ball"], min_length=1, max_length=80)
    """What to follow, by the model's class names (COCO's for the listed ones). `hog` knows people
    only; with it the default means people."""
    confidence_threshold: Share = 0.5
    """What is reported; 0.3 finds a ball in more frames. The tracker sees weaker boxes as well, so
    that an id survives a moment of doubt."""
    iou_threshold: float = Field(default=0.45, gt=0, le=1)
    """When two boxes of one class in a frame overlap by more than this, the weaker one is
    dropped."""
    track_algorithm: Literal["botsort", "bytetrack"] = "botsort"
    """`botsort` makes up for a moving camera; `bytetrack` is a little faster."""
    reset_at_cuts: bool = True
    """No track goes on over a cut: the next shot starts with new ids."""
    frame_stride: int = Field(default=1, ge=1, le=1000)
    """Read every n-th frame only, from the first on. Frames keep their numbers; a drawn video
    shows boxes until the next."""
    state_in: Annotated[TrackState, Field(strict=False)] | None = None  # a dict, as `state_out` is
    """`state_out` of the piece of video before this one: ids go on where it ended. Frames and shots
    of each piece count from 0; add `frames` of the state to put pieces together. All pieces need
    the same size, rate and classes in the same order. A cut between two pieces is not seen."""
    return_state: bool = False
    """Answer `state_out`, for the next piece: some 40 KB of JSON, more in a crowd."""
    on_damage: OnDamage = "fail"

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) != len(classes):
            raise ValueError("a class stands twice")
        return classes

    def _problems(self) -> Iterator[str]:
        made_by = self.state_in.track_algorithm if self.state_in else self.track_algorithm
        if made_by != self.track_algorithm:
            yield f"state_in was made by {made_by}; set track_algorithm to that"


class Track(ResponseModel):
    """One thing in one shot."""

    model_config = BY_EITHER_NAME

    track_id: int
    """From 1 in every job, in the order of appearance; with `state_in` from where the piece before
    ended."""
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    """The model's name for it, the same in all frames. `class` in JSON, `class_name` in Python."""
    shot: int = 0
    """Which shot it is in, from 0: the number of `cuts` up to its first frame."""
    frames: TrackFrames
    """Where it is, frames rising. A frame in which it was not found is missing."""


class TrackCut(ResponseModel):
    frame: int
    """First frame of a new shot, 0-based, display order."""
    time: float
    """Seconds from the first frame, from its timestamp."""


class TrackVideo(ResponseModel):
    """What the boxes refer to."""

    width: int
    """Pixels, of the upright frame."""
    height: int
    """Pixels, of the upright frame."""
    fps: float = Field(gt=0)
    """Frames per second, on average."""
    duration: float = 0.0
    """Seconds, from the first frame to the end of the last."""
    is_vfr: bool = False
    """The frames are not evenly spaced in time: `frame / fps` is only near a frame's time."""
    times: Many[tuple[int, float]] = []
    """With `is_vfr`: some frames and their times in seconds, first and last among them. Between two
    of them time runs evenly, to a quarter of a frame. Empty otherwise."""

    def seconds_of(self, frame: int) -> float:
        """Time of a frame, from the first frame: near enough to separate it from its neighbours."""
        after = bisect_right(self.times, (frame, inf))
        if not 0 < after < len(self.times):
            last_frame, last_time = self.times[-1] if after else (0, 0.0)
            return last_time + (frame - last_frame) / self.fps
        (left, start), (right, end) = self.times[after - 1 : after + 1]
        return start + (end - start) * (frame - left) / (right - left)


class TrackStats(Stats):
    total_frames: int
    """Frames of the video."""
    unique_tracks: int
    """Length of `tracks`."""
    boxes: int = 0
    """Boxes in all tracks."""
    fps: float = 0.0
    """Frames processed per second of wall time."""
    shots: int = 1
    """One more than there are cuts."""


class TrackResult(TaskResult):
    task: Literal["track"] = "track"
    tracks: Many[Track] = []
    """By rising id. An answer over the inline limit has `tracks_count` instead, and its whole
    result is at `result_url`."""
    tracks_columnar: str | None = None
    """The tracks of a result over the inline limit without a `result_url` or a bucket: gzip
    and base64, some 7 bytes a box. The SDK reads it into `tracks`; the layout is in
    `gpu_worker_client/protocol/columnar.py`."""
    cuts: Many[TrackCut] = []
    """First frames of all shots but the first."""
    video: TrackVideo | None = None
    """What the boxes refer to."""
    state_out: dict[str, JsonValue] | None = None
    """With `return_state`: the tracker at the end, for `state_in` of the next piece. Its fields are
    those of `TrackState`, or of a newer worker's: pass it on as it came."""
    stats: TrackStats

    @model_validator(mode="before")
    @classmethod
    def _columns_become_tracks(cls, data: Any) -> Any:
        text = data.get("tracks_columnar") if isinstance(data, dict) else None
        if not isinstance(text, str):
            return data
        fields = cast("dict[str, Any]", data)
        if fields.get("tracks"):
            raise ValueError("tracks stand twice, as JSON and as columns")
        return fields | {"tracks": _tracks_from(text), "tracks_columnar": None}

    @classmethod
    def from_json(cls, data: bytes | str, max_packed: int | None = None) -> Self:
        """See `TaskResult.from_json`: 300 bytes less a box than by `model_validate_json`."""
        fields = read_result(data, Track.model_validate)
        columns = fields.get("tracks_columnar")
        if max_packed is not None and isinstance(columns, str):
            held = sum(announced(b64decode(columns, validate=True)))
            if held > max_packed:
                raise PackedTooMany(f"the columns hold {held} tracks and boxes")
        return cls.model_validate(fields)

    def json_pieces(self) -> Iterator[str]:
        """See `TaskResult.json_pieces`."""
        tracks = (
            (track.model_dump(mode="json", exclude={"frames"}), track.frames.columns)
            for track in self.tracks
        )
        return write_result(self.model_dump(mode="json", exclude={"tracks"}), tracks)

    def packed(self) -> Self:
        """See `TaskResult.packed`: the tracks as columns."""
        if not self.tracks:
            return self
        out = BytesIO()
        heads = [TrackHead(t.track_id, t.class_name, t.shot, len(t.frames)) for t in self.tracks]
        write_columnar(out, heads, (track.frames.columns for track in self.tracks))
        return self.with_columns(out.getvalue())

    def with_columns(self, columns: bytes) -> Self:
        """This result with these tracks, packed; validating it or `unpacked` reads them."""
        text = b64encode(columns).decode("ascii")
        return self.model_copy(update={"tracks": [], "tracks_columnar": text})

    def unpacked(self) -> Self:
        """The inverse of `packed`. Raises ValueError: the columns are damaged."""
        if self.tracks_columnar is None:
            return self
        tracks = _tracks_from(self.tracks_columnar)
        return self.model_copy(update={"tracks": tracks, "tracks_columnar": None})


def _tracks_from(columns: str) -> list[Track]:
    """The tracks of a `tracks_columnar`."""
    found = read_columnar(b64decode(columns, validate=True))
    return [
        Track(track_id=track_id, class_name=name, shot=shot, frames=TrackFrames(boxes))
        for (track_id, name, shot, _), boxes in found
    ]


class TrackTask(OptionalFileTask, AnsweredBy[TrackResult]):
    """`output_url` is optional: the video with boxes, ids and trails drawn into it."""

    task: Literal["track"] = "track"
    params: TrackParams = TrackParams.model_construct()


def tracks_to_mot(
    tracks: TrackResult | Iterable[Track],
    path: str | Path | None = None,
    *,
    classes: Collection[str] | None = None,
) -> str:
    """Tracks as MOTChallenge text: `frame,id,left,top,width,height,confidence,-1,-1,-1`, one line a
    box, by frame and id.

    The format counts frames from 1, so frame 0 of a track is frame 1 here; its boxes are `left,
    top, width, height`. It has no column for a class: with `classes` only tracks of these are
    written, without it all are, and nothing distinguishes them. Interpolated boxes are written like
    the rest. https://motchallenge.net/instructions/

    Args:
        tracks: a result, packed or not, or some of its tracks.
        path: a file to write the text to as well, in UTF-8.
        classes: class names to write; None writes all.

    Raises:
        ValueError: the result is the summary of a larger one, or the columns it holds are damaged.
    """
    if isinstance(tracks, TrackResult):
        if not tracks.tracks and (tracks.model_extra or {}).get("tracks_count"):
            raise ValueError(
                "this is the summary of a large result: read the whole from its result_url with"
                " TrackResult.from_json"
            )
        tracks = tracks.unpacked().tracks
    chosen = [track for track in tracks if classes is None or track.class_name in classes]
    text = "".join(line for _, _, line in heapq.merge(*map(_rows, chosen)))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    return text


def _rows(track: Track) -> Iterator[tuple[int, int, str]]:
    """Frame (from 1), id, line."""
    columns = track.frames.columns
    corners = iter(columns.corners)
    for frame, confidence, x1, y1, x2, y2 in zip(
        columns.frames, columns.confidences, corners, corners, corners, corners, strict=False
    ):
        # In tenths, so that a width is the exact difference of two rounded sides.
        box = ",".join(f"{tenths / 10:.1f}" for tenths in (x1, y1, x2 - x1, y2 - y1))
        line = f"{frame + 1},{track.track_id},{box},{confidence / 1000:g},-1,-1,-1\n"
        yield frame + 1, track.track_id, line
