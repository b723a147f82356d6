"""A million detections: what their file weighs, and what it costs to import them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_worker_client.protocol import Track, TrackFrames, TrackResult, TrackStats, TrackVideo
from gpu_worker_client.protocol.boxes import BoxColumns

pytestmark = pytest.mark.slow
PEOPLE, FRAMES, TRACK_FRAMES = 10, 100_000, 300
MAX_COLUMNS_BYTES = 8_000_000
MAX_CPU_SECONDS, MAX_RSS_BYTES = 60, 300e6
IMPORT = """
import sys, time
from pathlib import Path
from gpu_worker_client.queue.database import Database
from gpu_worker_client.queue.imports import import_file
with Database(sys.argv[1]) as database, open(sys.argv[2], "rb") as file:
    done = import_file(database, file, "j", 1)
    again = import_file(database, file, "j", 1)
print(done.detections, done.bad_rows, again.is_new, time.process_time())
# Not `ru_maxrss`: that one counts what the parent held when it forked.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    """People who walk about with changes of speed, seen with 1 px of noise, ten at a time."""
    chance = random.Random(1)
    noise = [chance.gauss(0, 1) for _ in range(99_991)]
    made: list[Track] = []
    for first in range(0, FRAMES, TRACK_FRAMES):
        for _ in range(PEOPLE):
            boxes = BoxColumns()
            x, y = chance.uniform(0, 1200), chance.uniform(0, 600)
            width, height = chance.uniform(40, 60), chance.uniform(100, 130)
            step_x = step_y = 0.0
            for frame in range(first, min(first + TRACK_FRAMES, FRAMES)):
                at = (frame * 7 + len(made) * 13) % (len(noise) - 7)
                step_x, step_y = 0.95 * step_x + 0.3 * noise[at], 0.95 * step_y + noise[at + 1] / 5
                x, y = x + step_x, y + step_y
                left, top, right, bottom, sure = noise[at + 2 : at + 7]
                corners = (x + left, y + top, x + width + right, y + height + bottom)
                boxes.put(frame, corners, min(1.0, max(0.0, 0.8 + sure / 20)))
            frames = TrackFrames(boxes)
            made.append(Track(track_id=len(made) + 1, class_name="person", shot=0, frames=frames))
    return made


def imported(path: Path) -> tuple[float, int]:
    """CPU seconds and the largest resident size of an import in a process of its own."""
    argv = [sys.executable, "-c", IMPORT, str(path.with_suffix(".sqlite")), str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=True)
    detections, bad_rows, is_new, cpu_seconds, rss_kib = done.stdout.split()
    assert (detections, bad_rows, is_new) == (str(PEOPLE * FRAMES), "0", "False")
    return float(cpu_seconds), 1024 * int(rss_kib)


def test_columns(tracks: list[Track], tmp_path: Path) -> None:
    result = TrackResult(
        tracks=tracks,
        video=TrackVideo(width=1280, height=720, fps=30.0),
        stats=TrackStats(total_frames=FRAMES, unique_tracks=len(tracks), boxes=PEOPLE * FRAMES),
    )
    path = tmp_path / "columns.json"
    wire = result.packed().model_dump(mode="json", exclude_none=True)
    path.write_text(json.dumps({"job_id": "j", "result": wire}))
    assert path.stat().st_size < MAX_COLUMNS_BYTES
    cpu_seconds, rss_bytes = imported(path)
    assert cpu_seconds < MAX_CPU_SECONDS
    assert rss_bytes < MAX_RSS_BYTES


def test_detections(tracks: list[Track], tmp_path: Path) -> None:
    """Frame after frame, as a tracker that writes them as they come."""
    path = tmp_path / "detections.json"
    rows = [track.frames.columns.rows() for track in tracks]
    with path.open("w") as file:
        file.write(f'{{"job_id": "j", "frames_processed": {FRAMES}, "detections": [')
        mark = ""
        for group in range(0, len(tracks), PEOPLE):
            for boxes in zip(*rows[group : group + PEOPLE], strict=True):
                for track, (frame, (x1, y1, x2, y2), confidence, _) in enumerate(boxes, group + 1):
                    bbox = f"[{x1}, {y1}, {x2 - x1:.1f}, {y2 - y1:.1f}]"
                    file.write(
                        f'{mark}{{"frame": {frame}, "track_id": {track}, "bbox": {bbox},'
                        f' "confidence": {confidence}}}'
                    )
                    mark = ", "
        file.write("]}")
    cpu_seconds, rss_bytes = imported(path)
    assert cpu_seconds < MAX_CPU_SECONDS
    assert rss_bytes < MAX_RSS_BYTES
