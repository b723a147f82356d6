"""A queue over the R2 gate, by the SDK and at a shell; the worker is played by hand with a real
lease."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.devserver import GateLimits, LocalPlatform, R2Gate
from gpu_worker_client import (
    ConfigError,
    InvalidTask,
    JobCancelled,
    JobError,
    NotFoundError,
    Queue,
    State,
    Storage,
    StorageError,
    Timing,
    WaitTimeout,
)
from gpu_worker_client.cli.queue_commands import progress_text
from gpu_worker_client.protocol import ErrorBody, Progress, TrackResult
from gpu_worker_client.protocol.errors import ResultUnreadable
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.documents import ResultDocument, StatusDocument
from gpu_worker_client.queue.keys import result_key, status_key
from gpu_worker_client.queue.lease import Lease, Taker
from gpu_worker_client.queue.states import QueueState, WrongState

TRACKS: dict[str, Any] = {
    "task": "track",
    "tracks": [
        {
            "track_id": 1,
            "class": "person",
            "frames": [{"frame": 3, "bbox": [1, 2, 4, 8], "confidence": 0.9}],
        }
    ],
    "video": {"width": 64, "height": 48, "fps": 10.0},
    "stats": {"total_frames": 9, "unique_tracks": 1, "boxes": 1},
}
SECRET = "CANARYsecret0123456789"


async def nobody_waits(_: float) -> None:
    pass


@pytest.fixture
def gate() -> Iterator[R2Gate]:
    with LocalPlatform(gate_limits=GateLimits(write_interval_seconds=0.0)) as platform:
        yield platform.gate


@pytest.fixture
def storage(gate: R2Gate) -> Storage:
    keys = gate.credentials
    return Storage(gate.base_url, gate.bucket, keys.access_key, keys.secret_key, prefix="")


@pytest.fixture
def timing() -> Timing:
    return Timing(sleep=lambda _: None, async_sleep=nobody_waits)


@pytest.fixture
def queue(storage: Storage, timing: Timing) -> Queue:
    return Queue(storage, timing=timing)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "game.MP4"
    path.write_bytes(b"a video")
    return path


class Worker:
    """Works on jobs as the test says."""

    def __init__(self, queue: Queue) -> None:
        self.store = BucketStore(queue.core.storage)
        self.taker = Taker(self.store, Timing(async_sleep=nobody_waits), "worker-1")

    def take(self, job_id: str) -> Lease:
        lease = asyncio.run(self.taker.take(job_id, "nonce"))
        assert isinstance(lease, Lease)
        return lease

    def report(self, job_id: str, done: int, total: int) -> None:
        progress = Progress(seq=1, stage="process", done=done, total=total, unit="frames")
        status = StatusDocument(
            job_id=job_id,
            attempt=1,
            current=done,
            total=total,
            unit="frames",
            progress=progress.model_dump(mode="json"),
        )
        asyncio.run(self.store.put(status_key(job_id), status.to_bytes()))

    def finish(self, lease: Lease, **fields: Any) -> None:
        fields = fields or {"result": TRACKS}
        asyncio.run(lease.commit(ResultDocument(job_id=lease.job_id, **fields)))

    def put_results(self, job_id: str, body: bytes) -> None:
        """What any other program wrote."""
        asyncio.run(self.store.put(result_key(job_id), body))


@pytest.fixture
def worker(queue: Queue) -> Worker:
    return Worker(queue)


def keys_in(queue: Queue) -> set[str]:
    answer = queue.core.storage.call("list_objects_v2")
    return {item["Key"] for item in answer.get("Contents", [])}


def test_from_submit_to_import(queue: Queue, worker: Worker, video: Path, tmp_path: Path) -> None:
    database = tmp_path / "results.sqlite"
    job = queue.submit(video, video_id=1)
    assert job.status().state is State.queued
    assert queue.core.storage.read(f"videos/{job.id}.mp4") == b"a video"
    lease = worker.take(job.id)
    worker.report(job.id, 1200, 108000)
    status = job.status()
    assert (status.state, status.worker_id) == (State.running, "worker-1")
    assert status.progress is not None and status.progress.done == 1200
    assert list(queue.import_all(database)) == []
    with pytest.raises(WrongState, match="processing"):
        queue.import_job(job.id, database)
    worker.finish(lease)
    assert job.wait().state is State.completed
    result = job.result()
    assert isinstance(result, TrackResult) and result.tracks[0].class_name == "person"
    (done,) = queue.import_all(database)
    assert (done.job_id, done.video_id, done.is_new, done.detections) == (job.id, 1, True, 1)
    assert queue.view(job.id).state is QueueState.imported
    assert not queue.import_job(job.id, database).is_new
    assert list(queue.import_all(database)) == []
    assert job.result() == result


def test_a_status_of_another_program(queue: Queue, worker: Worker, video: Path) -> None:
    job = queue.submit(video, video_id="clip")
    worker.take(job.id)
    words = {"current": 1200, "total": 108000, "message": "x", "progress": {"percent": 1}}
    body = json.dumps({"job_id": job.id, "attempt": 1, **words}).encode()
    asyncio.run(worker.store.put(status_key(job.id), body))
    assert (job.status().state, job.status().progress) == (State.running, None)
    assert progress_text(queue.view(job.id)) == "1200/108000 frames"


def test_results_beyond_the_limit_stay_where_they_are(
    queue: Queue, worker: Worker, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.submit(video)
    worker.finish(worker.take(job.id))
    monkeypatch.setattr("gpu_worker_client.queue.async_queue.MAX_READ_BYTES", 100)
    with pytest.raises(StorageError, match="more than 100 bytes"):
        queue.import_job(job.id, tmp_path / "results.sqlite")
    assert queue.view(job.id).state is QueueState.completed


def test_a_job_is_imported_only_when_its_rows_are_on_the_disk(
    queue: Queue, worker: Worker, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import dies between the database and the mark, and is made again."""
    database, job = tmp_path / "results.sqlite", queue.submit(video)
    worker.finish(worker.take(job.id))
    monkeypatch.setattr("gpu_worker_client.queue.jobs.mark_imported", crash)
    with pytest.raises(KeyboardInterrupt):
        queue.import_job(job.id, database)
    assert queue.view(job.id).state is QueueState.completed
    monkeypatch.undo()
    (done,) = queue.import_all(database)
    assert not done.is_new and queue.view(job.id).state is QueueState.imported
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT count(*) FROM detections").fetchall() == [(1,)]


