"""The endpoint over real HTTP: which requests go out, which are sent again, and what an answer
becomes."""

from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.scripted_server import Answer, FakeTime, ScriptedServer, unused_port

from gpu_worker_client import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    Client,
    ConfigError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    ServerError,
)
from gpu_worker_client._http import _session

API_KEY = "rpa_CANARYkey0123456789"
TASK = {"task": "selftest"}
NAMED = {"task": "selftest", "idempotency_key": "once"}
STORED = {"result_url": "https://h/r.json?put", "result_get_url": "https://h/r.json?get"}
KEYED = NAMED | STORED
QUEUED = {"id": "job-1", "status": "IN_QUEUE"}


def test_submit_sends_what_runpod_documents(client: Client, server: ScriptedServer) -> None:
    server.say(QUEUED)
    assert client.submit(TASK).id == "job-1"
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v2/ep1/run")
    # Milliseconds: RunPod's own 10 minutes suffice for a selftest; a day in the queue comes on top.
    assert seen.body == {
        "input": TASK,
        "policy": {"executionTimeout": 600_000, "ttl": 600_000 + 86_400_000},
    }
    assert seen.headers["Authorization"] == f"Bearer {API_KEY}"
    assert re.fullmatch(r"gpu-worker-client/\d+\.\d+\.\d+", seen.headers["User-Agent"])
    assert seen.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("task", "fault", "sent"),
    [
        pytest.param(TASK, Answer(hang_up=True), 1, id="hang-up without a key: not sent again"),
        pytest.param(TASK, Answer(status=500), 1, id="500 without a key: not sent again"),
        pytest.param(TASK, Answer(status=429), 2, id="429: sent again"),
        pytest.param(KEYED, Answer(hang_up=True), 2, id="hang-up with a key: sent again"),
        pytest.param(KEYED, Answer(status=503), 2, id="503 with a key: sent again"),
        pytest.param(KEYED, Answer(QUEUED, cut_body=True), 2, id="cut body with a key: sent again"),
        pytest.param(KEYED, Answer(status=400), 1, id="400: never"),
        pytest.param(NAMED, Answer(hang_up=True), 1, id="hang-up, a key alone: not sent again"),
    ],
)
def test_a_submit_is_sent_again_only_when_that_is_safe(
    client: Client, server: ScriptedServer, task: dict[str, str], fault: Answer, sent: int
) -> None:
    server.say(fault, QUEUED)
    with pytest.warns(UserWarning, match="result_get_url") if task is NAMED else nullcontext():
        try:
            assert client.submit(task).id == "job-1"
        except (APIConnectionError, APIError):
            assert sent == 1
    assert server.asked == ["POST /v2/ep1/run"] * sent


def test_a_lost_answer_says_that_the_job_may_run(client: Client, server: ScriptedServer) -> None:
    server.say(Answer(hang_up=True))
    with pytest.raises(APIConnectionError, match="may have taken the request") as caught:
        client.submit(TASK)
    assert caught.value.may_have_arrived


