"""Results that the endpoint lost or forgot, read from where the task had the worker keep them, over
real HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import Answer, ScriptedServer, scripted_server

from gpu_worker_client import (
    APIConnectionError,
    Client,
    JobError,
    JobExpired,
    ResultLost,
    stored_result,
)
from gpu_worker_client._endpoint import Endpoint
from gpu_worker_client.protocol import DetectScenesResult, DetectScenesTask, TaskHeaders

KEPT: dict[str, Any] = {
    "task": "detect_scenes",
    "idempotency_key": "clip-1",
    "scenes": [{"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9}],
    "stats": {"total_scenes": 1, "avg_scene_length": 1.0},
}
SUMMARY = {name: value for name, value in KEPT.items() if name != "scenes"} | {
    "scenes_count": 1,
    "result_url": "https://bucket.example/results/r.json",
}
QUEUED = {"id": "j", "status": "IN_QUEUE"}
LOST = Answer({"id": "j", "status": "COMPLETED"})
FORGOTTEN = Answer(status=404)


@pytest.fixture
def bucket() -> Iterator[ScriptedServer]:
    with scripted_server() as bucket:
        yield bucket


def task(bucket: ScriptedServer, name: str = "r.json", **fields: Any) -> DetectScenesTask:
    """A task whose result is kept. The API's key must not follow it there."""
    url = f"{bucket.url}/{name}"
    return DetectScenesTask(
        input_url="https://h/in.mp4",
        result_url=f"{url}?X-Amz-Signature=PUT",
        result_get_url=f"{url}?X-Amz-SignedHeaders=host%3Bx-amz-meta-a&X-Amz-Signature=CANARY",
        idempotency_key="clip-1",
        **fields,
    )


@pytest.mark.parametrize("end", [LOST, FORGOTTEN], ids=["lost", "forgotten"])
def test_a_result_that_was_kept_is_not_lost(
    client: Client, server: ScriptedServer, bucket: ScriptedServer, end: Answer
) -> None:
    server.say(QUEUED, end)
    bucket.say(Answer(KEPT))
    headers = TaskHeaders(result={"X-Amz-Meta-A": "b", "X-Unsigned": "c"})
    result = client.run(task(bucket, headers=headers))
    assert isinstance(result, DetectScenesResult) and result.scenes[0].end_frame == 9
    (seen,) = bucket.seen
    assert (seen.method, seen.headers.get("X-Amz-Meta-A")) == ("GET", "b")
    assert "Authorization" not in seen.headers and "X-Unsigned" not in seen.headers


def test_so_it_is_for_a_job_taken_up_again_with_its_task(
    client: Client, server: ScriptedServer, bucket: ScriptedServer
) -> None:
    server.say(FORGOTTEN)
    bucket.say(Answer(KEPT))
    assert client.job("j", task(bucket)).result().stats.total_scenes == 1
    with pytest.raises(JobExpired):
        client.job("j", DetectScenesTask).result()


def test_the_whole_of_which_the_answer_is_a_summary(
    client: Client, server: ScriptedServer, bucket: ScriptedServer
) -> None:
    server.say(QUEUED, {"id": "j", "status": "COMPLETED", "output": SUMMARY})
    bucket.say(Answer(gzip.compress(json.dumps(KEPT).encode())))
    assert len(client.run(task(bucket, "r.json.gz")).scenes) == 1


def test_storage_is_not_told_what_netrc_has_for_it(
    client: Client,
    server: ScriptedServer,
    bucket: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "netrc").write_text("default login someone password CANARY\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.say(
        {
            "id": "j",
            "status": "COMPLETED",
            "output": SUMMARY | {"result_url": f"{bucket.url}/r.json?X-Amz-Signature=GET"},
        }
    )
    bucket.say(Answer(KEPT))
    assert len(client.job("j", DetectScenesTask).result().scenes) == 1
    assert "Authorization" not in bucket.seen[0].headers


@pytest.mark.parametrize(
    "url", ["{bucket}/r.json?CANARY", "http://[::1/r.json?CANARY", "file:///etc/passwd?CANARY"]
)
def test_an_endpoint_elsewhere_cannot_have_this_machine_asked(
    client: Client,
    server: ScriptedServer,
    bucket: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    server.say(
        {
            "id": "j",
            "status": "COMPLETED",
            "output": SUMMARY | {"result_url": url.format(bucket=bucket.url)},
        }
    )
    monkeypatch.setattr(
        Endpoint, "on_loopback", False
    )  # no certificate here, that one elsewhere would have
    with pytest.raises(APIConnectionError, match="no https URL") as caught:
        client.job("j", DetectScenesTask).result()
    assert not caught.value.transient and bucket.seen == []
    assert "CANARY" not in f"{caught.value!r}"


def test_a_whole_answer_is_not_read_again(
    client: Client, server: ScriptedServer, bucket: ScriptedServer
) -> None:
    server.say(QUEUED, {"id": "j", "status": "COMPLETED", "output": KEPT})
    client.run(task(bucket))
    assert bucket.seen == []


@pytest.mark.parametrize("end", [LOST, FORGOTTEN], ids=["lost", "forgotten"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(b"<Error/>", status=404), id="nothing there"),
        pytest.param(Answer(KEPT | {"idempotency_key": "clip-2"}), id="the result of other work"),
        pytest.param(
            Answer({"task": "beat", "idempotency_key": "clip-1"}), id="the result of another task"
        ),
        pytest.param(Answer(b"no JSON"), id="no result"),
    ],
)
def test_what_is_not_there_is_lost(
    client: Client, server: ScriptedServer, bucket: ScriptedServer, end: Answer, answer: Answer
) -> None:
    server.say(QUEUED, end)
    bucket.say(answer)
    with pytest.raises(JobError) as caught:
        client.run(task(bucket))
    assert type(caught.value) is (ResultLost if end is LOST else JobExpired)


def test_storage_in_trouble_is_no_lost_result(
    client: Client, server: ScriptedServer, bucket: ScriptedServer
) -> None:
    server.say(LOST)
    bucket.say(*[Answer(status=503)] * 6, Answer(KEPT))
    job = client.job("j", task(bucket))
    with pytest.raises(APIConnectionError, match="answered 503") as caught:
        job.result()
    assert "CANARY" not in f"{caught.value!r}"
    assert job.result().stats.total_scenes == 1  # and so it can be asked for again


@pytest.mark.parametrize(
    "data",
    [b"no gzip", gzip.compress(b"{}")[:-4], gzip.compress(b" " * 2000)],
    ids=["no gzip", "cut off", "a bomb"],
)
def test_gzip_that_is_none_is_cut_or_is_a_bomb(
    client: Client,
    server: ScriptedServer,
    bucket: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
) -> None:
    monkeypatch.setattr(stored_result, "MAX_RESULT_BYTES", 1000)
    server.say({"id": "j", "status": "COMPLETED", "output": SUMMARY})
    bucket.say(Answer(data))
    with pytest.raises(APIConnectionError, match="the bucket that holds the result answered"):
        client.job("j", task(bucket, "r.json.gz")).result()