async def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_results_that_cannot_be_read_hold_up_no_other_job(
    queue: Queue, worker: Worker, video: Path, tmp_path: Path
) -> None:
    first, second = queue.submit(video, job_id="a"), queue.submit(video, job_id="b")
    worker.put_results(first.id, b'{"job_id": "a", "status": "completed", "detections": 7}')
    box = {"frame": 0, "track_id": 1, "bbox": [1, 2, 3, 4], "confidence": 0.5}
    foreign = {"job_id": "b", "video_id": 1, "frames_processed": 9, "detections": [box, {}]}
    worker.put_results(second.id, json.dumps(foreign).encode())
    worker.report(first.id, 1, 1)
    status = StatusDocument(job_id="a", final=QueueState.completed)
    asyncio.run(worker.store.put(status_key("a"), status.to_bytes()))
    failed, done = queue.import_all(tmp_path / "results.sqlite")
    assert isinstance(failed, ResultUnreadable)
    assert (done.job_id, done.detections, done.bad_rows) == ("b", 1, 1)
    assert queue.view("a").state is QueueState.completed
    with pytest.raises(JobError):
        second.result()


def test_a_failure_a_retry_and_a_purge(queue: Queue, worker: Worker, video: Path) -> None:
    task = {"task": "track", "input_url": str(video), "params": {"model": "hog"}}
    job = queue.submit(task, video_id="clip")
    error = ErrorBody(code="corrupt_media", message="it is cut off")
    worker.finish(worker.take(job.id), status=QueueState.failed, error=error)
    with pytest.raises(JobError, match="cut off") as caught:
        job.result()
    assert caught.value.job is job
    again = queue.retry(job.id)
    manifest = queue.view(again.id).manifest
    assert (manifest.retry_of, manifest.video_id, manifest.params) == (
        job.id,
        "clip",
        {"model": "hog"},
    )
    assert manifest.inputs == {"input_url": f"videos/{job.id}.mp4"}
    with pytest.raises(WrongState):
        queue.retry(again.id)
    with pytest.raises(ConfigError, match="still needs"):
        queue.purge(job.id)
    with pytest.raises(WrongState):
        queue.purge(again.id)
    worker.finish(worker.take(again.id))
    queue.purge(again.id)
    assert queue.purge(job.id) > 3
    assert keys_in(queue) == {"wake"}
    with pytest.raises(NotFoundError):
        job.status()
    with pytest.raises(NotFoundError):
        queue.purge(job.id)


def test_a_cancel(queue: Queue, worker: Worker, video: Path) -> None:
    job = queue.submit(video)
    lease = worker.take(job.id)
    assert job.cancel().state is State.cancelled
    with pytest.raises(Exception, match="ended by another"):
        worker.finish(lease)
    with pytest.raises(JobCancelled):
        job.result()
    assert job.cancel().state is State.cancelled
    done = queue.submit(video)
    worker.finish(worker.take(done.id))
    assert done.cancel().state is State.completed


def test_waiting_ends_in_time_and_the_job_goes_on(queue: Queue, video: Path) -> None:
    job = queue.submit(video)
    with pytest.raises(WaitTimeout) as caught:
        job.wait(timeout=0)
    assert caught.value.job is job
    assert job.status().state is State.queued