def test_a_refused_connection_is_tried_six_times(time: FakeTime) -> None:
    with Client(
        "ep1", API_KEY, f"http://127.0.0.1:{unused_port()}", timing=time.timing()
    ) as client:
        with pytest.raises(APIConnectionError, match="refused") as caught:
            client.submit(TASK)
    assert re.search(r"from 127\.0\.0\.1:\d+ .*; check GPU_WORKER_BASE_URL$", str(caught.value))
    assert not caught.value.may_have_arrived
    assert time.sleeps == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_reads_survive_five_bad_answers_with_growing_pauses(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    bad = [
        Answer(status=502),
        Answer(hang_up=True),
        Answer(status=504),
        Answer({"a": 1}, cut_body=True),
        Answer(status=500),
    ]
    server.say(*bad, {"workers": {}})
    assert client.health() == {"workers": {}}
    assert time.sleeps == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_the_sixth_bad_answer_is_raised(client: Client, server: ScriptedServer) -> None:
    server.say(Answer(status=503))
    with pytest.raises(ServerError) as caught:
        client.health()
    assert caught.value.status == 503
    assert len(server.seen) == 6


@pytest.mark.parametrize("value", ["7", "Tue, 01 Jan 2030 00:00:07 GMT"])
def test_retry_after_is_honoured(
    client: Client, server: ScriptedServer, time: FakeTime, value: str
) -> None:
    server.say(Answer(status=429, headers={"Retry-After": value}), {"ok": True})
    client.health()
    assert time.sleeps == [7.25]


def test_a_very_long_retry_after_is_the_callers_business(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(Answer(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(RateLimitError) as caught:
        client.health()
    assert caught.value.retry_after_seconds == 3600
    assert time.sleeps == []


def test_no_retry_starts_after_the_deadline(
    client: Client, server: ScriptedServer, time: FakeTime
) -> None:
    server.say(Answer(status=429, headers={"Retry-After": "20"}))
    with pytest.raises(RateLimitError):
        client.run(TASK, timeout=10)
    assert time.sleeps == []
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, APIError, ""),
        (401, AuthenticationError, "; check RUNPOD_API_KEY"),
        (403, AuthenticationError, "; check RUNPOD_API_KEY"),
        (404, NotFoundError, "; check GPU_WORKER_ENDPOINT_ID and GPU_WORKER_BASE_URL"),
        (413, PayloadTooLargeError, ""),
        (429, RateLimitError, ""),
        (500, ServerError, ""),
        (503, ServerError, ""),
    ],
)
def test_each_status_has_its_error(
    client: Client, server: ScriptedServer, status: int, kind: type[APIError], advice: str
) -> None:
    body = {"error": "at https://h/k?X-Amz-Signature=CANARY"}
    server.say(Answer(body, status=status, headers={"X-Request-Id": "req-9"}))
    with pytest.raises(APIError) as caught:
        client.submit(TASK)
    assert type(caught.value) is kind
    assert str(caught.value).endswith(advice)
    assert (caught.value.status, caught.value.request_id) == (status, "req-9")
    assert "https://h/k" in caught.value.body
    assert "CANARY" not in caught.value.body + str(caught.value)


def test_the_status_lines_words_cannot_steer_a_terminal(
    client: Client, server: ScriptedServer
) -> None:
    server.say(Answer(status=400, reason="no \x1b[2J\x9b2J"))
    with pytest.raises(APIError) as caught:
        client.health()
    assert str(caught.value).endswith(r"400 no \x1b[2J\x9b2J")


def test_a_redirect_is_refused_and_the_key_goes_nowhere_else(
    client: Client, server: ScriptedServer
) -> None:
    server.say(
        Answer(
            status=307,
            headers={"Location": server.url.replace("127.0.0.1", "localhost") + "/other"},
        )
    )
    with pytest.raises(APIError, match="redirects are refused"):
        client.submit(TASK)
    assert server.asked == ["POST /v2/ep1/run"]


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b"null", b"", b"\xff"])
def test_an_answer_that_is_no_json_object(
    client: Client, server: ScriptedServer, body: bytes
) -> None:
    server.say(Answer(body))
    with pytest.raises(APIError, match="not a JSON object"):
        client.health()


@pytest.mark.parametrize("answer", [{}, {"id": 7}, {"id": "../../x"}])
def test_an_answer_without_a_usable_job_id(
    client: Client, server: ScriptedServer, answer: dict[str, object]
) -> None:
    server.say(answer)
    with pytest.raises((APIError, ConfigError), match="job"):
        client.submit(TASK)


def test_a_netrc_entry_does_not_replace_the_api_key(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.say({"ok": True})
    # As for a host outside: loopback itself never reads the environment.
    with _session(API_KEY, trust_environment=True) as session:
        session.get(server.url.replace("127.0.0.1", "localhost"))
    assert server.seen[0].headers["Authorization"] == f"Bearer {API_KEY}"


def test_a_proxy_that_refuses_took_no_request(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers CONNECT itself: nothing reached the endpoint, and nobody is told that it may
    have."""
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = Client("ep1", API_KEY, "https://endpoint.example", timing=FakeTime().timing())
    with client, pytest.raises(APIConnectionError) as caught:
        client.submit(TASK)
    assert caught.value.may_have_arrived is False
    assert "Tunnel connection failed: 501" in str(caught.value)
    assert "may have taken" not in str(caught.value)


def test_a_proxy_of_the_environment_does_not_see_loopback(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.say({"ok": True})
    with Client("ep1", API_KEY, server.url) as client:
        assert client.health() == {"ok": True}


def test_the_api_key_is_in_no_text(
    client: Client, server: ScriptedServer, time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.say(Answer({"error": f"bad key: Bearer {API_KEY}"}, status=503))
    with pytest.raises(ServerError) as caught:
        client.health()
    shown = [
        repr(client),
        str(caught.value),
        repr(caught.value),
        caught.value.body,
        caplog.text,
    ]
    assert "retry 5" in caplog.text
    assert all("CANARY" not in text for text in shown)
