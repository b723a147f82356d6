"""Results files into SQLite, asked by SQL of its own connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from gpu_worker_client import ConfigError
from gpu_worker_client.protocol import (
    Track,
    TrackCut,
    TrackFrames,
    TrackResult,
    TrackStats,
    TrackVideo,
)
from gpu_worker_client.protocol.boxes import BoxColumns
from gpu_worker_client.protocol.errors import ResultUnreadable
from gpu_worker_client.queue import database as schema
from gpu_worker_client.queue.database import Database
from gpu_worker_client.queue.imports import Imported, import_file

DETECTIONS: dict[str, Any] = {
    "job_id": "abc-123",
    "video_id": 1,
    "completed_at": "2026-01-22T12:30:00Z",
    "frames_processed": 108000,
    "detections": [
        {"frame": 0, "track_id": 1, "bbox": [100, 200, 50, 120], "confidence": 0.92},
        {"frame": 0, "track_id": 2, "bbox": [300, 180, 48, 115], "confidence": 0.88},
    ],
}
BOX = {"frame": 5, "track_id": 1, "bbox": [1.5, 2, 3, 4], "confidence": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path) as database:
        yield database


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def put(database: Database, fields: dict[str, Any], video_id: int | str = 1) -> Imported:
    data = json.dumps(fields).encode()
    return import_file(database, BytesIO(data), fields["job_id"], video_id)


def tracked(**fields: Any) -> dict[str, Any]:
    """A results file of two tracks at 10 frames a second; the second one is 20 px to the right."""
    tracks: list[Track] = []
    for track_id, name in ((1, "person"), (2, "sports ball")):
        boxes = BoxColumns()
        for frame in range(10):
            x = 20.0 * track_id + frame
            boxes.put(frame, (x, 10.0, x + 5.5, 30.0), 0.5 + frame / 100, frame == 9)
        shot = track_id - 1
        tracks.append(
            Track(track_id=track_id, class_name=name, shot=shot, frames=TrackFrames(boxes))
        )
    result = TrackResult(
        tracks=tracks,
        cuts=[TrackCut(frame=5, time=0.5)],
        video=TrackVideo(**{"width": 640, "height": 360, "fps": 10.0, "duration": 1.0, **fields}),
        stats=TrackStats(total_frames=10, unique_tracks=2, boxes=20),
    )
    wire = result.packed().model_dump(mode="json", exclude_none=True)
    return {"job_id": "j2", "video_id": "clip", "completed_at": "2026", "result": wire}


def test_the_form_of_detections(database: Database, path: Path) -> None:
    assert put(database, DETECTIONS) == Imported("abc-123", 1, True, detections=2)
    rows = "SELECT track_id, frame, x, y, width, height, confidence, seconds FROM detections"
    assert ask(path, rows) == [
        (1, 0, 100, 200, 50, 120, 0.92, None),
        (2, 0, 300, 180, 48, 115, 0.88, None),
    ]
    jobs = "SELECT job_id, video_id, completed_at, frames_processed, bad_rows FROM jobs"
    assert ask(path, jobs) == [("abc-123", 1, "2026-01-22T12:30:00Z", 108000, 0)]


def test_columns_of_tracks(database: Database, path: Path) -> None:
    assert put(database, tracked(), "clip").detections == 20
    boxes = (
        "SELECT class, shot, frame, x, y, width, height, confidence, interpolated FROM detections"
        " JOIN tracks USING (job, track_id) JOIN jobs ON jobs.id = job WHERE video_id = 'clip' AND"
        " seconds BETWEEN 0.85 AND 0.95"
    )
    assert ask(path, boxes) == [
        ("person", 0, 9, 29.0, 10.0, 5.5, 20.0, 0.59, 1),
        ("sports ball", 1, 9, 49.0, 10.0, 5.5, 20.0, 0.59, 1),
    ]
    assert ask(path, "SELECT * FROM videos") == [("clip", None, 640, 360, 10.0, 1.0)]
    ((frames, result),) = ask(path, "SELECT frames_processed, result FROM jobs")
    assert frames == 10
    assert json.loads(result)["cuts"] == [{"frame": 5, "time": 0.5}]
    assert json.loads(result)["tracks"] == []


def test_times_of_unevenly_spaced_frames(database: Database, path: Path) -> None:
    put(database, tracked(is_vfr=True, times=[(0, 0.0), (5, 1.0), (9, 9.0)]))
    assert ask(path, "SELECT seconds FROM detections WHERE track_id = 1 AND frame IN (4, 7)") == [
        (0.8,),
        (5.0,),
    ]


def test_a_result_of_another_task(database: Database, path: Path) -> None:
    scenes = [{"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9}]
    stats = {"total_scenes": 1, "avg_scene_length": 1.0}
    result = {"task": "detect_scenes", "scenes": scenes, "stats": stats}
    assert put(database, {"job_id": "s", "result": result}).detections == 0
    ((text,),) = ask(path, "SELECT result FROM jobs")
    assert json.loads(text)["scenes"] == scenes


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(7, id="no object"),
        pytest.param({**BOX, "frame": -1}, id="negative frame"),
        pytest.param({**BOX, "frame": 2**30}, id="frame beyond the limit"),
        pytest.param({**BOX, "frame": True}, id="frame is a flag"),
        pytest.param({**BOX, "frame": 1.0}, id="frame is no integer"),
        pytest.param({**BOX, "track_id": None}, id="no track"),
        pytest.param({**BOX, "track_id": 2**31}, id="track beyond the limit"),
        pytest.param({**BOX, "bbox": [1, 2, 3]}, id="three numbers"),
        pytest.param({**BOX, "bbox": [1, 2, 0, 4]}, id="no width"),
        pytest.param({**BOX, "bbox": [1, 2, 3, -4]}, id="negative height"),
        pytest.param({**BOX, "bbox": [1e7, 2, 3, 4]}, id="coordinate beyond the limit"),
        pytest.param({**BOX, "bbox": [float("nan"), 2, 3, 4]}, id="NaN"),
        pytest.param({**BOX, "bbox": [1, 2, float("inf"), 4]}, id="Infinity"),
        pytest.param({**BOX, "confidence": "0.9"}, id="confidence is text"),
        pytest.param({**BOX, "confidence": 1.1}, id="confidence above 1"),
        pytest.param(BOX, id="repeated"),
    ],
)
def test_a_bad_row_is_counted_and_the_others_are_written(
    database: Database, path: Path, bad: Any
) -> None:
    done = put(database, {**DETECTIONS, "detections": [BOX, bad, {**BOX, "frame": 6}]})
    assert (done.detections, done.bad_rows, len(done.problems)) == (2, 1, 1)
    assert ask(path, "SELECT frame FROM detections") == [(5,), (6,)]
    assert ask(path, "SELECT bad_rows FROM jobs") == [(1,)]


def test_a_few_bad_rows_are_named_and_all_counted(database: Database) -> None:
    done = put(database, {**DETECTIONS, "detections": [BOX, *[None] * 100]})
    assert (done.detections, done.bad_rows) == (1, 100)
    assert done.problems[0] == "detections[1]: no object" and len(done.problems) == 5


def test_again_writes_nothing(database: Database, path: Path) -> None:
    put(database, DETECTIONS)
    before = ask(path, "SELECT * FROM jobs JOIN detections ON jobs.id = job")
    assert put(database, DETECTIONS) == Imported("abc-123", 1, is_new=False)
    assert ask(path, "SELECT * FROM jobs JOIN detections ON jobs.id = job") == before


@pytest.mark.parametrize("fields", [DETECTIONS, tracked()], ids=["detections", "columns"])
def test_half_a_file_leaves_nothing(database: Database, path: Path, fields: dict[str, Any]) -> None:
    data = json.dumps(fields).encode()
    for end in range(0, len(data), 7):
        with pytest.raises(ResultUnreadable):
            import_file(database, BytesIO(data[:end]), fields["job_id"], 1)
    for table in ("videos", "jobs", "tracks", "detections"):
        assert ask(path, f"SELECT * FROM {table}") == []
    assert put(database, fields).is_new


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"job_id": "another"}, id="another job's"),
        pytest.param({"result": {"task": "track", "stats": 1}}, id="no result"),
        pytest.param({"result": 1}, id="result is a number"),
        pytest.param({"detections": {}}, id="detections are no list"),
        pytest.param({"frames_processed": 2**80}, id="number beyond SQLite's"),
        pytest.param(
            {"result": {**tracked()["result"], "tracks_columnar": "AAAA"}}, id="broken columns"
        ),
    ],
)
def test_what_is_no_results_file(database: Database, path: Path, change: dict[str, Any]) -> None:
    data = json.dumps({**DETECTIONS, **change}).encode()
    with pytest.raises(ResultUnreadable, match="abc-123|TrackResult"):
        import_file(database, BytesIO(data), "abc-123", 1)
    assert ask(path, "SELECT count(*) FROM detections") == [(0,)]


def test_a_track_that_stands_twice(database: Database) -> None:
    one = {"track_id": 1, "class": "person", "frames": []}
    result = {**tracked()["result"], "tracks_columnar": None, "tracks": [one, one]}
    with pytest.raises(ResultUnreadable, match="twice"):
        put(database, {"job_id": "j", "result": result})


OF_VIDEO = "SELECT * FROM jobs JOIN {} ON job = jobs.id WHERE video_id = 1"
OF_JOB = "SELECT * FROM jobs JOIN detections ON job = jobs.id WHERE job_id = 'a'"


@pytest.mark.parametrize(
    ("query", "found_by"),
    [
        (f"{OF_VIDEO} AND seconds BETWEEN 9 AND 12", "(job=? AND seconds>? AND seconds<?)"),
        (f"{OF_VIDEO} AND frame BETWEEN 300 AND 360", "(job=? AND frame>? AND frame<?)"),
        (OF_VIDEO.format("tracks"), "(job=?)"),
        (f"{OF_JOB} AND track_id = 7 ORDER BY frame", "(job=? AND track_id=?)"),
    ],
)
def test_an_editors_queries_scan_no_table(
    database: Database, path: Path, query: str, found_by: str
) -> None:
    plan = ask(path, f"EXPLAIN QUERY PLAN {query.format('detections')}")
    steps = [step for *_, step in plan]
    assert len(steps) == 2 and all(step.startswith("SEARCH") for step in steps), steps
    assert steps[1].endswith(found_by)


def test_a_deleted_job_takes_its_boxes_along(database: Database, path: Path) -> None:
    put(database, DETECTIONS)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM jobs")
    assert ask(path, "SELECT * FROM detections") == ask(path, "SELECT * FROM tracks") == []


def test_a_reader_sees_all_of_a_job_or_none_of_it(database: Database, path: Path) -> None:
    with database.writing("a", 1, "now") as rows:
        assert rows is not None
        rows.put_track(1, None, None)
        assert ask(path, "SELECT * FROM jobs") == ask(path, "SELECT * FROM tracks") == []
    assert len(ask(path, "SELECT * FROM tracks")) == 1


def test_an_older_file_is_brought_to_this_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database(path) as database:
        put(database, DETECTIONS)
    further = (*schema.MIGRATIONS, "ALTER TABLE jobs ADD COLUMN note TEXT DEFAULT 'x'")
    monkeypatch.setattr(schema, "MIGRATIONS", further)
    for _ in range(2):
        Database(path).close()
    assert ask(path, "SELECT job_id, note FROM jobs") == [("abc-123", "x")]
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="newer version"):
        Database(path)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE videos (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program's"):
        Database(path)
    assert path.read_bytes() == before
    path.write_bytes(b"no database at all, and longer than a header of SQLite" * 99)
    with pytest.raises(ConfigError, match="cannot be opened"):
        Database(path)
