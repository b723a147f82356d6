"""The state file of `JobManager` when somebody else wrote in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gpu_worker_client import ConfigError
from gpu_worker_client.many.state_file import Store

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
TASK = """'{"task": "selftest"}'"""
INSERT = "INSERT INTO job (key, name, task, policy, state, job_id, outcome, position) VALUES "


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


def changed(state: Path, script: str) -> None:
    """A state file to which somebody else did something."""
    Store(state).close()
    with sqlite3.connect(state) as db:
        db.executescript(script)
    db.close()


@pytest.mark.parametrize(
    "change",
    [
        f"CREATE TRIGGER endless AFTER UPDATE ON job BEGIN {ENDLESS}; END",
        "CREATE VIEW other AS SELECT 1",
        "CREATE TABLE other (a)",
        "ALTER TABLE job ADD COLUMN other",
        "ALTER TABLE job DROP COLUMN policy",
        "DROP INDEX job_state",
    ],
)
def test_a_file_that_somebody_else_wrote_is_refused(state: Path, change: str) -> None:
    changed(state, change)
    with pytest.raises(ConfigError, match="no state file"):
        Store(state)


@pytest.mark.parametrize(
    "row",
    [
        "('k', 'detect_scenes', '{\"CANARY\": 1}', NULL, 'waiting', NULL, NULL, NULL)",
        (
            "('k', 'detect_scenes', CAST(x'43414e415259ff' AS TEXT), NULL, 'waiting', NULL, NULL,"
            " NULL)"
        ),
        (
            "('k', 'selftest', '{\"task\": \"selftest\"}', '[\"CANARY\"]', 'waiting', NULL, NULL,"
            " NULL)"
        ),
        "('k', 'CANARY', NULL, NULL, 'completed', NULL, '{}', 1)",
        "('k', 'selftest', NULL, NULL, 'waiting', NULL, NULL, NULL)",
        "('k', 'selftest', x'43414e415259', NULL, 'waiting', NULL, NULL, NULL)",
        f"('k', 'selftest', {TASK}, x'43414e415259', 'waiting', NULL, NULL, NULL)",
        f"('k', 'selftest', {TASK}, NULL, 'running', x'43414e415259', NULL, NULL)",
        f"('k', 'selftest', {TASK}, NULL, 'waiting', NULL, NULL, 'CANARY')",
        "(x'43414e415259', 'selftest', NULL, NULL, 'failed', NULL, '{}', 1)",
        "('k', 'selftest', NULL, NULL, 'CANARY', NULL, '{}', 1)",
        "('k', 'selftest', NULL, NULL, 'completed', NULL, NULL, 1)",
        "('k', 'selftest', NULL, NULL, 'completed', NULL, '{}', 'CANARY')",
        "('k', 'detect_scenes', NULL, NULL, 'completed', NULL, '{\"CANARY\": 1}', 1)",
        "('k', 'detect_scenes', NULL, NULL, 'failed', NULL, '[\"CANARY\"]', 1)",
    ],
)
def test_a_job_in_the_file_that_is_none_is_named_and_not_quoted(state: Path, row: str) -> None:
    changed(state, INSERT + row)
    store = Store(state)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        list(store.unended())
        ended = store.ended_after(0)
        assert ended is not None and ended.read()
    store.close()
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("said", ["submitting", "asleep"])
def test_a_job_in_a_state_between_two_is_in_doubt(state: Path, said: str) -> None:
    changed(state, INSERT + f"('k', 'selftest', {TASK}, NULL, '{said}', NULL, NULL, NULL)")
    with closing(Store(state)) as store:
        assert (store.summary().in_doubt, store.next([])) == (1, None)
        assert store.in_doubt() == next(store.unended())
