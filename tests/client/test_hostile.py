"""What every call does when the endpoint misbehaves: the right exception or the right result, no
hang, no job queued twice. The tables are the documentation's: what stands in docs/sdk.md is what is
asserted here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import pytest
from support.client_surfaces import Blocking
from support.hostile_endpoint import Conversation, HostileEndpoint, hostile_endpoint
from support.paths import ROOT
from support.scripted_server import FakeTime

from gpu_worker_client import (
    AsyncClient,
    Client,
    Finished,
    GpuWorkerError,
    Job,
    TaskResult,
    _endpoint,
    _http,
)
from gpu_worker_client.status import JobStatus

DOCS = ROOT / "docs/sdk.md"
TIMEOUT_SECONDS = 20.0
BRIEF_SECONDS = {"passes": 1.0, "stays": 0.15}
"""In place of two minutes, how long a request may take where its answer never comes: long enough
for the good answers of a busy machine after a fault that passes; after one that stays there are
none."""
SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [{"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9}],
    "stats": {"total_scenes": 1, "avg_scene_length": 1.0},
}
TASK = {"task": "detect_scenes", "input_url": "https://h/in.mp4"}
ONCE = {
    "idempotency_key": "once",
    "result_url": "https://h/r.json?put",
    "result_get_url": "https://h/r.json?get",
}
QUEUED, RUNNING = {"id": "j", "status": "IN_QUEUE"}, {"id": "j", "status": "IN_PROGRESS"}
DONE = {"id": "j", "status": "COMPLETED", "output": SCENES}
LATE_PROGRESS = {**RUNNING, "output": {"seq": 9, "stage": "process"}}

CALLS: dict[str, Callable[[Client], Any]] = {
    "submit": lambda client: client.submit(TASK),
    "submit, key": lambda client: client.submit({**TASK, **ONCE}),
    "run": lambda client: client.run(TASK, TIMEOUT_SECONDS),
    "status": lambda client: client.job("j").status(),
    "wait": lambda client: client.job("j").wait(TIMEOUT_SECONDS),
    "events": lambda client: list(client.job("j").events(TIMEOUT_SECONDS))[-1],
    "result": lambda client: client.job("j").result(TIMEOUT_SECONDS),
    "cancel": lambda client: client.job("j").cancel(TIMEOUT_SECONDS),
    "health": lambda client: client.health(),
}
"""`run` meets the faults once its job is queued: until then it is `submit`."""


def dripped(conversation: Conversation) -> None:
    conversation.send_response(200)
    conversation.send_header("Content-Length", "5000")
    conversation.end_headers()
    conversation.drip(b" " * 5000)


def endless(conversation: Conversation) -> None:
    conversation.send_response(200)
    conversation.send_header("Transfer-Encoding", "chunked")
    conversation.end_headers()
    conversation.close_connection = True
    for _ in range(10_000):
        conversation.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


FAULTS: dict[str, Callable[[Conversation], None]] = {
    "500": lambda one: one.say({"error": "boom"}, 500),
    "502 of a proxy, in HTML": lambda one: one.say(b"<html>bad gateway</html>", 502),
    "429, Retry-After: 3": lambda one: one.say({}, 429, Retry_After="3"),
    "429, Retry-After: a date": lambda one: one.say(
        {}, 429, Retry_After="Tue, 01 Jan 2030 00:00:05 GMT"
    ),
    "429, Retry-After: 9999": lambda one: one.say({}, 429, Retry_After="9999"),
    "no answer": Conversation.hang,
    "headers a byte at a time": lambda one: one.drip(
        b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 5000
    ),
    "body a byte at a time": dripped,
    "a body without end": endless,
    "connection reset": Conversation.reset,
    "answer cut short": lambda one: one.say(b'{"id": "j"', missing_bytes=20),
    "200 that is no JSON": lambda one: one.say(b"<html>sign in</html>"),
    "200 that is a JSON list": lambda one: one.say([1]),
    "redirect": lambda one: one.say(b"", 307, Location="http://127.0.0.1:9/elsewhere"),
    "401": lambda one: one.say({}, 401),
    "404": lambda one: one.say({}, 404),
}
DRAGGED_OUT = ("headers a byte at a time", "body a byte at a time", "a body without end")
"""Told from "no answer" by their first strike alone; six in a row of each would only take time."""


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    fault = request.node.callspec.params["fault"]
    if fault in ("no answer", *DRAGGED_OUT):
        seconds = BRIEF_SECONDS["stays" if "stays" in request.node.originalname else "passes"]
        monkeypatch.setattr(_endpoint, "TOTAL_SECONDS", seconds)
        monkeypatch.setattr(_http, "LAST_TIMEOUT_SECONDS", seconds)
        monkeypatch.setattr(_endpoint, "MAX_ANSWER_BYTES", 1 << 20)


@contextmanager
def client_of(kind: str, server: HostileEndpoint, time: FakeTime) -> Iterator[Client]:
    if kind == "Client":
        with Client("ep1", "key", server.url, timing=time.timing()) as client:
            yield client
        return
    loop = asyncio.new_event_loop()
    with Blocking(AsyncClient("ep1", "key", server.url, timing=time.timing()), loop) as blocking:
        yield cast(Client, blocking)
    loop.close()


def cell(kind: str, call: str, order: Callable[[HostileEndpoint], None]) -> str:
    """What the call comes to, in the words of the table, and how often it queued a job."""
    time = FakeTime()
    with hostile_endpoint() as server:
        server.statuses = [DONE]
        server.spares = "run" if call == "run" else ""
        order(server)
        with client_of(kind, server, time) as client:
            try:
                told = told_of(CALLS[call](client))
            except GpuWorkerError as error:
                told = type(error).__name__
                print(f"{kind}, {call}: {error}; asked {server.asked}")  # what a failure shows
        assert time.seconds <= TIMEOUT_SECONDS + _endpoint.LAST_CANCEL_SECONDS, call
        submits = server.asked.count("run")
        # More than one without a key: only where the endpoint itself said, by 429, that it did not
        # take the others.
        assert submits <= 1 or call == "submit, key" or told in ("ok", "RateLimitError"), call
        return f"{told}, {submits} sent" if call.startswith("submit") else told


def told_of(value: Any) -> str:
    if isinstance(value, Finished):
        value = value.status
    if isinstance(value, JobStatus):
        good = value.state.value == "cancelled" or (
            value.state.value == "completed" and value.output == SCENES
        )
        return "ok" if good else value.state.value
    if isinstance(value, TaskResult):
        assert (value.model_extra, value.task) == ({}, "detect_scenes")
        return "ok"
    if isinstance(value, Blocking | Job):
        assert value.id == "j"
        return "ok"
    assert value == {"jobs": {}, "workers": {}}
    return "ok"


def row(calls: list[str], order: Callable[[HostileEndpoint], None]) -> list[str]:
    """All calls of a row at once, by both kinds of client, each with an endpoint of its own."""
    with ThreadPoolExecutor(2 * len(calls)) as pool:
        blocking = pool.map(lambda call: cell("Client", call, order), calls)
        awaited = list(pool.map(lambda call: cell("AsyncClient", call, order), calls))
        assert list(blocking) == awaited
    return awaited


def documented(title: str) -> dict[str, list[str]]:
    """The rows of the table below a heading of docs/sdk.md: fault -> cells."""
    section = DOCS.read_text(encoding="utf-8").split(f"### {title}\n")[1].split("\n#")[0]
    rows = [
        [text.strip() for text in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    ]
    assert rows[0][1:] == list(CALLS) or rows[0][1:] == HISTORY_CALLS
    return {name: cells for name, *cells in rows[2:]}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes(fault: str) -> None:
    def once(server: HostileEndpoint) -> None:
        server.fault, server.times = FAULTS[fault], 1

    assert row(list(CALLS), once) == documented("A fault that passes")[fault]


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in DRAGGED_OUT])
def test_a_fault_that_stays(fault: str) -> None:
    def always(server: HostileEndpoint) -> None:
        server.fault = FAULTS[fault]

    assert row(list(CALLS), always) == documented("A fault that stays")[fault]


HISTORY_CALLS = ["run", "wait", "events", "result"]
HISTORIES: dict[str, list[dict[str, Any]]] = {
    "running, queued again, running, done": [RUNNING, QUEUED, RUNNING, DONE],
    "done, then running again": [DONE, RUNNING],
    "done, then progress": [DONE, LATE_PROGRESS],
    "done, then failed": [DONE, {"id": "j", "status": "FAILED", "error": "late"}],
    "completed without output": [RUNNING, {"id": "j", "status": "COMPLETED"}],
    "completed with progress as its output": [RUNNING, {**LATE_PROGRESS, "status": "COMPLETED"}],
    "failed, with output": [{"id": "j", "status": "FAILED", "output": SCENES}],
    "no status at all, then done": [{}, {"status": 7}, {"status": None}, DONE],
    "running for ever": [RUNNING],
}


@pytest.mark.parametrize("history", HISTORIES)
def test_a_history_that_cannot_be(history: str) -> None:
    def tell(server: HostileEndpoint) -> None:
        server.statuses = list(HISTORIES[history])

    assert row(HISTORY_CALLS, tell) == documented("A history that cannot be")[history]


def test_every_documented_row_is_tested() -> None:
    assert list(documented("A fault that passes")) == list(FAULTS)
    assert list(documented("A fault that stays")) == [
        fault for fault in FAULTS if fault not in DRAGGED_OUT
    ]
    assert list(documented("A history that cannot be")) == list(HISTORIES)
