"""Waiting for a job ends: by its end, by the time given, by a cancel or an outage that lasts."""

from __future__ import annotations

import pytest
from support.job_story import CANCELLED, DONE, QUEUED, RUNNING, at
from support.scripted_server import Answer, FakeTime, ScriptedServer

from gpu_worker_client import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    Client,
    ProgressEvent,
    Queued,
    ResultUnreadable,
    ServerError,
    Started,
    State,
    WaitTimeout,
)
from gpu_worker_client.protocol import DetectScenesTask, SelftestTask, UpscaleTask

pytestmark = pytest.mark.usefixtures("health")


def test_five_failed_looks_in_a_row_are_survived(client: Client, server: ScriptedServer) -> None:
    bad = [
        Answer(status=503),
        Answer(hang_up=True),
        Answer(b"<html>"),
        Answer(status=429),
        Answer(status=500),
    ]
    server.say(RUNNING, *bad, RUNNING, *bad, DONE)
    assert client.job("j").wait().state is State.completed
    assert len(server.seen) == 13


def test_half_a_minute_of_outage_is_survived(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(*[Answer(hang_up=True)] * 5, DONE)
    client.job("j").wait()
    assert time.sleeps == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_the_sixth_is_not(client: Client, server: ScriptedServer) -> None:
    server.say(RUNNING, Answer(hang_up=True))
    with pytest.raises(APIConnectionError):
        client.job("j").wait()
    assert len(server.seen) == 1 + 6


def test_a_refused_key_ends_the_waiting_at_once(client: Client, server: ScriptedServer) -> None:
    server.say(RUNNING, Answer(status=401))
    with pytest.raises(AuthenticationError):
        client.job("j").wait()
    assert len(server.seen) == 2


def test_polling_begins_fast_slows_down_and_begins_anew_when_the_job_starts(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(*[QUEUED] * 12, *[RUNNING] * 2, DONE)
    client.job("j").wait()
    assert time.sleeps[:3] == pytest.approx([0.25, 0.375, 0.5625])
    assert time.sleeps[8:12] == [5.0] * 4
    assert time.sleeps[12:] == pytest.approx([0.25, 0.375])


def test_a_look_that_is_rate_limited_waits_as_told(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(Answer(status=429, headers={"Retry-After": "9"}), DONE)
    client.job("j").wait()
    assert time.sleeps == [9.0]


def test_waiting_ends_on_time_and_leaves_the_job(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(RUNNING)
    job = client.job("j")
    with pytest.raises(WaitTimeout, match="left running") as caught:
        job.wait(timeout=20)
    assert caught.value.job is job
    assert time.seconds == 20
    assert all(request == "GET /v2/ep1/status/j" for request in server.asked)


def test_no_time_at_all_is_still_one_look(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(DONE)
    assert client.job("j").wait(timeout=0).state is State.completed
    server.script[:] = [Answer(RUNNING | {"id": "k"})]
    with pytest.raises(WaitTimeout):
        client.job("k").wait(timeout=0)
    assert time.sleeps == []


def test_waiting_may_end_by_cancelling(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(RUNNING, RUNNING, RUNNING, CANCELLED)
    job = client.job("j")
    with pytest.raises(WaitTimeout, match="was cancelled"):
        job.wait(timeout=0.5, on_timeout="cancel")
    assert server.asked[-1] == "POST /v2/ep1/cancel/j"
    assert job.status().state is State.cancelled


def test_a_cancel_that_takes_its_time_ends_the_waiting_all_the_same(
    client: Client, server: ScriptedServer
) -> None:
    server.say(RUNNING)
    with pytest.raises(WaitTimeout, match="was cancelled"):
        client.job("j").wait(timeout=0, on_timeout="cancel")


def test_a_cancel_that_fails_at_the_end_of_the_time_is_told(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(RUNNING, Answer(status=503))
    with pytest.raises(WaitTimeout, match="could not be cancelled: POST cancel/j: 503"):
        client.job("j").wait(timeout=0, on_timeout="cancel")
    assert time.seconds <= 10


def test_a_job_that_ended_just_before_the_cancel_has_ended_well(
    client: Client, server: ScriptedServer
) -> None:
    server.say(RUNNING, {"id": "j", "status": "COMPLETED"}, DONE)
    assert (
        client.job("j", DetectScenesTask).result(timeout=0, on_timeout="cancel").stats.total_scenes
        == 1
    )
    assert server.asked[-2:] == ["POST /v2/ep1/cancel/j", "GET /v2/ep1/status/j"]


def test_a_cancel_that_is_refused_because_the_job_has_ended(
    client: Client, server: ScriptedServer
) -> None:
    server.say(Answer(status=400), DONE)
    assert client.job("j").cancel().state is State.completed


def test_a_cancel_that_fails_is_told(client: Client, server: ScriptedServer) -> None:
    server.say(*[Answer(status=500)] * 6, RUNNING)
    with pytest.raises(ServerError):
        client.job("j").cancel()
    server.script[:] = [Answer(status=400), Answer(RUNNING | {"id": "k"})]
    with pytest.raises(APIError, match="POST cancel/k: 400"):
        client.job("k").cancel()


def test_a_cancel_of_a_forgotten_job(client: Client, server: ScriptedServer) -> None:
    server.say(Answer(status=404))
    assert client.job("j").cancel().state is State.expired


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_leaving_the_block_by_an_exception_cancels(
    client: Client, server: ScriptedServer, stop: type[BaseException]
) -> None:
    server.say(QUEUED, CANCELLED)
    with pytest.raises(stop), client.submit(SelftestTask()):
        raise stop
    assert server.asked == ["POST /v2/ep1/run", "POST /v2/ep1/cancel/j"]


def test_leaving_the_block_well_or_after_the_end_cancels_nothing(
    client: Client, server: ScriptedServer
) -> None:
    server.say(QUEUED, DONE)
    with client.submit(SelftestTask()):
        pass
    with pytest.raises(ResultUnreadable), client.job("j", UpscaleTask) as job:
        job.result()
    assert not any("cancel" in request for request in server.asked)


def test_a_failing_cancel_does_not_hide_why_the_block_was_left(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(QUEUED, Answer(status=503))
    with pytest.raises(KeyboardInterrupt), client.submit(SelftestTask()):
        raise KeyboardInterrupt
    assert time.seconds <= 10


def test_run_reports_events_and_cancels_when_the_time_is_over(
    client: Client, server: ScriptedServer
) -> None:
    server.say(QUEUED, QUEUED, at(1), at(2), at(2), at(2), CANCELLED)
    seen: list[type] = []
    with pytest.raises(WaitTimeout, match="was cancelled"):
        client.run(
            {"task": "selftest"}, timeout=1.2, on_event=lambda event: seen.append(type(event))
        )
    assert seen == [Queued, Started, ProgressEvent, ProgressEvent]
    assert server.asked[-1] == "POST /v2/ep1/cancel/j"
    assert server.asked.count("POST /v2/ep1/cancel/j") == 1


def test_run_cancels_when_the_callback_raises(client: Client, server: ScriptedServer) -> None:
    server.say(QUEUED, RUNNING, CANCELLED)

    def stop(event: object) -> None:
        raise ValueError(event)

    with pytest.raises(ValueError, match="Started"):
        client.run(SelftestTask(), on_event=stop)
    assert server.asked[-1] == "POST /v2/ep1/cancel/j"
