"""Jobs through the bucket: submitted into the gate, worked on by a real `gpu-worker pull` process,
published. The process knows the bucket by its environment and nothing of this test."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from support import clips
from support.toy_worker import storage_of

import gpu_worker
from gpu_worker.devserver import LocalPlatform
from gpu_worker_client import Timing
from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.documents import (
    LeaseDocument,
    Manifest,
    ResultDocument,
    StatusDocument,
)
from gpu_worker_client.queue.states import QueueState

HANDLER = Path(gpu_worker.__file__).parents[1] / "handler.py"
DEADLINE_SECONDS = 180


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    with LocalPlatform() as platform:
        yield platform


def environment(platform: LocalPlatform, tmp_path: Path) -> dict[str, str]:
    gate = platform.gate
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GPU_WORKER_WORK_ROOT": str(tmp_path / "work"),
        "R2_ENDPOINT_URL": gate.base_url,
        "R2_BUCKET_NAME": gate.bucket,
        "R2_ACCESS_KEY_ID": gate.credentials.access_key,
        "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
    }


def submit(platform: LocalPlatform, video: Path, *manifests: Manifest) -> None:
    store = BucketStore(storage_of(platform, prefix="queue"))
    for manifest in manifests:
        for key in manifest.inputs.values():
            platform.gate.put(f"queue/{key}", video)
        asyncio.run(jobs.submit(store, manifest, Timing()))


def result(platform: LocalPlatform, job_id: str) -> ResultDocument:
    found = ResultDocument.read(platform.gate.read(f"queue/results/{job_id}.json"))
    assert found is not None
    return found


def test_jobs_of_a_bucket_are_done(platform: LocalPlatform, tmp_path: Path) -> None:
    film = clips.make(
        tmp_path / "film.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )
    submit(
        platform,
        film,
        Manifest(job_id="1-scenes", video_id=7, task="detect_scenes"),
        Manifest(
            job_id="2-track", parameters={"model": "hog", "sample_interval": 25}, output="drawn.mp4"
        ),
        Manifest(job_id="3-wrong", task="detect_scenes", parameters={"threshold": "high"}),
    )
    argv = [sys.executable, "-m", "gpu_worker.cli", "pull", "--prefix", "queue"]
    done = subprocess.run(
        [*argv, "--idle-exit", "0.1", "--poll-seconds", "0.1"],
        env=environment(platform, tmp_path),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 1, done.stderr  # one job failed
    scenes = result(platform, "1-scenes")
    assert scenes.result is not None and scenes.video_id == 7
    assert [scene["start_frame"] for scene in scenes.result["scenes"]] == [0, 25]
    tracked = result(platform, "2-track")
    assert (tracked.frames_processed, tracked.status) == (50, QueueState.completed)
    drawn = platform.gate.read(f"queue/{tracked.output_key}")
    assert drawn is not None
    with av.open(io.BytesIO(drawn)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50
    wrong = result(platform, "3-wrong")
    assert wrong.error is not None and wrong.error.code == "invalid_task"
    status = StatusDocument.read(platform.gate.read("queue/status/2-track.json"))
    keys = platform.gate.keys()
    assert status is not None and status.final is QueueState.completed
    assert not any(key.startswith("queue/open/") for key in keys)
    assert not list((tmp_path / "work").rglob("job-*"))
    secret = platform.gate.credentials.secret_key
    assert secret not in done.stderr + done.stdout
    assert "X-Amz-Signature" not in json.dumps(scenes.result)


@pytest.mark.slow
def test_sigterm_gives_the_job_back(platform: LocalPlatform, tmp_path: Path) -> None:
    video = clips.make(tmp_path / "long.mp4", clips.Clip(width=320, height=240, frames=2000))
    submit(platform, video, Manifest(job_id="long", parameters={"model": "hog"}))
    argv = [sys.executable, "-m", "gpu_worker.cli", "pull", "--prefix", "queue"]
    worker = subprocess.Popen(argv, env=environment(platform, tmp_path))
    try:
        end = time.monotonic() + DEADLINE_SECONDS
        while b'"message":"process"' not in (platform.gate.read("queue/status/long.json") or b""):
            assert time.monotonic() < end and worker.poll() is None
            time.sleep(0.1)
        worker.terminate()
        assert worker.wait(DEADLINE_SECONDS) == 0
    finally:
        worker.kill()
        worker.wait()
    lease = LeaseDocument.read(platform.gate.read("queue/leases/long.json"))
    assert lease is not None and lease.released and lease.tries == 0
    assert platform.gate.read("queue/results/long.json") is None
    assert not list((tmp_path / "work").rglob("job-*"))


@pytest.mark.slow
def test_nothing_to_do_says_so(platform: LocalPlatform, tmp_path: Path) -> None:
    argv = [sys.executable, "-u", str(HANDLER), "--once"]
    done = subprocess.run(
        argv,
        env=environment(platform, tmp_path) | {"WORKER_MODE": "cloud"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 3, done.stderr
