"""The tracks of this video that came with the job: read, checked, turned into arrays.

Accepts the JSON that a track task puts at `result_url`, tracks as JSON or as columns, or no more of
it than `tracks`, or MOTChallenge text; each gzip or not. Whatever else is in the file, or another
video's tracks, is `invalid_task` naming `tracks_url` and what is wrong with it.
"""

from __future__ import annotations

import re
import zlib
from array import array
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from operator import gt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from gpu_worker_client.protocol import (
    ErrorCode,
    TaskError,
    Track,
    TrackCut,
    TrackFrames,
    TrackResult,
)
from gpu_worker_client.protocol.boxes import (
    CONFIDENCE,
    MAX_FRAME,
    MAX_PX,
    PX,
    BoxColumns,
    read_result,
)
from gpu_worker_client.protocol.columnar import MAX_ID
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_client.protocol.task import problems_of

if TYPE_CHECKING:
    from gpu_worker_processors.media.probe import VideoInfo

INPUT_NAME = "tracks"
"""Under which the worker hands the file over (`LocalJob.inputs`)."""
MAX_BYTES = 256 * 1024**2
"""Unpacked: some three million boxes."""
_MAX_TRACKS = 100_000
"""Three new ones every second for nine hours; to read them takes two seconds."""
_CLASS_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
"""As the wire has it where classes are asked for."""
_GZIP_MAGIC = b"\x1f\x8b"
_MOT_START = re.compile(rb"\s*\d+(\.0*)?\s*,")
_MOT_ROW = re.compile(r"at row (\d+)")
_MOT_FORMAT = "frame,id,left,top,width,height[,confidence,...] in numbers"
_PATH = "tracks_url"


@dataclass(frozen=True)
class GivenTracks:
    """What the file says."""

    tracks: list[Track]
    cuts: list[TrackCut]
    total_frames: int | None
    """Frames of the video; None when the file does not say."""


def read_tracks(path: Path, video: VideoInfo) -> GivenTracks:
    """The tracks of this video. `check_frames` says whether it is as long as the tracks say.

    Raises:
        TaskError: `invalid_task`.
    """
    data = path.read_bytes()
    if data.startswith(_GZIP_MAGIC):
        data = _unpacked(data)
    if len(data) > MAX_BYTES:
        _refuse(
            f"the tracks have more than {MAX_BYTES} bytes; track fewer classes, or the video in"
            " pieces"
        )
    if _MOT_START.match(data):
        given = GivenTracks(_mot_tracks(data), [], None)
    else:
        given = _json_tracks(data, video)
    _check_tracks(given)
    return given


def _json_tracks(data: bytes, video: VideoInfo) -> GivenTracks:
    """Of a track task's result, or of as much of one as there is: `tracks` suffices."""
    numbers = count(1)

    def track(fields: dict[str, Any]) -> Track:
        _check_count(next(numbers))
        return Track.model_validate(fields)

    try:
        fields = read_result(data, track)
        if fields.get("task", "track") != "track":
            _refuse("this is the result of another task; give that of a track task")
        if not fields.keys() & {"tracks", "tracks_columnar", "tracks_count"}:
            _refuse("the JSON has no `tracks`; give the result of a track task")
        is_whole = "stats" in fields
        fields.setdefault("stats", {"total_frames": 0, "unique_tracks": 0})
        result = TrackResult.model_validate(fields)
    except ValidationError as error:
        problem = problems_of(error, Track if error.title == "Track" else TrackResult)
        _refuse(f"these are no tracks: {problem.message}")
    except ValueError as error:
        _refuse(f"these are no tracks, and no MOTChallenge text: {error}")
    if len(result.tracks) < result.stats.unique_tracks or (
        not result.tracks and "tracks_count" in fields
    ):
        _refuse(
            "this is an answer without its tracks; give the object that was the track task's"
            " result_url"
        )
    made_of = result.video
    if made_of is not None and (made_of.width, made_of.height) != (video.width, video.height):
        _refuse(
            f"these tracks are of a video of {made_of.width}x{made_of.height}, and this one has"
            f" {video.width}x{video.height}; give the result of tracking this video"
        )
    return GivenTracks(result.tracks, result.cuts, result.stats.total_frames if is_whole else None)


