"""The worker's own webhooks over real HTTP: signed, tried again, bounded, guarded, and never in the
way of the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support import e2e_stage
from support.webhook_receiver import Receiver, receiver

from gpu_worker.app import Worker
from gpu_worker.settings import ConfigError, Settings
from gpu_worker.transfer import Network, UrlPolicy
from gpu_worker.webhook import MAX_RESULT_BYTES, Notice, Webhooks, event_body
from gpu_worker_client import Client, InvalidTask, State, UrlRefused, WebhookEvent, unwrap
from gpu_worker_client.protocol import (
    DetectScenesResult,
    DetectScenesTask,
    ErrorBody,
    ErrorCode,
    SelftestTask,
    TaskError,
    parse_task,
)
from gpu_worker_processors.engine.host import Engine

KEYS = (b"first key of thirty-two bytes, ok", b"second key of thirty-two bytes, k")
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS]
STATS = {"total_scenes": 0, "avg_scene_length": 0.0}
ANSWER: dict[str, Any] = {
    "task": "detect_scenes",
    "status": "completed",
    "warnings": [],
    "scenes": [],
    "stats": STATS,
}


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as kept:
        yield kept


def policy(hook: Receiver) -> UrlPolicy:
    return UrlPolicy(exempt_hosts=frozenset({hook.host}))


def notice(
    hook: Receiver,
    *,
    url: str | None = None,
    network: Network | None = None,
    keys: tuple[bytes, ...] = KEYS,
) -> Notice:
    quick = network or Network(pause=lambda guard, _: guard.check())
    task = DetectScenesTask(
        input_url="https://h/in.mp4", webhook_url=url or hook.url, idempotency_key="mine"
    )
    made = Webhooks(keys, policy(hook), quick).notice("job-1", task)
    assert made is not None
    return made


def read(hook: Receiver, index: int = 0, secret: str = SECRETS[0]) -> WebhookEvent:
    headers, body = hook.requests[index]
    return unwrap(body, headers, secret)


def warnings(answer: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


def test_a_completed_job_is_told_once_and_signed_by_every_secret(hook: Receiver) -> None:
    assert notice(hook).send(ANSWER, threading.Event()) == ANSWER
    assert len(hook.requests) == 1
    for secret in SECRETS:
        event = read(hook, secret=secret)
        assert (event.job_id, event.state, event.idempotency_key) == (
            "job-1",
            State.completed,
            "mine",
        )
        assert isinstance(event.result, DetectScenesResult)


def test_a_receiver_in_trouble_is_asked_again_under_the_same_id(hook: Receiver) -> None:
    hook.statuses = [503, 429, 500]
    answer = notice(hook).send(ANSWER, threading.Event())
    assert warnings(answer) == []
    assert {read(hook, index).id for index in range(4)} == {read(hook).id}
    assert len(hook.requests) == 4


@pytest.mark.parametrize(
    ("statuses", "tries", "says"),
    [([503] * 9, 4, "storage_unavailable"), ([410], 1, "url_denied"), ([302], 1, "redirect")],
)
def test_an_event_that_nobody_takes_is_a_warning(
    hook: Receiver, statuses: list[int], tries: int, says: str
) -> None:
    hook.statuses = statuses
    answer = notice(hook).send(ANSWER, threading.Event())
    assert warnings(answer) == ["webhook_undelivered"]
    assert says in answer["warnings"][0]["message"] and "CANARY" not in json.dumps(answer)
    assert len(hook.requests) == tries


def test_a_failed_jobs_answer_stays_as_it_is(hook: Receiver) -> None:
    hook.statuses = [400]
    answer = {
        "error": ErrorBody(code="gpu_oom", message="no tile fits", retryable=True).to_wire(),
        "refresh_worker": True,
    }
    assert notice(hook).send(answer, threading.Event()) == answer
    event = read(hook)
    assert event.type == "job.failed" and event.error is not None and event.error.code == "gpu_oom"


def test_a_silent_receiver_holds_the_answer_up_no_longer_than_it_may(hook: Receiver) -> None:
    hook.silent = threading.Event()
    answer = notice(hook).send(ANSWER, threading.Event(), seconds=0.3)
    assert warnings(answer) == ["webhook_undelivered"]


def test_another_end_of_the_same_job_has_another_id(hook: Receiver) -> None:
    failed = {"error": ErrorBody(code="internal", message="m").to_wire()}
    for answer in (ANSWER, failed, ANSWER):
        notice(hook).send(answer, threading.Event())
    first, second, third = (read(hook, index).id for index in range(3))
    assert first == third != second


def test_a_name_that_leads_inside_is_never_dialled(hook: Receiver) -> None:
    dialled: list[object] = []
    network = Network(
        resolve=lambda host, port: [("10.0.0.1", port)],
        connect=lambda sock, address: dialled.append(address),
        pause=lambda guard, _: guard.check(),
    )
    answer = notice(hook, url="https://hooks.example.com/x", network=network).send(
        ANSWER, threading.Event()
    )
    assert "address_not_allowed" in answer["warnings"][0]["message"]
    assert dialled == []


@pytest.mark.parametrize(
    ("url", "keys", "code"),
    [
        ("http://hooks.example.com/x", KEYS, ErrorCode.url_not_allowed),
        ("/etc/passwd", KEYS, ErrorCode.url_not_allowed),
        ("https://169.254.169.254/latest", KEYS, ErrorCode.address_not_allowed),
        ("https://hooks.example.com:8443/x", KEYS, ErrorCode.url_not_allowed),
        ("https://hooks.example.com/x", (), ErrorCode.webhook_unavailable),
    ],
)
def test_what_is_refused_before_any_work(
    hook: Receiver, url: str, keys: tuple[bytes, ...], code: ErrorCode
) -> None:
    with pytest.raises(TaskError) as caught:
        notice(hook, url=url, keys=keys)
    assert (caught.value.code, caught.value.details["path"]) == (code, "webhook_url")


def test_a_large_result_and_a_signature_stay_at_home(hook: Receiver) -> None:
    task = parse_task({"task": "detect_scenes", "input_url": "https://h/in.mp4"})
    scenes = [
        {"start_frame": i, "end_frame": i, "start_time": 0.0, "end_time": 0.0}
        for i in range(MAX_RESULT_BYTES // 50)
    ]
    big = {
        "task": "detect_scenes",
        "scenes": scenes,
        "stats": {"total_scenes": 5},
        "result_url": "https://h/r.json?X-Amz-S=CANARY",
    }
    body = event_body("j", task, big, datetime(2030, 1, 1, tzinfo=timezone.utc))
    assert len(body) < MAX_RESULT_BYTES and b"CANARY" not in body
    data = json.loads(body)["data"]
    assert (
        data["partial"]
        and data["result"]["stats"] == {"total_scenes": 5}
        and "scenes" not in data["result"]
    )
    assert data["result"]["result_url"] == "https://h/r.json"


class InProcess:
    """A worker whose engine never needs to start: its tasks are refused, or answered from what is
    there."""

    def __init__(self, hook: Receiver, folder: Path) -> None:
        self.settings = Settings(
            work_root=folder, exempt_hosts=frozenset({hook.host}), webhook_keys=KEYS
        )
        self.worker = Worker(self.settings, Engine(self.settings, os.environ))

    def job(self, hook: Receiver) -> dict[str, Any]:
        task = {
            "task": "detect_scenes",
            "input_url": "https://127.0.0.1/in.mp4",
            "webhook_url": hook.url,
        }
        return {"id": "job-7", "input": task}


def test_a_refused_task_is_told_too(hook: Receiver, tmp_path: Path) -> None:
    inside = InProcess(hook, tmp_path)
    answer = asyncio.run(inside.worker.handle(inside.job(hook)))
    assert "address_not_allowed" in answer["error"]
    event = read(hook)
    assert (event.job_id, event.task) == ("job-7", "detect_scenes")
    assert isinstance(event.error, UrlRefused) and not isinstance(event.error, InvalidTask)


@pytest.mark.parametrize("draining", [False, True])
def test_a_cancel_while_the_receiver_is_silent(
    hook: Receiver, tmp_path: Path, draining: bool
) -> None:
    """A cancel of the job is passed on; a shutdown ends the sending and the answer goes out."""
    hook.silent = threading.Event()
    inside = InProcess(hook, tmp_path)

    async def scenario() -> dict[str, Any]:
        running = asyncio.ensure_future(inside.worker.handle(inside.job(hook)))
        await asyncio.to_thread(hook.arrived.wait, 10)
        if draining:
            inside.worker.drain()
        else:
            running.cancel()
        return await running

    if draining:
        assert "address_not_allowed" in asyncio.run(scenario())["error"]
        return
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())


def test_the_setting() -> None:
    env = {"GPU_WORKER_WEBHOOK_SECRETS": f"{SECRETS[0]}, {SECRETS[1]}"}
    settings = Settings.from_env(env)
    assert settings.webhook_keys == KEYS
    assert "key of thirty" not in repr(settings)
    assert replace(settings, webhook_keys=()) == Settings.from_env({})
    with pytest.raises(ConfigError, match="GPU_WORKER_WEBHOOK_SECRETS") as caught:
        Settings.from_env({"GPU_WORKER_WEBHOOK_SECRETS": "whsec_CANARY"})
    assert "CANARY" not in str(caught.value)


@pytest.mark.slow
def test_through_the_platform(
    hook: Receiver, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unmodified runpod loop, set up as a user of `gpu-worker dev-server` does it: by the
    environment."""
    monkeypatch.setenv("GPU_WORKER_WEBHOOK_SECRETS", ",".join(SECRETS))
    monkeypatch.setenv("GPU_WORKER_EXEMPT_HOSTS", hook.host)
    for stage in e2e_stage.start(tmp_path_factory):
        client: Client = stage.client
        job = client.submit(SelftestTask(webhook_url=hook.url))
        result = job.result(timeout=120)
        event = read(hook)
        assert (event.job_id, event.state) == (job.id, State.completed)
        assert event.result == result
        assert "CANARY" not in stage.worker.log_tail()
