"""A job's life as the handle sees it: events in order, no state after the last, results typed."""

from __future__ import annotations

from typing import Any

import pytest
from support.job_story import CANCELLED, DONE, QUEUED, RUNNING, at, story
from support.scripted_server import ScriptedServer

from gpu_worker_client import Client, ConfigError, Finished, Progress, Started, State
from gpu_worker_client.protocol import (
    DetectScenesResult,
    DetectScenesTask,
    TaskResult,
    UpscaleResult,
    UpscaleTask,
)

pytestmark = pytest.mark.usefixtures("health")


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