def _mot_tracks(data: bytes) -> list[Track]:
    """Tracks of MOTChallenge text: `frame,id,left,top,width,height[,confidence,...]`, frames from
    1, pixels. It names no class, so each is a person. https://motchallenge.net/instructions/"""
    import numpy as np

    columns = 7 if data.lstrip().partition(b"\n")[0].count(b",") >= 6 else 6
    try:
        rows = np.loadtxt(BytesIO(data), delimiter=",", usecols=range(columns), ndmin=2)
    except ValueError as error:
        row = _MOT_ROW.search(str(error))
        line = f"line {(parse_integer(row[1]) or 0) + 1}" if row else "a line"
        _refuse(f"MOTChallenge text: {line} is not {_MOT_FORMAT}")
    numbers, boxes = rows[:, :2], rows[:, 2:6]
    if not (np.isfinite(rows).all() and (numbers == np.trunc(numbers)).all()):
        _refuse(f"MOTChallenge text: a line is not {_MOT_FORMAT}")
    if not (
        (numbers >= 1).all()
        and (numbers <= (MAX_FRAME, MAX_ID)).all()
        and (abs(boxes) < MAX_PX / 2).all()
        and (boxes[:, 2:] >= 0).all()
    ):
        _refuse("MOTChallenge text: frames and ids count from 1, widths and heights from 0")
    rows = rows[np.lexsort((numbers[:, 0], numbers[:, 1]))]
    corners = np.hstack([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]])
    confidence = rows[:, 6] if columns == 7 else np.ones(len(rows))
    confidence = np.where((confidence >= 0) & (confidence <= 1), confidence, 1.0)
    tracks: list[Track] = []
    ids, starts = np.unique(rows[:, 1], return_index=True)
    _check_count(len(ids))
    for track_id, start, stop in zip(ids, starts, [*starts[1:], len(rows)], strict=True):
        frames = rows[start:stop, 0] - 1
        if (np.diff(frames) == 0).any():
            _refuse(f"MOTChallenge text: id {track_id:.0f} stands twice in a frame")
        found = BoxColumns()
        found.frames = array("i", frames.astype(np.int32).tobytes())
        steps = np.rint(corners[start:stop] * PX)
        found.corners = array("i", steps.astype(np.int32).tobytes())
        steps = np.rint(confidence[start:stop] * CONFIDENCE)
        found.confidences = array("H", steps.astype(np.uint16).tobytes())
        found.flags = array("B", bytes(len(frames)))
        tracks.append(
            Track(track_id=round(track_id), class_name="person", frames=TrackFrames(found))
        )
    return tracks


def _check_count(tracks: int) -> None:
    if tracks > _MAX_TRACKS:
        _refuse(f"there are more than {_MAX_TRACKS} tracks; track fewer classes")


def _check_tracks(result: GivenTracks) -> None:
    """What a track task promises and the wire's types do not say."""
    _check_count(len(result.tracks))
    ids = [track.track_id for track in result.tracks]
    if len(set(ids)) < len(ids) or not all(0 < track_id <= MAX_ID for track_id in ids):
        _refuse(f"a track's id is not between 1 and {MAX_ID}, or stands twice")
    if not all(
        _CLASS_NAME.fullmatch(name) for name in {track.class_name for track in result.tracks}
    ):
        _refuse("a track's class is no name of 1 to 64 printable characters")
    cuts = [cut.frame for cut in result.cuts]
    if any(before >= after for before, after in zip(cuts, cuts[1:], strict=False)):
        _refuse("the cuts are not in order")
    for track in result.tracks:
        x1, y1, x2, y2 = (track.frames.columns.corners[side::4] for side in range(4))
        if any(map(gt, x1, x2)) or any(map(gt, y1, y2)):
            _refuse(
                "a box has its right edge left of its left one, or its lower above its upper; give"
                " x1, y1, x2, y2"
            )


def check_frames(result: GivenTracks, frames: int) -> None:
    """
    Raises:
        TaskError: `invalid_task` when the tracks are of a video with another number of frames.
    """
    if result.total_frames not in (None, frames):
        _refuse(
            f"these tracks are of a video of {result.total_frames} frames, and this one has"
            f" {frames}; give the result of tracking this video"
        )
    beyond = any(
        track.frames and track.frames.columns.frames[-1] >= frames for track in result.tracks
    )
    if beyond or any(not 0 < cut.frame < frames for cut in result.cuts):
        _refuse("a frame of the tracks is not in the video")


def _unpacked(data: bytes) -> bytes:
    """Bounded: a few kilobytes of gzip may hold gigabytes."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        return unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        _refuse("the gzip file is damaged")


def _refuse(problem: str) -> NoReturn:
    errors = [{"path": _PATH, "problem": problem}]
    raise TaskError(ErrorCode.invalid_task, f"{_PATH}: {problem}", errors=errors) from None
