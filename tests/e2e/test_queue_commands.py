"""The whole way of a job through a bucket, with real people in the video: `gpu-client queue` here,
a `gpu-worker pull` process there, between them nothing but the R2 gate."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gpu_worker.devserver import LocalPlatform

DEADLINE_SECONDS = 280
FRAMES = 270


@pytest.mark.slow
def test_basketball_from_submit_to_sql(media: Path, weights_dir: Path, tmp_path: Path) -> None:
    video = media / "tracking" / "basketball_720p24.mp4"
    with LocalPlatform() as platform:
        gate = platform.gate
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "WEIGHTS_DIR": str(weights_dir),
            "GPU_WORKER_WORK_ROOT": str(tmp_path / "work"),
            "R2_ENDPOINT_URL": gate.base_url,
            "R2_BUCKET_NAME": gate.bucket,
            "R2_ACCESS_KEY_ID": gate.credentials.access_key,
            "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
        }

        def run(module: str, *words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", module, *words],
                env=env,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
            )
            assert done.returncode == 0, done.stderr
            assert gate.credentials.secret_key not in done.stdout + done.stderr
            return done.stdout

        def queue(*words: str) -> str:
            return run("gpu_worker_client.cli", "queue", *words)

        words = ("--video-id", "1", "--sample-interval", "9")
        job_id = json.loads(queue("submit", str(video), *words))["id"]
        assert queue("status").split()[-3:] == [job_id, "1", "pending"]
        run("gpu_worker.cli", "pull", "--once")
        assert queue("status").split()[-6:] == [job_id, "1", "completed", "ready", "to", "import"]
        counts = json.loads(queue("import", "--all").splitlines()[-1])
        assert queue("status").split()[-3:] == [job_id, "1", "imported"]
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as db:
        frames = db.execute(
            "SELECT frame, count(*), min(seconds) FROM jobs JOIN detections ON job = jobs.id"
            " JOIN tracks USING (job, track_id) WHERE video_id = 1 AND class = 'person'"
            " AND seconds BETWEEN 2 AND 8 GROUP BY frame ORDER BY frame"
        ).fetchall()
        total = db.execute("SELECT count(*), max(frame) FROM detections").fetchone()
        stored = db.execute("SELECT frames_processed FROM jobs").fetchone()
    # Two players, in a video of 24 frames a second of which every ninth was searched.
    assert [frame for frame, _, _ in frames] == list(range(54, 193, 9))
    assert all(1 <= people <= 3 for _, people, _ in frames)
    assert sum(people == 2 for _, people, _ in frames) > len(frames) / 2
    assert all(abs(seconds - frame / 24) < 1 / 48 for frame, _, seconds in frames)
    assert counts["detections"] == total[0] and total[1] < FRAMES == stored[0]
