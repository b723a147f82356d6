"""Results of the queue in one SQLite file, for an editor's queries: frames of a video in a range of
time, tracks of a video, detections of a track.

A job's results are written in one transaction: all of them are there, or none. A job that is there
stays as it is. The file is this module's own; one that another program made is refused. Readers
are not held up by a writer (WAL); foreign keys hold, and deleting a job deletes its boxes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.protocol import TrackVideo
from gpu_worker_client.queue.results_file import Box

MIGRATIONS = (
    """
CREATE TABLE videos (
    video_id NOT NULL PRIMARY KEY, -- as the job had it, a number or a text
    path TEXT, -- where the video was when it was submitted from here
    width INTEGER,
    height INTEGER,
    fps REAL,
    duration REAL -- seconds
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    video_id NOT NULL REFERENCES videos (video_id),
    completed_at TEXT,
    frames_processed INTEGER,
    result TEXT, -- the task's result as JSON, without the boxes
    bad_rows INTEGER NOT NULL DEFAULT 0,
    imported_at TEXT NOT NULL
);
CREATE INDEX jobs_of_video ON jobs (video_id);
CREATE TABLE tracks (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    track_id INTEGER NOT NULL,
    class TEXT,
    shot INTEGER,
    PRIMARY KEY (job, track_id)
) WITHOUT ROWID;
CREATE TABLE detections (
    job INTEGER NOT NULL,
    track_id INTEGER NOT NULL,
    frame INTEGER NOT NULL, -- 0-based, display order
    seconds REAL, -- time of the frame, where the results say it
    x REAL NOT NULL, -- pixels of the upright frame
    y REAL NOT NULL,
    width REAL NOT NULL,
    height REAL NOT NULL,
    confidence REAL NOT NULL,
    interpolated INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, track_id, frame),
    FOREIGN KEY (job, track_id) REFERENCES tracks (job, track_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX detections_of_frame ON detections (job, frame);
CREATE INDEX detections_of_time ON detections (job, seconds) WHERE seconds IS NOT NULL
""",
)
"""Each brings the schema from one version to the next. One that has been released stays as it is:
files were made by it. The file's version is how many it has had, `PRAGMA user_version`."""
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # The bucket is told that a job was imported: a power cut must not take that back.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",  # 64 MiB: indices of a million boxes grow in memory
)
_BUSY_SECONDS = 60.0
"""Another import of a large job is waited for."""
VideoId = int | str


class Database:
    """One file of results. For one thread.

    Raises:
        ConfigError: it cannot be opened, is another program's, or a newer version's.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare(path)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise ConfigError(f"the database {path} cannot be opened: {error}") from None

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def writing(
        self, job_id: str, video_id: VideoId, imported_at: str
    ) -> Generator[JobRows | None]:
        """Takes what is written to a job; None when the job is there already. At the end of the
        block all of it is on the disk; when the block is left by an exception, none is in the file.

        Raises:
            ValueError: a number or a name that the file cannot hold, or a track that stands twice.
            ConfigError: the disk is full, or the file cannot be written.
        """
        try:
            with self._transaction():
                if self._db.execute("SELECT 1 FROM jobs WHERE job_id = ?", (job_id,)).fetchone():
                    yield None
                    return
                self._db.execute("INSERT OR IGNORE INTO videos (video_id) VALUES (?)", (video_id,))
                made = self._db.execute(
                    "INSERT INTO jobs (job_id, video_id, imported_at) VALUES (?, ?, ?)",
                    (job_id, video_id, imported_at),
                )
                assert made.lastrowid is not None
                yield JobRows(self._db, made.lastrowid)
        except (sqlite3.IntegrityError, OverflowError):
            raise ValueError("a track stands twice, or a number is out of range") from None
        except sqlite3.Error as error:
            raise ConfigError(f"the database cannot be written: {error}") from None

    def put_path(self, video_id: VideoId, path: Path) -> None:
        """Notes where a video is. Raises ConfigError: the file cannot be written."""
        try:
            self._db.execute(
                "INSERT INTO videos (video_id, path) VALUES (?, ?) ON CONFLICT (video_id)"
                " DO UPDATE SET path = excluded.path",
                (video_id, str(path)),
            )
        except sqlite3.Error as error:
            raise ConfigError(f"the database cannot be written: {error}") from None

    def path_of(self, video_id: VideoId) -> Path | None:
        """Where a video was when it was noted; None when it never was."""
        query = "SELECT path FROM videos WHERE video_id = ? AND path IS NOT NULL"
        found = self._db.execute(query, (video_id,)).fetchone()
        return None if found is None else Path(found[0])

    def _prepare(self, path: str | Path) -> None:
        version, tables = self._version_and_tables()
        if version > len(MIGRATIONS) or (version == 0 and tables):
            raise ConfigError(
                f"{path} is no database of results that this version reads: it is another program's"
                " or a newer version's; give another file"
            )
        for pragma in _PRAGMAS:
            self._db.execute(pragma).close()
        with self._transaction():
            version, _ = self._version_and_tables()  # another process may have been faster
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version_and_tables(self) -> tuple[int, int]:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables: int = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return version, tables

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:  # commits, or rolls back
            yield


class JobRows:
    """The rows of a job while they are written. Made by `Database.writing`."""

    def __init__(self, db: sqlite3.Connection, job: int) -> None:
        self._db = db
        self._job = job
        self.boxes = 0
        """How many are written."""
        self.repeated = 0
        """Boxes that were left out, as their track has one in that frame already."""

    def put_track(self, track_id: int, class_name: str | None, shot: int | None) -> None:
        self._db.execute(
            "INSERT INTO tracks VALUES (?, ?, ?, ?)", (self._job, track_id, class_name, shot)
        )

    def put_boxes(self, boxes: Iterable[Box]) -> None:
        """Raises ValueError: what the boxes are read from is no JSON."""
        count = 0

        def counted() -> Iterable[Box]:
            nonlocal count
            for box in boxes:
                count += 1
                yield box

        written = self._db.executemany(
            f"INSERT OR IGNORE INTO detections VALUES ({self._job}, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a number of ours
            counted(),
        ).rowcount
        self.boxes += written
        self.repeated += count - written

    def put_video(self, video: TrackVideo) -> None:
        self._db.execute(
            "UPDATE videos SET width = ?, height = ?, fps = ?, duration = ? WHERE video_id ="
            " (SELECT video_id FROM jobs WHERE id = ?)",
            (video.width, video.height, video.fps, video.duration, self._job),
        )

    def put_job(
        self,
        *,
        completed_at: str | None,
        frames_processed: int | None,
        result: str | None,
        bad_rows: int,
    ) -> None:
        self._db.execute(
            "UPDATE jobs SET completed_at = ?, frames_processed = ?, result = ?, bad_rows = ?"
            " WHERE id = ?",
            (completed_at, frames_processed, result, bad_rows, self._job),
        )
