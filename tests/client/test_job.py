"""A job's life as the handle sees it: events in order, no state after the last, failures typed,
waiting that ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.scripted_server import Answer, FakeTime, ScriptedServer

from gpu_worker_client import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    Client,
    ConfigError,
    Finished,
    InputUnavailable,
    JobCancelled,
    JobError,
    JobExpired,
    JobTimedOut,
    OutOfMemory,
    Progress,
    ProgressEvent,
    Queued,
    ResultLost,
    ResultUnreadable,
    ServerError,
    Started,
    State,
    WaitTimeout,
    WorkerFault,
)
from gpu_worker_client.protocol import (
    DetectScenesResult,
    DetectScenesTask,
    ErrorCode,
    SelftestTask,
    TaskError,
    TaskResult,
    UpscaleResult,
    UpscaleTask,
)

SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "status": "completed",
    "scenes": [{"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9}],
    "stats": {"total_scenes": 1, "avg_scene_length": 1.0},
    "a_newer_workers_field": [1],
}
QUEUED = {"id": "j", "status": "IN_QUEUE"}
RUNNING = {"id": "j", "status": "IN_PROGRESS", "delayTime": 1500}
DONE = {
    "id": "j",
    "status": "COMPLETED",
    "output": SCENES,
    "delayTime": 1500,
    "executionTime": 250,
    "workerId": "w1",
}
CANCELLED = {"id": "j", "status": "CANCELLED"}


@pytest.fixture(autouse=True)
def health(server: ScriptedServer) -> None:
    """Events ask for the queue as well; nothing is known of it here."""
    server.aside["/health"] = Answer(status=503)


def at(seq: int, worker: str | None = None, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {**RUNNING, "output": {"seq": seq, "stage": "process", **fields}}
    return answer if worker is None else answer | {"workerId": worker}


def story(client: Client, server: ScriptedServer, *answers: Any) -> list[str]:
    """The events of a job whose status answers are these, each in a word."""
    server.say(*answers)
    words = []
    for event in client.job("j").events():
        words.append(
            f"{event.progress.seq}" if isinstance(event, ProgressEvent) else type(event).__name__
        )
    return words


def test_events_come_once_each_and_in_order(client: Client, server: ScriptedServer) -> None:
    told = story(client, server, QUEUED, QUEUED, RUNNING, at(1), at(1), at(2), DONE)
    assert told == ["Queued", "Started", "1", "2", "Finished"]


def test_progress_that_came_late_is_ignored(client: Client, server: ScriptedServer) -> None:
    assert story(client, server, at(3), at(1), at(2), at(4), DONE) == [
        "Started",
        "3",
        "4",
        "Finished",
    ]


def test_a_job_given_to_another_worker_counts_from_the_start(
    client: Client, server: ScriptedServer
) -> None:
    assert story(client, server, at(5), QUEUED, at(1), DONE) == [
        "Started",
        "5",
        "Queued",
        "Started",
        "1",
        "Finished",
    ]
    server.script.clear()
    assert story(client, server, at(5, "w1"), at(1, "w2"), DONE) == [
        "Started",
        "5",
        "Started",
        "1",
        "Finished",
    ]


def test_the_only_look_may_be_the_last(client: Client, server: ScriptedServer) -> None:
    assert story(client, server, DONE) == ["Finished"]


@pytest.mark.parametrize(
    "output", [{"percent": 3}, "half done", [1], 5, None, {"seq": "1", "stage": 2}]
)
def test_foreign_progress_is_not_ours(client: Client, server: ScriptedServer, output: Any) -> None:
    assert story(client, server, {**RUNNING, "output": output}, DONE) == ["Started", "Finished"]


def test_progress_is_never_the_result(client: Client, server: ScriptedServer) -> None:
    server.say(at(1, fraction=0.5, done=5, total=10))
    status = client.job("j").status()
    assert (status.state, status.output) == (State.running, None)
    assert status.progress == Progress(seq=1, stage="process", fraction=0.5, done=5, total=10)


@pytest.mark.parametrize("status", ["IN_QUEUE", "COMPLETED", "FAILED"])
def test_only_a_running_job_has_progress(
    client: Client, server: ScriptedServer, status: str
) -> None:
    server.say({**at(1), "status": status})
    assert client.job("j").status().progress is None


def test_a_newer_workers_stage_is_still_progress(client: Client, server: ScriptedServer) -> None:
    server.say({**RUNNING, "output": {"seq": 1, "stage": "polish", "sparkle": 2}})
    status = client.job("j").status()
    assert status.progress is not None and status.progress.stage == "polish"


def test_an_unknown_status_counts_as_running(client: Client, server: ScriptedServer) -> None:
    assert story(client, server, {"status": "WARMING_UP"}, {"status": "RUNNING"}, {}, DONE) == [
        "Started",
        "Finished",
    ]


def test_times_are_seconds(client: Client, server: ScriptedServer) -> None:
    server.say(DONE)
    status = client.job("j").status()
    assert (status.queue_seconds, status.execution_seconds, status.worker_id) == (1.5, 0.25, "w1")


def test_nothing_comes_after_the_final_state(client: Client, server: ScriptedServer) -> None:
    server.say(DONE, at(9))
    job = client.job("j")
    assert job.wait().state is State.completed
    assert [job.status().state, job.cancel().state, job.wait().state] == [State.completed] * 3
    assert [type(event) for event in job.events()] == [Finished]
    assert len(server.seen) == 1


def test_a_result_seen_after_the_cancel_does_not_undo_it(
    client: Client, server: ScriptedServer
) -> None:
    server.say(RUNNING, CANCELLED, DONE)
    job = client.job("j")
    told: list[Any] = []
    for event in job.events():
        told.append(event)
        if isinstance(event, Started):
            job.cancel()
    assert isinstance(told[-1], Finished)
    assert [told[-1].status.state, job.status().state] == [State.cancelled] * 2


def test_the_result_is_typed_by_the_task_submitted(client: Client, server: ScriptedServer) -> None:
    server.say(QUEUED, DONE)
    result = client.run(DetectScenesTask(input_url="https://h/in.mp4"))
    assert isinstance(result, DetectScenesResult)
    assert result.scenes[0].end_frame == 9
    assert result.model_extra == {"a_newer_workers_field": [1]}


@pytest.mark.parametrize("task", ["detect_scenes", DetectScenesTask, None])
def test_a_job_taken_up_again_by_its_id(client: Client, server: ScriptedServer, task: Any) -> None:
    server.say(DONE)
    assert isinstance(client.job("j", task).result(), DetectScenesResult)


def test_a_result_of_an_unknown_task_keeps_its_fields(
    client: Client, server: ScriptedServer
) -> None:
    server.say({**DONE, "output": {"task": "juggle", "balls": 3}})
    result = client.job("j").result()
    assert type(result) is TaskResult
    assert result.model_extra == {"balls": 3}


def test_taking_up_a_job_sends_nothing_and_checks_its_arguments(
    client: Client, server: ScriptedServer
) -> None:
    assert repr(client.job("j", UpscaleTask)).endswith("Job('j', not known to have ended)")
    with pytest.raises(ConfigError, match="must be one of"):
        client.job("j", "upscal")
    with pytest.raises(ConfigError):
        client.job("../health")
    assert server.seen == []


# --- how a job fails
# ------------------------------------------------------------------------------------------


def fail(client: Client, server: ScriptedServer, **answer: Any) -> JobError:
    server.say({"id": "j", **answer})
    job = client.job("j", "upscale")
    with pytest.raises(JobError) as caught:
        job.result()
    assert caught.value.job is job
    return caught.value


def test_our_error_travels_whole(client: Client, server: ScriptedServer) -> None:
    sent = TaskError(ErrorCode.gpu_oom, "no tile fits", stage="process", tile_px=64)
    error = fail(client, server, status="FAILED", error=sent.body().to_wire())
    assert type(error) is OutOfMemory
    assert (error.code, error.message, error.stage) == ("gpu_oom", "no tile fits", "process")
    assert (error.retryable, error.details) == (True, {"tile_px": 64})


def test_an_error_that_is_not_a_string_or_stands_in_output(
    client: Client, server: ScriptedServer
) -> None:
    body = TaskError(ErrorCode.download_failed, "cut off").body()
    assert type(fail(client, server, status="FAILED", error=body.model_dump())) is InputUnavailable
    server.script.clear()
    assert (
        type(fail(client, server, status="FAILED", output={"error": body.to_wire()}))
        is InputUnavailable
    )


def test_a_newer_workers_code_and_stage(client: Client, server: ScriptedServer) -> None:
    error = fail(
        client,
        server,
        status="FAILED",
        error='{"code":"too_purple","message":"m","stage":"paint","new":1}',
    )
    assert type(error) is JobError
    assert (error.code, error.stage, error.retryable) == ("too_purple", "paint", False)


def test_the_traceback_of_runpods_sdk(client: Client, server: ScriptedServer) -> None:
    text = json.dumps(
        {
            "error_type": "<class 'requests.exceptions.HTTPError'>",
            "error_message": "403 for url: https://h/k?X-Amz-Signature=CANARY",
            "error_traceback": "Traceback ... https://h/k?X-Amz-Signature=CANARY",
            "hostname": "pod",
        }
    )
    error = fail(client, server, status="FAILED", error=text)
    assert type(error) is WorkerFault
    assert (
        error.message
        == "the worker crashed: requests.exceptions.HTTPError: 403 for url: https://h/k"
    )
    assert "CANARY" not in f"{error!r} {error.details}"
    assert (error.code, error.retryable) == ("internal", True)


@pytest.mark.parametrize(
    "text", ["worker exited", "[1, 2]", '"quoted"', "{", '{"code": 5}', "[" * 5000]
)
def test_any_other_text_is_a_fault_of_the_worker(
    client: Client, server: ScriptedServer, text: str
) -> None:
    error = fail(client, server, status="FAILED", error=text)
    assert type(error) is WorkerFault
    assert error.message == text[:2000]


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        ({"status": "CANCELLED"}, JobCancelled, "cancelled"),
        ({"status": "TIMED_OUT"}, JobTimedOut, "timed_out"),
        ({"status": "TIMED_OUT", "error": "job timed out"}, JobTimedOut, "timed_out"),
        ({"status": "COMPLETED"}, ResultLost, "result_lost"),
        ({"status": "COMPLETED", "output": None}, ResultLost, "result_lost"),
        (
            {"status": "COMPLETED", "output": {"task": "upscale"}},
            ResultUnreadable,
            "result_unreadable",
        ),
        ({"status": "COMPLETED", "output": SCENES}, ResultUnreadable, "result_unreadable"),
        ({"status": "COMPLETED", "output": "done"}, ResultUnreadable, "result_unreadable"),
        ({"status": "FAILED"}, WorkerFault, "internal"),
    ],
)
def test_every_end_without_a_result(
    client: Client, server: ScriptedServer, answer: dict[str, Any], kind: type[JobError], code: str
) -> None:
    error = fail(client, server, **answer)
    assert (type(error), error.code) == (kind, code)


def test_a_job_the_endpoint_has_forgotten(client: Client, server: ScriptedServer) -> None:
    server.say(RUNNING, Answer(status=404))
    job = client.job("j")
    with pytest.raises(JobExpired, match="30 minutes"):
        job.result()
    assert job.status().state is State.expired
    assert len(server.seen) == 2


def test_the_answer_of_another_job_is_none(client: Client, server: ScriptedServer) -> None:
    """A connection that two processes share hands out each other's answers."""
    server.say(DONE | {"id": "other"}, DONE)
    assert client.job("j").status().state is State.completed
    server.script[:] = [Answer(DONE | {"id": "other"})]
    with pytest.raises(APIConnectionError, match="another job"):
        client.job("j").result()


# --- waiting
# ------------------------------------------------------------------------------------------


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


def test_upscale_results_are_typed_too(client: Client, server: ScriptedServer) -> None:
    stats = {
        "input_resolution": "64x48",
        "output_resolution": "256x192",
        "frames_processed": 12,
        "fps": 3.5,
        "denoise": "none",
        "tiles": 1,
    }
    server.say(
        {**DONE, "output": {"task": "upscale", "output_url": "https://h/o.mp4", "stats": stats}}
    )
    result = client.job("j", UpscaleTask).result()
    assert isinstance(result, UpscaleResult)
    assert result.stats.output_resolution == "256x192"