def test_a_task_of_several_files_and_one_that_makes_a_file(
    queue: Queue, worker: Worker, video: Path, tmp_path: Path
) -> None:
    task = {
        "task": "render",
        "inputs": {"a.mp4": str(video), "b.mp4": video.as_uri()},
        "output_url": str(tmp_path / "joined.mkv"),
        "params": {"command_args": ["-i", "a.mp4", "-i", "b.mp4", "joined.mkv"]},
    }
    job = queue.submit(task)
    manifest = queue.view(job.id).manifest
    assert manifest.output == "joined.mkv"
    assert manifest.inputs == {
        "inputs.a.mp4": f"videos/{job.id}/a.mp4",
        "inputs.b.mp4": f"videos/{job.id}/b.mp4",
    }
    assert set(manifest.inputs.values()) < keys_in(queue)
    asyncio.run(worker.store.put("outputs/joined", b"film"))
    lease = worker.take(job.id)
    worker.finish(lease, result={"task": "selftest"}, output_key="outputs/joined")
    assert job.download(tmp_path / "here.mkv").read_bytes() == b"film"


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ({"task": "track", "input_url": "x.mp4", "params": {"model": 7}}, InvalidTask),
        ({"task": "track", "input_url": "https://h/x.mp4"}, ConfigError),
        ("missing.mp4", FileNotFoundError),
    ],
)
def test_nothing_is_queued_for_what_cannot_work(
    queue: Queue, task: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        queue.submit(task)
    assert keys_in(queue) == set()


def test_ids_of_jobs(queue: Queue, video: Path) -> None:
    queue.submit(video, job_id="abc-123")
    with pytest.raises(ConfigError, match="another job"):
        queue.submit(video, job_id="abc-123", video_id=2)
    with pytest.raises(ConfigError, match="letters"):
        queue.submit(video, job_id="../x")
    for call in (queue.job("no").status, queue.job("no").cancel):
        with pytest.raises(NotFoundError, match="no job no"):
            call()


def shell(gate: R2Gate, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("R2_")},
        "R2_ENDPOINT_URL": gate.base_url,
        "R2_BUCKET_NAME": gate.bucket,
        "R2_ACCESS_KEY_ID": gate.credentials.access_key,
        "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
    }
    argv = [sys.executable, "-m", "gpu_worker_client.queue", *words]
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
    assert gate.credentials.secret_key not in done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_at_a_shell(gate: R2Gate, queue: Queue, worker: Worker, video: Path) -> None:
    """`python -m gpu_worker_client.queue`, the words and the table of the design."""

    def run(*words: str, code: int = 0) -> str:
        done = shell(gate, video.parent, *words)
        assert done.returncode == code, done.stderr
        return done.stdout

    first = json.loads(run("submit", video.name, "--video-id", "1", "--sample-interval", "2"))
    second = json.loads(run("submit", "--video-id", "1", "--confidence", "0.25"))
    assert queue.view(first["id"]).manifest.params == {"frame_stride": 2}
    assert queue.view(second["id"]).manifest.params == {"confidence_threshold": 0.25}
    assert queue.view(second["id"]).manifest.video_id == 1
    lease = worker.take(first["id"])
    worker.report(first["id"], 1200, 108000)
    worker.finish(worker.take(second["id"]))
    rows = [line.split(maxsplit=3) for line in run("status").splitlines()]
    assert rows == [
        ["JOB_ID", "VIDEO", "STATUS", "PROGRESS"],
        [first["id"], "1", "processing", "1200/108000 frames"],
        [second["id"], "1", "completed", "ready to import"],
    ]
    (job,) = json.loads(run("status", first["id"], "--json"))["jobs"]
    assert (job["status"], job["progress"]) == ("processing", "1200/108000 frames")
    assert "processing" in run("import", "--job-id", first["id"], code=1)
    outcomes = list(map(json.loads, run("import", "--all").splitlines()))
    assert outcomes[-1] == {"imported": 1, "failed": 0, "detections": 1, "bad_rows": 0}
    assert json.loads(run("import", "--all"))["imported"] == 0
    with closing(sqlite3.connect(video.parent / "results.sqlite")) as db:
        assert db.execute("SELECT video_id, path FROM videos").fetchall() == [(1, str(video))]
    assert json.loads(run("cancel", first["id"]))["state"] == "cancelled"
    with pytest.raises(Exception, match="ended by another"):
        worker.finish(lease)
    assert json.loads(run("watch", first["id"], code=1))["error"]["code"] == "cancelled"
    assert json.loads(run("retry", first["id"]))["retry_of"] == first["id"]
    assert json.loads(run("purge", "--imported"))["jobs"] == 1
    assert "NotFoundError" in run("status", second["id"], code=1)
    assert "--all" in run("import", code=2)
    (video.parent / "task.json").write_text(
        json.dumps({"task": "detect_scenes", "input_url": video.name})
    )
    assert "go with a video" in run("submit", "task.json", "--confidence", "0.5", code=2)
    third = json.loads(run("submit", "task.json"))["id"]
    assert queue.view(third).manifest.task == "detect_scenes"
    assert "submitted before" in run("submit", "--video-id", "2", code=2)
