"""The state of a `JobManager` in one SQLite file: a row for each job, written before anything of it
is sent.

A row goes `waiting` -> `submitting` -> `running` -> `completed` or `failed`; each step is on the
disk before the next begins. A row found `submitting` when the file is opened was being sent when
the process died: whether the endpoint took it is in doubt. One process at a time holds the file.
The tasks in it keep their presigned URLs until each has ended, so only its owner may read it. A
file that somebody else wrote is not believed: a trigger in it would run at the first write, so its
schema must be this one to the letter, and every row one that could have been written here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Collection, Generator, Iterable
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import (
    TASKS,
    ErrorBody,
    TaskBase,
    TaskError,
    TaskResult,
    errors,
    parse_task,
)
from gpu_worker_client.protocol.errors import JobError, job_error

WAITING, SUBMITTING, IN_DOUBT, RUNNING = "waiting", "submitting", "in_doubt", "running"
COMPLETED, FAILED = "completed", "failed"
APPLICATION_ID = 0x6770756A
""""gpuj", by which the file knows itself
(https://www.sqlite.org/pragma.html#pragma_application_id)."""
VERSION = 1
_PRAGMAS = (
    "PRAGMA locking_mode=EXCLUSIVE",  # held until the process ends, however it ends
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # a power cut too must not forget that a job was paid for
    "PRAGMA secure_delete=ON",  # a signature that is no longer needed is overwritten
)
_SCHEMA = f"""
CREATE TABLE job (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    task TEXT,
    policy TEXT,
    state TEXT NOT NULL DEFAULT '{WAITING}',
    attempts INTEGER NOT NULL DEFAULT 0,
    job_id TEXT,
    outcome TEXT,
    position INTEGER UNIQUE
);
CREATE INDEX job_state ON job (state, number);
CREATE INDEX job_unended ON job (number) WHERE position IS NULL;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={VERSION};
"""
_UNSOUND = f"""
SELECT EXISTS (SELECT 1 FROM job WHERE NOT (
    typeof(key) = 'text' AND typeof(name) = 'text' AND typeof(attempts) = 'integer'
    AND typeof(policy) IN ('text', 'null') AND typeof(job_id) IN ('text', 'null')
    AND CASE
        WHEN state IN ('{WAITING}', '{SUBMITTING}', '{IN_DOUBT}') THEN
            typeof(task) = 'text' AND position IS NULL
        WHEN state = '{RUNNING}' THEN typeof(task) = 'text' AND position IS NULL
            AND job_id IS NOT NULL
        WHEN state IN ('{COMPLETED}', '{FAILED}') THEN
            typeof(outcome) = 'text' AND typeof(position) = 'integer'
        ELSE 0
    END
))
"""  # noqa: S608 - no caller's text
"""Whether any row has a value of a kind that is never written: SQLite lets any column hold any
kind."""


@dataclass(frozen=True)
class Row:
    """A job that has not ended."""

    number: int
    """From 1, in the order of submission."""
    task: TaskBase
    policy: Policy | None
    state: str
    attempts: int
    """How often it was sent, or may have been."""
    job_id: str | None
    """The endpoint's, of the last attempt."""


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    position: int
    """From 1, in the order of ending."""
    number: int
    key: str
    job_id: str | None
    attempts: int
    result: TaskResult | None
    error: JobError | None


class Store:
    """Every method may be called from any thread, and has reached the disk when it returns.

    Args:
        path: the file; None is a temporary one that nobody else can open.

    Raises:
        ConfigError: it is in use, cannot be opened, or is no such file. Any method that reads a job
            raises it too, when what the file has of the job is none.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        self._db = _opened(path)
        with self._lock, self._db:
            self._db.execute("UPDATE job SET state = ? WHERE state = ?", (IN_DOUBT, SUBMITTING))
        self._positions = int(self._value("SELECT coalesce(max(position), 0) FROM job"))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, entries: Iterable[tuple[str, TaskBase, Policy | None]]) -> None:
        """Adds jobs by their keys, all or none. A known key is the same job: until it has ended it
        takes the new task's URLs, and afterwards it stays as it ended.

        Raises:
            ConfigError: a key is known for another kind of task.
        """
        with self._lock, self._db:
            for key, task, policy in entries:
                known = self._db.execute("SELECT name FROM job WHERE key = ?", (key,)).fetchone()
                if known is not None and known[0] != task.task:
                    raise ConfigError(
                        f"the key is known already, for a task {known[0]}: give each job a key of"
                        " its own"
                    )
                limits = None if policy is None else json.dumps(asdict(policy))
                self._db.execute(
                    "INSERT INTO job (key, name, task, policy) VALUES (?, ?, ?, ?) ON CONFLICT"
                    " (key) DO UPDATE SET task = excluded.task, policy = excluded.policy WHERE"
                    " position IS NULL",
                    (key, task.task, json.dumps(task.to_wire()), limits),
                )

    def next(self, taken: Collection[int]) -> Row | None:
        """The next job to follow or to send: those that run already come first. `taken` are the
        numbers in work."""
        marks = ", ".join("?" * len(taken))
        return self._row(
            f"state IN ('{RUNNING}', '{WAITING}') AND number NOT IN ({marks}) ORDER BY state,"
            " number",
            *taken,
        )

    def in_doubt(self) -> Row | None:
        """The first job of which nobody knows whether the endpoint took it."""
        return self._row("state = ? ORDER BY number", IN_DOUBT)

    def sending(self, row: Row) -> None:
        """Says that a job is about to be sent, before it is."""
        self._change("state = ?, job_id = NULL, attempts = attempts + 1", row, SUBMITTING)

    def sent(self, row: Row, job_id: str) -> None:
        self._change("state = ?, job_id = ?", row, RUNNING, job_id)

    def not_sent(self, row: Row) -> None:
        """Nothing left the house: the attempt did not count."""
        self._change("state = ?, attempts = max(attempts - 1, 0)", row, WAITING)

    def doubted(self, row: Row) -> None:
        self._change("state = ?", row, IN_DOUBT)

    def again(self, row: Row) -> None:
        """Another attempt is due."""
        self._change("state = ?, job_id = NULL", row, WAITING)

    def completed(self, row: Row, result: TaskResult) -> None:
        self._end(row, COMPLETED, "".join(result.json_pieces()))

    def failed(self, row: Row, error: JobError) -> None:
        saved = {"kind": type(error).__name__, "body": error.body.model_dump(mode="json")}
        self._end(row, FAILED, json.dumps(saved))

    def ended_after(self, position: int) -> Ended | None:
        """The job that ended next after the one at `position`; 0 asks for the first."""
        with _one_job(), self._lock:
            found = self._db.execute(
                "SELECT position, number, key, name, state, attempts, job_id, outcome FROM job"
                " WHERE position > ? ORDER BY position LIMIT 1",
                (position,),
            ).fetchone()
        return None if found is None else _ended(*found)

    def unended(self) -> Iterable[Row]:
        """Every job that has not ended, one at a time."""
        number = 0
        while (
            row := self._row("position IS NULL AND number > ? ORDER BY number", number)
        ) is not None:
            number = row.number
            yield row

    def all_ended(self) -> bool:
        return not self._value("SELECT EXISTS (SELECT 1 FROM job WHERE position IS NULL)")

    def counts(self) -> tuple[dict[str, int], int]:
        """Jobs by state, and how often any was sent."""
        with self._lock:
            states = dict(
                self._db.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
            )
        return states, int(self._value("SELECT coalesce(sum(attempts), 0) FROM job"))

    def _end(self, row: Row, state: str, outcome: str) -> None:
        with self._lock:
            self._change(
                "state = ?, outcome = ?, position = ?, task = NULL",
                row,
                state,
                outcome,
                self._positions + 1,
            )
            self._positions += 1

    def _change(self, what: str, row: Row, *values: object) -> None:
        with self._lock, self._db:
            self._db.execute(f"UPDATE job SET {what} WHERE number = ?", (*values, row.number))  # noqa: S608 - no caller's text

    def _value(self, query: str) -> Any:
        with self._lock:
            return self._db.execute(query).fetchone()[0]

    def _row(self, where: str, *values: object) -> Row | None:
        query = (
            f"SELECT number, task, policy, state, attempts, job_id FROM job WHERE {where} LIMIT 1"  # noqa: S608
        )
        with _one_job(), self._lock:
            found = self._db.execute(query, values).fetchone()
        return None if found is None else _unended(*found)


def _opened(path: Path | None) -> sqlite3.Connection:
    try:
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # An empty name: a private file of SQLite's own, gone with the connection.
        db = sqlite3.connect("" if path is None else path, timeout=0, check_same_thread=False)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    except (OSError, sqlite3.Error) as error:
        reason = "another process works with it" if "locked" in str(error) else str(error)
        raise ConfigError(f"the state file {path} cannot be opened: {reason}") from None
    return db


def _prepare(db: sqlite3.Connection, path: Path | None) -> None:
    for pragma in _PRAGMAS:
        db.execute(pragma)
    application, version = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and not application:
        db.executescript(_SCHEMA)
    elif (application, version) != (APPLICATION_ID, VERSION):
        raise ConfigError(
            f"{path} is no state file of this version of JobManager; give another name"
        )
    elif _schema(db) != _own_schema() or db.execute(_UNSOUND).fetchone()[0]:
        raise ConfigError(
            f"{path} is a state file that JobManager has not written; give another name"
        )


def _schema(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Every table, index, view and trigger as it was made."""
    return db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()


def _own_schema() -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _schema(db)


@contextmanager
def _one_job() -> Generator[None]:
    """Says that a job in the file cannot be read, and nothing of what it is: it may hold a
    presigned URL."""
    try:
        yield
    except (sqlite3.Error, TaskError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"a job in the state file cannot be read ({type(error).__name__}); give another file"
        ) from None


def _unended(
    number: int, task: str, policy: str | None, state: str, attempts: int, job_id: str | None
) -> Row:
    with _one_job():
        limits = None if policy is None else Policy(**json.loads(policy))
        return Row(number, parse_task(task.encode()), limits, state, attempts, job_id)


def _ended(
    position: int,
    number: int,
    key: str,
    name: str,
    state: str,
    attempts: int,
    job_id: str | None,
    outcome: str,
) -> Ended:
    with _one_job():
        result = TASKS[name].result.from_json(outcome) if state == COMPLETED else None
        error = None if state == COMPLETED else _error(json.loads(outcome))
    return Ended(position, number, key, job_id, attempts, result, error)


def _error(saved: dict[str, Any]) -> JobError:
    """The error as it was raised, without its job."""
    body = ErrorBody.model_validate(saved["body"])
    kind = getattr(errors, str(saved["kind"]), None)
    return kind(body) if isinstance(kind, type) and issubclass(kind, JobError) else job_error(body)
