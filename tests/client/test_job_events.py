"""What is told of the queue: the place in it, a cold start, and how rarely the endpoint is asked
for them."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import Answer, FakeTime, ScriptedServer

from gpu_worker_client import Client, ColdStart, Event, Finished, Queued, State
from gpu_worker_client.events import Health, Watcher
from gpu_worker_client.status import JobStatus

QUEUED = {"id": "j", "status": "IN_QUEUE"}
DONE = {"id": "j", "status": "COMPLETED", "output": {"task": "track"}}
WAITING = JobStatus("j", State.queued)
RUNNING = JobStatus("j", State.running)
IDLE = {"idle": 0, "initializing": 0, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 0}


def health(waiting: int, **workers: int) -> Health:
    return Health.read({"jobs": {"inQueue": waiting}, "workers": IDLE | workers})


def told(*looks: tuple[JobStatus, Health | None]) -> list[object]:
    """A word for each event: the position for `Queued`."""
    watcher = Watcher()
    events = [event for status, health in looks for event in watcher.see(status, health)]
    return [
        event.position if isinstance(event, Queued) else type(event).__name__ for event in events
    ]


def test_the_place_in_the_queue_only_falls() -> None:
    looks = [
        (WAITING, health(3)),
        (WAITING, None),
        (WAITING, health(5)),
        (WAITING, health(2)),
        (WAITING, health(2)),
    ]
    assert told(*looks) == [3, 2]


def test_a_place_that_becomes_known_later_is_told() -> None:
    assert told((WAITING, None), (WAITING, health(2))) == [None, 2]


def test_a_queue_that_is_empty_already_tells_no_place() -> None:
    assert told((WAITING, health(0))) == [None]


def test_a_cold_start_is_told_once_a_wait() -> None:
    cold = health(1, initializing=1)
    assert told((WAITING, cold), (WAITING, cold)) == [1, "ColdStart"]
    assert told((WAITING, cold), (RUNNING, None), (WAITING, cold)) == [
        1,
        "ColdStart",
        "Started",
        1,
        "ColdStart",
    ]


@pytest.mark.parametrize("up", ["idle", "ready", "running"])
def test_no_cold_start_where_a_worker_is_up(up: str) -> None:
    assert told((WAITING, health(1, initializing=1, **{up: 1}))) == [1]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"jobs": None, "workers": [1]},
        {"jobs": {"inQueue": "3"}},
        {"jobs": {"inQueue": -1}},
        {"jobs": {"inQueue": True}},
    ],
)
def test_a_health_that_tells_nothing_readable(answer: dict[str, Any]) -> None:
    assert Health.read(answer) == Health(waiting=None, starting=False)


def test_events_ask_for_the_queue_while_the_job_waits(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(*[QUEUED] * 8, DONE)
    server.aside["/health"] = Answer(
        {"jobs": {"inQueue": 2}, "workers": IDLE | {"initializing": 1}}
    )
    events: list[Event] = list(client.job("j").events())
    assert [type(event) for event in events] == [Queued, ColdStart, Finished]
    assert events[0].position == 2  # type: ignore[union-attr]
    # At the first look, and at the first one after five seconds, of eight in twelve seconds.
    assert time.seconds == pytest.approx(12.3, abs=0.1)
    assert server.asked_aside == ["GET /v2/ep1/health"] * 2


def test_waiting_without_events_asks_for_nothing_else(
    client: Client, server: ScriptedServer
) -> None:
    server.say(QUEUED, QUEUED, DONE)
    client.job("j").wait()
    assert server.asked == ["GET /v2/ep1/status/j"] * 3


@pytest.mark.parametrize(
    "answer", [Answer(status=503), Answer(hang_up=True), Answer(b"<html>"), Answer(status=401)]
)
def test_a_health_that_fails_holds_up_nothing(
    client: Client, server: ScriptedServer, time: FakeTime, answer: Answer
) -> None:
    server.say(QUEUED, DONE)
    server.aside["/health"] = answer
    assert [type(event) for event in client.job("j").events()] == [Queued, Finished]
    assert time.sleeps == [0.25]
