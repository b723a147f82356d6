"""The queue in the demo: the video submitted to the bucket, a `gpu-worker pull` that knows nothing
but the bucket, the results in SQLite, and what a query says of them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from html import escape
from pathlib import Path

from gpu_worker.demo import track_panel
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker_client import GpuWorkerError, Queue
from gpu_worker_client.protocol import TaskResult, TrackResult

PREFIX = "queue"
DATABASE = "results.sqlite"
FRAME_STRIDE = 8
QUERY = (
    "SELECT CAST(seconds AS INTEGER) AS second, class, count(DISTINCT track_id)\n"
    "  FROM detections JOIN tracks USING (job, track_id)\n"
    " GROUP BY second, class ORDER BY second, class LIMIT 20"
)
_ERROR_CHARS = 500


def run(desk: Desk, folder: Path, say: Callable[[str], None]) -> TaskResult:
    (folder / DATABASE).unlink(missing_ok=True)
    env = {**os.environ, **desk.bucket}
    queue = Queue(env=env, prefix=PREFIX)
    say("submitting to the bucket")
    request = track_panel.request(desk)
    params = {**request["params"], "frame_stride": FRAME_STRIDE}
    task = {"task": "track", "input_url": str(desk.video.path), "params": params}
    job = queue.submit(task, video_id=1)
    say("a worker pulls")
    argv = [sys.executable, "-m", "gpu_worker.cli", "pull", "--prefix", PREFIX, "--once"]
    pulled = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if pulled.returncode:
        raise GpuWorkerError(f"gpu-worker pull: {pulled.stderr[-_ERROR_CHARS:]}")
    say("importing")
    queue.import_job(job.id, folder / DATABASE)
    return job.result()


def estimate_seconds(video: Video) -> float:
    return 5 + track_panel.estimate_seconds(video) / FRAME_STRIDE


def summary(result: TrackResult) -> str:
    return f"submitted, pulled, imported: {result.stats.boxes} detections in {DATABASE}"


def html(_result: TrackResult, _video: Video, folder: Path) -> str:
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        found = db.execute(QUERY).fetchall()
    rows = "".join(
        f"<tr><td>{second}<td>{escape(str(name))}<td>{count}</tr>" for second, name, count in found
    )
    table = f"<table><tr><th>second<th>class<th>tracks</tr>{rows}</table>"
    return f"<pre>{escape(QUERY)}</pre>{table}<p><code>{DATABASE}</code> lies beside this file.</p>"


PANEL = Panel("queue", track_panel.request, summary, html, estimate_seconds, run=run)
