"""The state of a `JobManager` in one SQLite file: a row for each job, written before anything of it
is sent.

A row goes `waiting` -> `submitting` -> `running` -> `completed` or `failed`; each step is on the
disk before the next begins. A row found `submitting` when the file is opened was being sent when
the process died: whether the endpoint took it is in doubt. One process at a time holds the file.
The tasks in it keep their presigned URLs until each has ended, so only its owner may read it. A
file that somebody else wrote is not believed: a trigger in it would run at the first write, so its
schema must be this one to the letter, and every row is checked when it is read.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, Json

from gpu_worker_client.async_client import Outcome
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
"""


@dataclass(frozen=True)
class JobOutcome(Outcome[TaskResult]):
    """How one job of a manager ended; `index` counts from 0 in the order of submission."""

    key: str = ""
    """The job's name, given or made by `submit`."""
    job_id: str | None = None
    """The endpoint's id of the last attempt; None when it was never taken, or its result was found
    in storage."""
    attempts: int = 0
    """How often it was sent."""


@dataclass(frozen=True)
class JobSummary:
    """How many jobs stand where."""

    waiting: int
    """Not sent yet, or to be sent again."""
    running: int
    """On the endpoint."""
    in_doubt: int
    """Sent, but the answer was lost; inspected when all the rest have ended."""
    completed: int
    failed: int
    attempts: int
    """Submits of all jobs together: more than there are jobs when some were tried again."""

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.in_doubt + self.completed + self.failed


class _Columns(BaseModel):
    """Columns of a row, by their names. Strict: SQLite lets any column hold any kind of value."""

    model_config = ConfigDict(frozen=True, strict=True)

    number: int
    """From 1, in the order of submission."""
    attempts: int
    """How often it was sent, or may have been."""
    job_id: str | None
    """The endpoint's id of the last attempt."""


def _task(text: object) -> TaskBase:
    return parse_task(text.encode() if isinstance(text, str) else text)


class Row(_Columns):
    """A job that has not ended."""

    task: Annotated[InstanceOf[TaskBase], BeforeValidator(_task)]
    policy: Json[Policy] | None
    state: Literal["waiting", "submitting", "in_doubt", "running"]


class Ended(_Columns):
    """A job that has ended."""

    key: str
    name: str
    """The task's name."""
    state: Literal["completed", "failed"]
    outcome: str
    """The result's JSON, or the error's."""
    position: int
    """From 1, in the order of ending."""

    def read(self) -> JobOutcome:
        """How it ended. A large result takes its time."""
        result = error = None
        with _one_job():
            if self.state == COMPLETED:
                result = TASKS[self.name].result.from_json(self.outcome)
            else:  # the error as it was raised, without its job
                saved = json.loads(self.outcome)
                body = ErrorBody.model_validate(saved["body"])
                kind: Any = getattr(errors, str(saved["kind"]), None)
                if not (isinstance(kind, type) and issubclass(kind, JobError)):
                    kind = job_error
                error = kind(body)
        return JobOutcome(self.number - 1, result, error, self.key, self.job_id, self.attempts)


def written(outcome: TaskResult | JobError) -> tuple[str, str]:
    """State and text of an outcome, for `Store.end`. A large result takes its time."""
    if isinstance(outcome, JobError):
        body = outcome.body.model_dump(mode="json")
        return FAILED, json.dumps({"kind": type(outcome).__name__, "body": body})
    return COMPLETED, "".join(outcome.json_pieces())


M = TypeVar("M", bound=_Columns)


