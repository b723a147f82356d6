"""A video library whose videos are tracked on a rented GPU or on this machine, and whose
detections end up in SQLite.

    export R2_ACCOUNT_ID=... R2_BUCKET_NAME=... R2_ACCESS_KEY_ID=... R2_SECRET_ACCESS_KEY=...
    export VIDEOS=videos DATABASE=results.sqlite
    uvicorn --app-dir examples/fastapi_app app:app

    POST /api/videos/1/detect?target=cloud      videos/1.mp4 goes into the queue
    POST /api/videos/1/detect?target=local      it is tracked here, and imported at once
    GET  /api/jobs                              where they are
    GET  /api/jobs/ID/events                    the same as server-sent events, until its end
    POST /api/import                            results of the queue into the database
    GET  /api/videos/1/detections?start=10&end=12

Any machine with a GPU works on the queue: `gpu-worker pull`, with the same `R2_*`. Needs `fastapi`,
`uvicorn` and the extra `storage` of the SDK; for `target=local` the worker's packages as well.
"""

import asyncio
import json
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from gpu_worker_client import (
    AsyncQueue,
    GpuWorkerError,
    Imported,
    JobStatus,
    NotFoundError,
    ProgressEvent,
    TrackJob,
)
from gpu_worker_client.protocol import Progress, State, TrackResult
from gpu_worker_client.queue.database import Database
from gpu_worker_client.queue.imports import import_result

VIDEOS = Path(os.environ.get("VIDEOS", "videos"))
DATABASE = Path(os.environ.get("DATABASE", "results.sqlite"))
MODEL = os.environ.get("TRACK_MODEL", "yolov8n")
LOCAL_POLL_SECONDS = 0.5


@dataclass
class LocalJob:
    """A job on this machine. A real application keeps it in its database."""

    video_id: int
    status: JobStatus
    task: asyncio.Task[None] | None = None
    """Held here, or the event loop might drop it."""


app, queue = FastAPI(), AsyncQueue(poll_seconds=float(os.environ.get("POLL_SECONDS", "10")))
local: dict[str, LocalJob] = {}


@app.post("/api/videos/{video_id}/detect", status_code=202)
async def detect(
    video_id: int, target: Literal["cloud", "local"] = "local", sample_interval: int = 1
) -> dict[str, str]:
    path = VIDEOS / f"{video_id}.mp4"
    if not path.is_file():
        raise HTTPException(404, "no such video")
    params = {"model": MODEL, "frame_stride": sample_interval}
    if target == "cloud":
        task = {"task": "track", "input_url": str(path), "params": params}
        return {"job_id": (await queue.submit(task, video_id=video_id)).id}
    job_id = f"local-{uuid.uuid4().hex}"
    local[job_id] = job = LocalJob(video_id, JobStatus(job_id, State.running))
    job.task = asyncio.create_task(detect_here(job_id, job, path, params))
    return {"job_id": job_id}


async def detect_here(job_id: str, job: LocalJob, path: Path, params: dict[str, Any]) -> None:
    async def notice(event: object) -> None:
        if isinstance(event, ProgressEvent):
            job.status = JobStatus(job_id, State.running, progress=event.progress)

    report = DATABASE.with_name(f"{job_id}.json")
    done = await TrackJob(path, report, mode="local", **params).executed(notice)
    try:
        if not done:
            raise GpuWorkerError(done.error)
        await asyncio.to_thread(store, report, job_id, job.video_id)
        job.status = JobStatus(job_id, State.imported)
    except (GpuWorkerError, OSError) as error:
        job.status = JobStatus(job_id, State.failed, error=str(error))


def store(report: Path, job_id: str, video_id: int) -> None:
    with Database(DATABASE) as database:
        import_result(database, TrackResult.from_json(report.read_bytes()), job_id, video_id)
    report.unlink()


@app.get("/api/jobs")
async def jobs() -> list[dict[str, Any]]:
    here = [row(job_id, job.video_id, "local", job.status.state) for job_id, job in local.items()]
    async for view in queue.jobs():
        here.append(row(view.job_id, view.manifest.video_id, "cloud", view.state.state))
    return here


def row(job_id: str, video_id: object, target: str, state: State) -> dict[str, Any]:
    return {"job_id": job_id, "video_id": video_id, "target": target, "state": state.value}


@app.get("/api/jobs/{job_id}/events")
async def events(job_id: str) -> StreamingResponse:
    if job_id not in local:
        try:
            await queue.view(job_id)
        except NotFoundError:
            raise HTTPException(404, "no such job") from None
    return StreamingResponse(stream(job_id), media_type="text/event-stream")


async def stream(job_id: str) -> AsyncIterator[str]:
    if job_id in local:
        while not local[job_id].status.state.is_final:
            yield message(local[job_id].status)
            await asyncio.sleep(LOCAL_POLL_SECONDS)
        yield message(local[job_id].status)
        return
    async for event in queue.job(job_id).events():
        if isinstance(event, ProgressEvent):
            yield message(JobStatus(job_id, State.running, progress=event.progress))
        else:
            yield message(event.status)


def message(status: JobStatus) -> str:
    progress: Progress | None = status.progress
    data: dict[str, Any] = {"state": status.state.value, "error": status.error}
    data |= {"progress": None if progress is None else progress.model_dump(mode="json")}
    return f"data: {json.dumps(data)}\n\n"


@app.post("/api/import")
async def import_results() -> list[dict[str, Any]]:
    return [
        asdict(done) if isinstance(done, Imported) else {"error": str(done)}
        async for done in queue.import_all(DATABASE)
    ]


@app.get("/api/videos/{video_id}/detections")
def detections(video_id: int, start: float, end: float) -> list[dict[str, Any]]:
    """What is in the frames of a range of time, in seconds."""
    query = (
        "SELECT job_id, class, track_id, frame, x, y, detections.width, detections.height,"
        " confidence FROM jobs JOIN detections ON job = jobs.id JOIN tracks USING (job, track_id)"
        " WHERE video_id = ? AND seconds BETWEEN ? AND ?"
    )
    with closing(sqlite3.connect(DATABASE)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query, (video_id, start, end))]
