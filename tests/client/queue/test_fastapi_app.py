"""examples/fastapi_app under a real server over the R2 gate: the queue's worker is played by hand
with a real lease, the local one is this machine's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support import clips
from support.paths import ROOT
from support.scripted_server import unused_port
from urllib3.util import Retry

from gpu_worker.devserver import GateLimits, LocalPlatform, R2Gate
from gpu_worker_client import Storage, Timing
from gpu_worker_client.protocol import Progress
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.documents import ResultDocument, StatusDocument
from gpu_worker_client.queue.keys import status_key
from gpu_worker_client.queue.lease import Lease, Taker

TRACKS: dict[str, Any] = {
    "task": "track",
    "tracks": [
        {
            "track_id": 1,
            "class": "person",
            "frames": [
                {"frame": frame, "bbox": [frame, 2, frame + 4, 8], "confidence": 0.9}
                for frame in range(20)
            ],
        }
    ],
    "video": {"width": 64, "height": 48, "fps": 10.0},
    "stats": {"total_frames": 20, "unique_tracks": 1, "boxes": 20},
}


@pytest.fixture
def gate() -> Iterator[R2Gate]:
    with LocalPlatform(gate_limits=GateLimits(write_interval_seconds=0.0)) as platform:
        yield platform.gate


@pytest.fixture
def http(gate: R2Gate, tmp_path: Path) -> Iterator[requests.Session]:
    """To the application, with video 1; its secrets must be in no log."""
    (tmp_path / "videos").mkdir()
    clip = clips.Clip(frames=10)
    clips.make(tmp_path / "videos/1.mp4", clip, clips.flat((255, 0, 0), every=10))
    port = unused_port()
    env = {
        **os.environ,
        "R2_ENDPOINT_URL": gate.base_url,
        "R2_BUCKET_NAME": gate.bucket,
        "R2_ACCESS_KEY_ID": gate.credentials.access_key,
        "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
        "VIDEOS": str(tmp_path / "videos"),
        "DATABASE": str(tmp_path / "results.sqlite"),
        "TRACK_MODEL": "hog",
        "POLL_SECONDS": "0.2",
        "PYTHONPATH": "",
    }
    argv = ["-m", "uvicorn", "--app-dir", str(ROOT / "examples/fastapi_app"), "app:app"]
    running = subprocess.Popen(
        [sys.executable, *argv, "--port", str(port)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with running, _Session(f"http://127.0.0.1:{port}") as session:
        try:
            yield session
        finally:
            running.terminate()
            log, _ = running.communicate(timeout=30)
    assert gate.credentials.secret_key not in log
    assert "Traceback" not in log, log


class _Session(requests.Session):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        retry = Retry(connect=30, backoff_factor=0.1)  # until it listens
        self.mount("http://", HTTPAdapter(max_retries=retry))

    def request(self, method: str, url: str, *args: Any, **keywords: Any) -> requests.Response:  # type: ignore[override]
        return super().request(method, self._url + url, *args, **{"timeout": 60} | keywords)


def messages(http: requests.Session, job_id: str) -> Iterator[dict[str, Any]]:
    with http.get(f"/api/jobs/{job_id}/events", stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if line:
                yield json.loads(line.removeprefix("data: "))


@pytest.mark.slow
def test_detected_in_the_cloud(http: requests.Session, gate: R2Gate, tmp_path: Path) -> None:
    assert http.post("/api/videos/9/detect?target=cloud").status_code == 404
    assert http.get("/api/jobs/none/events").status_code == 404
    job_id = http.post("/api/videos/1/detect?target=cloud&sample_interval=2").json()["job_id"]
    assert http.get("/api/jobs").json() == [
        {"job_id": job_id, "video_id": 1, "target": "cloud", "state": "queued"}
    ]
    keys = gate.credentials
    storage = Storage(gate.base_url, gate.bucket, keys.access_key, keys.secret_key, prefix="")
    store = BucketStore(storage)
    video = (tmp_path / "videos/1.mp4").read_bytes()
    assert storage.read(f"videos/{job_id}.mp4") == video
    seen = messages(http, job_id)
    assert next(seen)["state"] == "queued"
    lease = asyncio.run(Taker(store, Timing(), "worker-1").take(job_id, "nonce"))
    assert isinstance(lease, Lease)
    progress = Progress(seq=1, stage="process", done=1200, total=108000, unit="frames")
    status = StatusDocument(job_id=job_id, attempt=1, progress=progress.model_dump(mode="json"))
    asyncio.run(store.put(status_key(job_id), status.to_bytes()))
    reports = (one for one in seen if one["progress"] is not None)
    assert next(reports)["progress"]["done"] == 1200
    assert http.post("/api/import").json() == []
    asyncio.run(lease.commit(ResultDocument(job_id=job_id, result=TRACKS)))
    assert [one["state"] for one in seen][-1] == "completed"
    (done,) = http.post("/api/import").json()
    assert (done["job_id"], done["detections"], done["bad_rows"]) == (job_id, 20, 0)
    assert http.get("/api/jobs").json()[0]["state"] == "imported"
    boxes = http.get("/api/videos/1/detections?start=0.95&end=1.15").json()
    assert [(box["frame"], box["x"], box["width"]) for box in boxes] == [(10, 10, 4), (11, 11, 4)]


@pytest.mark.slow
def test_detected_on_this_machine(http: requests.Session, gate: R2Gate) -> None:
    """A red video with nobody in it: no detections is a result, too."""
    job_id = http.post("/api/videos/1/detect?target=local&sample_interval=5").json()["job_id"]
    assert [one["state"] for one in messages(http, job_id)][-1] == "imported"
    (job,) = http.get("/api/jobs").json()
    assert job == {"job_id": job_id, "video_id": 1, "target": "local", "state": "imported"}
    assert http.get("/api/videos/1/detections?start=0&end=9").json() == []
    assert gate.keys() == []
