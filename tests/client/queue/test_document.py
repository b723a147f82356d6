"""docs/queue.md says what the code does."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from support.paths import ROOT

from gpu_worker_client.cli.main import _parser
from gpu_worker_client.queue.database import Database
from gpu_worker_client.queue.states import TRANSITIONS

TEXT = (ROOT / "docs/queue.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_the_table_of_states() -> None:
    names = "|".join(state.value for state in TRANSITIONS)
    rows = re.findall(rf"^\| ({names}) \|(.*)\|$", TEXT, re.M)
    shown = {state: set(filter(None, following.strip().split(", "))) for state, following in rows}
    assert shown == {
        state.value: {one.value for one in following} for state, following in TRANSITIONS.items()
    }


def test_the_query_runs(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    Database(path).close()
    with closing(sqlite3.connect(path)) as db:
        for query in blocks("sql"):
            assert db.execute(query).fetchall() == []


def test_the_commands_parse() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("gpu-client")]
    assert len(commands) >= 5
    for _, *words in commands:
        assert _parser().parse_args(words).command