class Store:
    """Every method has reached the disk when it returns.

    Args:
        path: the file; None is a temporary one that nobody else can open.

    Raises:
        ConfigError: it is in use, cannot be opened, or is no such file. Any method that reads a job
            raises it too, when what the file has of the job is none.
    """

    def __init__(self, path: Path | None) -> None:
        self._db = _opened(path)
        with self._db:
            self._db.execute(
                "UPDATE job SET state = ? WHERE position IS NULL AND state NOT IN (?, ?)",
                (IN_DOUBT, WAITING, RUNNING),
            )

    def close(self) -> None:
        self._db.close()

    def add(self, entries: Iterable[tuple[str, TaskBase, Policy | None]]) -> None:
        """Adds jobs by their keys, all or none. A known key is the same job: until it has ended it
        takes the new task's URLs, and afterwards it stays as it ended.

        Raises:
            ConfigError: a key is known for another kind of task.
        """
        with self._db:
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
        """The next job to follow or to send, those that run first; none of the numbers `taken`."""
        marks = ", ".join("?" * len(taken))
        where = f"state IN ('{RUNNING}', '{WAITING}') AND number NOT IN ({marks})"
        return self._read(Row, f"{where} ORDER BY state, number", *taken)

    def in_doubt(self) -> Row | None:
        """The first job of which nobody knows whether the endpoint took it."""
        return self._read(Row, "state = ? ORDER BY number", IN_DOUBT)

    def unended(self) -> Iterator[Row]:
        """Every job that has not ended, one at a time."""
        number = 0
        while row := self._read(Row, "position IS NULL AND number > ? ORDER BY number", number):
            number = row.number
            yield row

    def all_ended(self) -> bool:
        return not self._db.execute("SELECT 1 FROM job WHERE position IS NULL LIMIT 1").fetchall()

    def move(self, row: Row, state: str, *, job_id: str | None = None, attempts: int = 0) -> None:
        """Another state of a job that has not ended; `attempts` is how many more it has had."""
        self._change("state = ?, job_id = ?, attempts = attempts + ?", row, state, job_id, attempts)

    def end(self, row: Row, state: str, outcome: str) -> None:
        """Arguments as `written` makes them."""
        position = "(SELECT coalesce(max(position), 0) + 1 FROM job)"
        change = f"state = ?, outcome = ?, position = {position}, task = NULL"
        self._change(change, row, state, outcome)

    def ended_after(self, position: int) -> Ended | None:
        """The job that ended next after the one at `position`; 0 asks for the first."""
        return self._read(Ended, "position > ? ORDER BY position", position)

    def summary(self) -> JobSummary:
        """How many jobs stand where."""
        query = "SELECT state, count(*), sum(attempts) FROM job GROUP BY state"
        found = self._db.execute(query).fetchall()
        count: dict[str, int] = {state: jobs for state, jobs, _ in found}
        return JobSummary(
            waiting=count.get(WAITING, 0) + count.get(SUBMITTING, 0),
            running=count.get(RUNNING, 0),
            in_doubt=count.get(IN_DOUBT, 0),
            completed=count.get(COMPLETED, 0),
            failed=count.get(FAILED, 0),
            attempts=sum(attempts for *_, attempts in found),
        )

    def _change(self, what: str, row: Row, *values: object) -> None:
        with self._db:
            self._db.execute(f"UPDATE job SET {what} WHERE number = ?", (*values, row.number))  # noqa: S608 - no caller's text

    def _read(self, columns: type[M], where: str, *values: object) -> M | None:
        names = list(columns.model_fields)
        query = f"SELECT {', '.join(names)} FROM job WHERE {where} LIMIT 1"  # noqa: S608 - no caller's text
        with _one_job():
            found = self._db.execute(query, values).fetchone()
            return None if found is None else columns(**dict(zip(names, found, strict=True)))


def _opened(path: Path | None) -> sqlite3.Connection:
    try:
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # An empty name: a private file of SQLite's own, gone with the connection. Opened by the
        # caller's thread, and from then on used by the event loop's only.
        db = sqlite3.connect("" if path is None else path, timeout=0, check_same_thread=False)
        with ExitStack() as unless_ready, closing(sqlite3.connect(":memory:")) as new:
            unless_ready.callback(db.close)
            for pragma in _PRAGMAS:
                db.execute(pragma)
            new.executescript(_SCHEMA)
            if not (found := _schema(db)):
                db.executescript(_SCHEMA)
            elif found != _schema(new):
                raise ConfigError(
                    f"{path} is no state file that this version of JobManager has written; give"
                    " another name"
                )
            unless_ready.pop_all()
    except (OSError, sqlite3.Error) as error:
        reason = "another process works with it" if "locked" in str(error) else str(error)
        raise ConfigError(f"the state file {path} cannot be opened: {reason}") from None
    return db


def _schema(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Every table, index, view and trigger as it was made."""
    return db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()


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
