"""The result of a former track task as tracks of this video: read, checked, turned into arrays.

Accepts the JSON that the worker puts at `result_url`, gzip or not, tracks as JSON or as columns.
Whatever else is in the file, or another video's tracks, is `invalid_task` naming `tracks_url`.
"""

from __future__ import annotations

import re
import zlib
from operator import gt
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gpu_worker_client.protocol import ErrorCode, TaskError, TrackResult
from gpu_worker_client.protocol.boxes.columnar import MAX_ID

if TYPE_CHECKING:
    from gpu_worker_processors.media.probe import VideoInfo

INPUT_NAME = "tracks"
"""Under which the worker hands the file over (`LocalJob.inputs`)."""
MAX_BYTES = 256 * 1024**2
"""Unpacked: some three million boxes."""
_CLASS_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
"""As the wire has it where classes are asked for."""
_GZIP_MAGIC = b"\x1f\x8b"
_PATH = "tracks_url"


def read_tracks(path: Path, video: VideoInfo) -> TrackResult:
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
    try:
        result = TrackResult.from_json(data)
    except ValueError:
        _refuse("this is not the result of a track task; give the object that was its result_url")
    if len(result.tracks) < result.stats.unique_tracks:
        _refuse(
            "this is an answer without its tracks; give the object that was the track task's"
            " result_url"
        )
    _check_tracks(result)
    if result.video is not None and (result.video.width, result.video.height) != (
        video.width,
        video.height,
    ):
        _refuse(
            f"these tracks are of a video of {result.video.width}x{result.video.height}, and this"
            f" one has {video.width}x{video.height}; give the result of tracking this video"
        )
    return result


def _check_tracks(result: TrackResult) -> None:
    """What a track task promises and the wire's types do not say."""
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


def check_frames(result: TrackResult, frames: int) -> None:
    """
    Raises:
        TaskError: `invalid_task` when the tracks are of a video with another number of frames.
    """
    if result.stats.total_frames != frames:
        _refuse(
            f"these tracks are of a video of {result.stats.total_frames} frames, and this one has"
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
