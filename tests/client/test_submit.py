"""What `submit` accepts, what it sends, and what it refuses before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import FakeTime, ScriptedServer

from gpu_worker_client import Client, ConfigError, InvalidTask, Policy, UnsupportedTask
from gpu_worker_client.protocol import (
    TASKS,
    DetectScenesParams,
    DetectScenesTask,
    SelftestTask,
    UpscaleParams,
    UpscaleTask,
)

QUEUED = {"id": "job-1", "status": "IN_QUEUE"}
SELFTEST: dict[str, Any] = {
    "versions": {},
    "device": "cpu",
    "encoders": {},
    "weights": {},
    "processors": {},
    "stats": {},
}
URLS = {"input_url": "https://h/in.mp4?sig=CANARY", "output_url": "https://h/out.mp4?sig=CANARY"}


@pytest.mark.parametrize(
    ("task", "sent"),
    [
        pytest.param(SelftestTask(), {"task": "selftest"}, id="a typed task: only what was set"),
        pytest.param(
            UpscaleTask(**URLS, params=UpscaleParams(scale=2.0)),
            {"task": "upscale", **URLS, "params": {"scale": 2.0}},
            id="parameters that were set",
        ),
        pytest.param(
            DetectScenesTask(
                input_url="https://h/i", params=DetectScenesParams(threshold=30.0, detector="hash")
            ),
            {
                "task": "detect_scenes",
                "input_url": "https://h/i",
                "params": {"threshold": 30.0, "detector": "hash"},
            },
            id="a default that was chosen is sent: a worker may tell it from one that was not",
        ),
        pytest.param({"task": "upscale", **URLS}, {"task": "upscale", **URLS}, id="a dict"),
        pytest.param(
            b'{"task": "selftest", "schema_version": 1}',
            {"task": "selftest", "schema_version": 1},
            id="JSON text",
        ),
    ],
)
def test_what_is_sent(
    client: Client, server: ScriptedServer, task: Any, sent: dict[str, Any]
) -> None:
    server.say(QUEUED)
    client.submit(task)
    assert server.seen[0].body["input"] == sent


@pytest.mark.parametrize(
    ("task", "kind", "hint"),
    [
        pytest.param(
            {"task": "upscal", **URLS},
            UnsupportedTask,
            'Did you mean "upscale"',
            id="a misspelt task",
        ),
        pytest.param({**URLS}, UnsupportedTask, "detect_scenes", id="no task"),
        pytest.param(
            {"task": "upscale", **URLS, "parms": {}},
            InvalidTask,
            'Did you mean "params"',
            id="a misspelt key",
        ),
        pytest.param(
            {"task": "upscale", "input_url": URLS["input_url"]},
            InvalidTask,
            "exactly one of",
            id="no output",
        ),
        pytest.param(
            {"task": "upscale", **URLS, "params": {"scale": 9}},
            InvalidTask,
            "params.scale",
            id="out of range",
        ),
        pytest.param(
            UpscaleTask.model_construct(**URLS, params="CANARY"),
            InvalidTask,
            "params",
            id="not validated before",
        ),
        pytest.param([1], InvalidTask, "object", id="not an object"),
        pytest.param(b"{", InvalidTask, "JSON", id="not JSON"),
        pytest.param({"task": "selftest", 1: {2}}, InvalidTask, "JSON", id="not JSON values"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
def test_a_wrong_task_fails_at_once_without_repeating_it(
    client: Client, server: ScriptedServer, task: Any, kind: type[InvalidTask], hint: str
) -> None:
    with pytest.raises(InvalidTask) as caught:
        client.submit(task)
    assert type(caught.value) is kind
    assert hint in str(caught.value)
    assert caught.value.job is None
    assert "CANARY" not in f"{caught.value!r} {caught.value.details}"
    assert server.seen == []


PUT = {"output_url": "https://h/out.mp4"}
PARTS = {
    "part_size": 5 * 2**20,
    "parts": [{"n": 1, "url": "s3://b/out.mp4?CANARY"}],
    "complete": {"url": "s3://b/out.mp4"},
}
RENDER = {
    "task": "render",
    "params": {"command_args": ["-i", "a.mp4", "o.mp4"], "output_filename": "o.mp4"},
}


@pytest.mark.parametrize(
    ("task", "places"),
    [
        ({"task": "beat", "input_url": "file:///CANARY.mp4"}, ["input_url"]),
        ({"task": "beat", "input_url": "s3://bucket/CANARY.mp4"}, ["input_url"]),
        ({"task": "beat", "input_url": "https://[CANARY"}, ["input_url"]),
        (
            {"task": "upscale", "input_url": "CANARY.mp4", "output_url": "/CANARY/out.mp4"},
            ["input_url", "output_url"],
        ),
        ({"task": "selftest", "result_url": "CANARY.json"}, ["result_url"]),
        ({"task": "selftest", "webhook_url": "me.example/CANARY"}, ["webhook_url"]),
        ({"task": "auto_crop", **URLS, "tracks_url": "CANARY.json"}, ["tracks_url"]),
        ({**RENDER, **PUT, "inputs": {"a.mp4": "https:CANARY"}}, ["inputs.a.mp4"]),
        (
            {"task": "upscale", "input_url": URLS["input_url"], "output_multipart": PARTS},
            ["output_multipart.parts.0.url", "output_multipart.complete.url"],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else value["task"],
)
def test_what_no_worker_can_open_fails_before_a_paid_start(
    client: Client, server: ScriptedServer, task: dict[str, Any], places: list[str]
) -> None:
    with pytest.raises(InvalidTask, match="must be an https URL") as caught:
        client.submit(task)
    assert [error["path"] for error in caught.value.details["errors"]] == places
    assert str(caught.value).startswith(f"invalid_task: {', '.join(places)}: ")
    assert "CANARY" not in f"{caught.value!r} {caught.value.details}"
    assert server.seen == []


def test_policy_and_webhook(client: Client, server: ScriptedServer) -> None:
    server.say(QUEUED)
    policy = Policy(execution_timeout_seconds=3600, ttl_seconds=7200.5, low_priority=True)
    client.submit(SelftestTask(), policy=policy, webhook="https://me.example/hook?token=1")
    assert server.seen[0].body == {
        "input": {"task": "selftest"},
        "policy": {"executionTimeout": 3_600_000, "ttl": 7_200_500, "lowPriority": True},
        "webhook": "https://me.example/hook?token=1",
    }


@pytest.mark.parametrize(
    "policy",
    [
        Policy(execution_timeout_seconds=4.9),
        Policy(execution_timeout_seconds=7 * 86_400 + 1),
        Policy(execution_timeout_seconds=float("nan")),
        Policy(ttl_seconds=9),
        Policy(ttl_seconds=float("inf")),
    ],
)
def test_a_policy_out_of_runpods_bounds(
    client: Client, server: ScriptedServer, policy: Policy
) -> None:
    with pytest.raises(ConfigError, match="seconds must be"):
        client.submit(SelftestTask(), policy=policy)
    assert server.seen == []


def test_a_policy_that_is_none(client: Client, server: ScriptedServer) -> None:
    wire: Any = {"executionTimeout": 60_000}
    with pytest.raises(ConfigError, match="must be a Policy"):
        client.submit(SelftestTask(), policy=wire)
    with pytest.raises(ConfigError, match="must be a Policy"):
        client.beat(__file__, policy=wire)
    assert server.seen == []


@pytest.mark.parametrize(
    "url", ["", "me.example/CANARY", "file:///CANARY", "https://", "https://[CANARY"]
)
def test_a_webhook_that_cannot_be_called(client: Client, server: ScriptedServer, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client.submit(SelftestTask(), webhook=url)
    assert "CANARY" not in str(caught.value)
    assert server.seen == []


def test_settings_come_from_the_environment_and_arguments_win(server: ScriptedServer) -> None:
    env = {
        "GPU_WORKER_ENDPOINT_ID": "from-env",
        "RUNPOD_API_KEY": "k",
        "GPU_WORKER_BASE_URL": server.url,
    }
    server.say({})
    with Client(env=env) as client:
        client.health()
    with Client("given", env=env) as client:
        client.health()
    assert server.asked == ["GET /v2/from-env/health", "GET /v2/given/health"]
    assert (
        repr(Client("given", env={"RUNPOD_API_KEY": "k"}))
        == "Client('given', base_url='https://api.runpod.ai/v2')"
    )


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "GPU_WORKER_ENDPOINT_ID"),
        ({"GPU_WORKER_ENDPOINT_ID": "e"}, "RUNPOD_API_KEY"),
        ({"GPU_WORKER_ENDPOINT_ID": "e", "RUNPOD_API_KEY": ""}, "RUNPOD_API_KEY"),
        ({"GPU_WORKER_ENDPOINT_ID": "../e", "RUNPOD_API_KEY": "k"}, "endpoint_id"),
        ({"GPU_WORKER_ENDPOINT_ID": "e", "RUNPOD_API_KEY": "CANARY\n"}, "api_key"),
        (
            {
                "GPU_WORKER_ENDPOINT_ID": "e",
                "RUNPOD_API_KEY": "k",
                "GPU_WORKER_BASE_URL": "http://h/v2",
            },
            "base_url",
        ),
    ],
)
def test_settings_that_cannot_work_are_named(env: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        Client(env=env)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("build", "hint"),
    [
        pytest.param(
            lambda: UpscaleParams(scale=9),
            "scale: Input should be less than or equal to 4",
            id="params",
        ),
        pytest.param(
            lambda: UpscaleTask(input_url="https://h/i?CANARY"),
            "exactly one of",
            id="a task without its output",
        ),
        pytest.param(
            lambda: UpscaleTask(**URLS, parms={}),
            'parms: unknown key. Did you mean "params"',
            id="a misspelt field",
        ),
        pytest.param(
            lambda: UpscaleTask(**URLS, params={"scal": 2}),
            'params.scal: unknown key. Did you mean "scale"',
            id="within",
        ),
        pytest.param(lambda: DetectScenesTask(), "input_url: Field required", id="nothing"),
    ],
)
def test_a_model_that_is_built_wrongly_is_an_invalid_task_too(build: Any, hint: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        build()
    assert hint in caught.value.message
    assert isinstance(caught.value, ValueError)
    assert caught.value.details["errors"][0].keys() == {"path", "problem"}
    assert "CANARY" not in f"{caught.value!r} {caught.value.details}"
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_policy_is_computed_unless_one_is_given(client: Client, server: ScriptedServer) -> None:
    server.say(QUEUED)
    task = UpscaleTask(**URLS)
    client.submit(task)
    client.submit(task, policy=Policy.for_task(task, 7200, width=1280, height=720))
    client.submit(task, policy=Policy())
    unknown, known, endpoints_own = (seen.body.get("policy") for seen in server.seen)
    day = 86_400_000
    assert unknown == {"executionTimeout": day // 2, "ttl": day + day // 2}
    assert known["executionTimeout"] > 7_200_000
    assert known["ttl"] == min(7 * day, known["executionTimeout"] + day)
    assert endpoints_own is None


def test_no_task_gets_less_than_runpods_default_of_ten_minutes() -> None:
    for name, kind in TASKS.items():
        for seconds in (None, 0.1, 3600.0):
            policy = Policy.for_task(kind.request.model_construct(task=name), seconds)
            assert (
                600
                <= (policy.execution_timeout_seconds or 0)
                <= (policy.ttl_seconds or 0)
                <= 7 * 86_400
            )


# --- a submit that is held open until the job has ended
# -------------------------------------------------------------------


def test_a_short_job_costs_one_request(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say({"id": "sync-1", "status": "COMPLETED", "output": {"task": "selftest"} | SELFTEST})
    assert client.run(SelftestTask(), wait_seconds=5).device == "cpu"
    assert server.asked == ["POST /v2/ep1/runsync?wait=5000"]
    assert time.sleeps == []


def test_one_that_takes_longer_is_followed_as_any(client: Client, server: ScriptedServer) -> None:
    server.say(
        {"id": "sync-1", "status": "IN_PROGRESS"},
        {"status": "COMPLETED", "output": {"task": "selftest"} | SELFTEST},
    )
    assert client.run(SelftestTask(), wait_seconds=1).device == "cpu"
    assert server.asked == ["POST /v2/ep1/runsync?wait=1000", "GET /v2/ep1/status/sync-1"]


def test_the_submit_is_not_held_open_past_the_deadline(
    client: Client, server: ScriptedServer
) -> None:
    server.say({"id": "j", "status": "COMPLETED", "output": {"task": "selftest"} | SELFTEST})
    client.run(SelftestTask(), timeout=3, wait_seconds=5)
    client.run(SelftestTask(), timeout=0.5, wait_seconds=5)
    assert server.asked == ["POST /v2/ep1/runsync?wait=3000", "POST /v2/ep1/run"]


@pytest.mark.parametrize("seconds", [0.9, 10.1, float("nan")])
def test_how_long_a_submit_may_be_held_open(
    client: Client, server: ScriptedServer, seconds: float
) -> None:
    with pytest.raises(ConfigError, match="wait_seconds must be 1 to 10"):
        client.run(SelftestTask(), wait_seconds=seconds)
    assert server.seen == []
