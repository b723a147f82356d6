"""How a job fails: every end without a result is typed, and says what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.job_story import DONE, RUNNING, SCENES
from support.scripted_server import Answer, ScriptedServer

from gpu_worker_client import (
    APIConnectionError,
    Client,
    InputUnavailable,
    JobCancelled,
    JobError,
    JobExpired,
    JobTimedOut,
    OutOfMemory,
    ResultLost,
    ResultUnreadable,
    State,
    WorkerFault,
)
from gpu_worker_client.protocol import ErrorCode, TaskError

pytestmark = pytest.mark.usefixtures("health")


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
