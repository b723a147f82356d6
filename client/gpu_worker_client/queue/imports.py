"""Results of the queue into an SQLite file: one transaction a job, and a job once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO

from gpu_worker_client.protocol import ErrorBody, TaskResult, TrackResult
from gpu_worker_client.protocol.errors import ResultUnreadable
from gpu_worker_client.protocol.foreign import printable
from gpu_worker_client.queue.database import Database, JobRows, VideoId
from gpu_worker_client.queue.results_file import BadRows, boxes_of, read_results

MAX_DATE_CHARS = 40
"""ISO 8601 with fractions and an offset has 35."""


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    job_id: str
    video_id: VideoId
    is_new: bool
    """False: the job was there already, and nothing was written."""
    detections: int = 0
    """Written by this import."""
    bad_rows: int = 0
    """Rows of the file that were no detections, and were left out."""
    problems: tuple[str, ...] = ()
    """The first of them: which row, and what is wrong with it."""


def import_file(database: Database, file: BinaryIO, job_id: str, video_id: VideoId) -> Imported:
    """Writes a results file into the database.

    Raises:
        ResultUnreadable: the file is none, or another job's; nothing was written.
        ConfigError: the database cannot be written.
    """

    def put(rows: JobRows, bad: BadRows) -> dict[str, Any]:
        fields = read_results(file, rows, bad)
        if fields.get("job_id") != job_id:
            raise ValueError("they are another job's")
        return fields

    return _written(database, put, job_id, video_id)


def import_result(
    database: Database, result: TaskResult, job_id: str, video_id: VideoId
) -> Imported:
    """The same of a result that came another way: of a local run, or of an endpoint."""

    def put(rows: JobRows, _: BadRows) -> dict[str, Any]:
        rest = result
        if isinstance(result, TrackResult):
            rows.put_boxes(boxes_of(result, rows))
            rest = result.model_copy(update={"tracks": []})
        return {"result": rest, "completed_at": _now()}

    return _written(database, put, job_id, video_id)


def _written(
    database: Database,
    put: Callable[[JobRows, BadRows], dict[str, Any]],
    job_id: str,
    video_id: VideoId,
) -> Imported:
    bad = BadRows()
    try:
        with database.writing(job_id, video_id, _now()) as rows:
            if rows is None:
                return Imported(job_id, video_id, is_new=False)
            _put_rest(rows, put(rows, bad), bad)
    except ValueError as error:
        message = f"the results of job {job_id} cannot be read: {error}"
        raise ResultUnreadable(ErrorBody(code="result_unreadable", message=message)) from None
    problems = tuple(bad.problems)
    return Imported(job_id, video_id, True, rows.boxes, bad.count, problems)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _put_rest(rows: JobRows, fields: dict[str, Any], bad: BadRows) -> None:
    if rows.repeated:
        bad.count += rows.repeated
        bad.problems.append(f"{rows.repeated} boxes of a track in a frame that has one already")
    result, frames = fields.get("result"), fields.get("frames_processed")
    if isinstance(result, TrackResult):
        frames = result.stats.total_frames
        if result.video is not None:
            rows.put_video(result.video)
    completed_at = fields.get("completed_at")
    if not isinstance(completed_at, str) or len(completed_at) > MAX_DATE_CHARS:
        completed_at = None
    rows.put_job(
        completed_at=None if completed_at is None else printable(completed_at),
        frames_processed=frames if type(frames) is int else None,
        result="".join(result.json_pieces()) if isinstance(result, TaskResult) else None,
        bad_rows=bad.count,
    )
