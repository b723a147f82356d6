"""`unwrap` against the specification's published vector and against events that are signed here by
hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gpu_worker_client import ConfigError, OutOfMemory, State, WebhookError, WebhookEvent, unwrap
from gpu_worker_client.protocol import DetectScenesResult, TaskResult
from gpu_worker_client.webhooks import sign, webhook_key

KEY = b"a key of thirty-two bytes, quite"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER = "whsec_" + base64.b64encode(b"x" * 24).decode()
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.utc)
RESULT: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [],
    "stats": {"total_scenes": 0, "avg_scene_length": 0.0},
}
DONE: dict[str, Any] = {
    "job_id": "j1",
    "task": "detect_scenes",
    "state": "completed",
    "result": RESULT,
}


def event(data: dict[str, Any], kind: str = "job.completed") -> bytes:
    return json.dumps({"type": kind, "timestamp": "2030-01-01T11:59:58Z", "data": data}).encode()


def signed(body: bytes, *, key: bytes = KEY, at: datetime = NOW) -> dict[str, str]:
    """As the specification has it, with nothing of the SDK."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(key, b".".join([b"msg_1", timestamp.encode(), body]), hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": timestamp, "webhook-signature": signature}


def opened(
    body: bytes | str, headers: dict[str, str], secret: str | list[str] = SECRET
) -> WebhookEvent:
    return unwrap(body, headers, secret, now=NOW)


def test_the_vector_of_the_specifications_libraries() -> None:
    """https://github.com/standard-webhooks/standard-webhooks; `openssl dgst -sha256 -mac HMAC` says
    the same."""
    key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_completed_job_comes_typed() -> None:
    body = event(DONE | {"idempotency_key": "k"})
    found = opened(body, signed(body))
    assert isinstance(found.result, DetectScenesResult)
    assert (found.id, found.type, found.job_id, found.task) == (
        "msg_1",
        "job.completed",
        "j1",
        "detect_scenes",
    )
    assert (found.state, found.idempotency_key, found.partial, found.error) == (
        State.completed,
        "k",
        False,
        None,
    )
    assert (found.sent_at, found.ended_at) == (NOW, NOW - timedelta(seconds=2))
    assert unwrap(body.decode(), signed(body), SECRET, now=NOW) == found


def test_a_partial_result_has_what_every_result_has() -> None:
    body = event(
        DONE | {"partial": True, "result": {"task": "detect_scenes", "stats": {"total_scenes": 9}}}
    )
    found = opened(body, signed(body))
    assert found.partial and type(found.result) is TaskResult
    assert found.result.model_extra == {"stats": {"total_scenes": 9}}


def test_a_failed_job_brings_its_error() -> None:
    error = {"code": "gpu_oom", "message": "no tile fits", "retryable": True, "stage": "process"}
    body = event(
        {"job_id": "j1", "task": "upscale", "state": "failed", "error": error}, "job.failed"
    )
    found = opened(body, signed(body))
    assert isinstance(found.error, OutOfMemory) and found.error.retryable
    assert (found.state, found.result) == (State.failed, None)


@pytest.mark.parametrize("seconds", [-300, -299, 0, 299, 300])
def test_five_minutes_to_both_sides_are_tolerated(seconds: int) -> None:
    body = event(DONE)
    assert opened(body, signed(body, at=NOW + timedelta(seconds=seconds))).job_id == "j1"


@pytest.mark.parametrize("seconds", [-301, 301, 10**9])
def test_more_is_a_replay(seconds: int) -> None:
    body = event(DONE)
    with pytest.raises(WebhookError, match="timestamp"):
        opened(body, signed(body, at=NOW + timedelta(seconds=seconds)))


def test_one_signature_of_several_is_enough_while_secrets_change() -> None:
    body = event(DONE)
    mine, other = signed(body), signed(body, key=b"x" * 24)
    both = mine | {
        "webhook-signature": f"v1a,AAAA {other['webhook-signature']} {mine['webhook-signature']}"
    }
    assert opened(body, both).job_id == "j1"
    assert opened(body, mine, [OTHER, SECRET]).job_id == "j1"


def test_the_body_is_hashed_once_for_each_secret_however_many_signatures_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed: list[bytes] = []

    def counted(key: bytes, *message: Any) -> str:
        hashed.append(key)
        return sign(key, *message)

    monkeypatch.setattr("gpu_worker_client.webhooks.sign", counted)
    body = event(DONE)
    mine = signed(body)
    many = mine | {"webhook-signature": "v1, " * 15 + mine["webhook-signature"]}
    assert opened(body, many, [OTHER, SECRET]).job_id == "j1"
    assert hashed == [b"x" * 24, KEY]


def test_header_names_in_any_case() -> None:
    body = event(DONE)
    assert (
        opened(body, {name.title(): value for name, value in signed(body).items()}).job_id == "j1"
    )


BODY = event(DONE)
GOOD = signed(BODY)
SIGNATURE = GOOD["webhook-signature"]


@pytest.mark.parametrize(
    ("body", "headers", "secret", "says"),
    [
        pytest.param(BODY, {}, SECRET, "no header webhook-id, webhook-timestamp", id="no headers"),
        pytest.param(
            BODY,
            GOOD | {"webhook-signature": ""},
            SECRET,
            "no header webhook-signature",
            id="no signature",
        ),
        pytest.param(
            BODY, GOOD | {"webhook-timestamp": "soon"}, SECRET, "no number", id="no timestamp"
        ),
        pytest.param(
            BODY, GOOD | {"webhook-timestamp": "1e9"}, SECRET, "no number", id="another spelling"
        ),
        pytest.param(BODY, GOOD, OTHER, "fits", id="another secret"),
        pytest.param(BODY, GOOD, [], "fits", id="no secret"),
        pytest.param(BODY + b" ", GOOD, SECRET, "fits", id="another body"),
        pytest.param(BODY, GOOD | {"webhook-id": "msg_2"}, SECRET, "fits", id="another id"),
        pytest.param(
            BODY, GOOD | {"webhook-signature": SIGNATURE[3:]}, SECRET, "fits", id="no version"
        ),
        pytest.param(
            BODY,
            GOOD | {"webhook-signature": "v1a" + SIGNATURE[2:]},
            SECRET,
            "fits",
            id="another version",
        ),
        pytest.param(
            BODY,
            GOOD | {"webhook-signature": SIGNATURE[:-4]},
            SECRET,
            "fits",
            id="half a signature",
        ),
        pytest.param(BODY, GOOD | {"webhook-signature": "v1,ü"}, SECRET, "fits", id="not ASCII"),
        pytest.param(
            BODY, GOOD | {"webhook-signature": "v1,"}, SECRET, "fits", id="empty signature"
        ),
        pytest.param(
            BODY,
            GOOD | {"webhook-id": "m\udcff"},
            SECRET,
            "webhook-id .* no text",
            id="undecodable id",
        ),
        pytest.param(
            BODY,
            GOOD | {"webhook-signature": "v1,\udcff"},
            SECRET,
            "no text",
            id="undecodable signature",
        ),
        pytest.param("\udcff", GOOD, SECRET, "the body .* no text", id="undecodable body"),
        *(
            pytest.param(
                BODY, GOOD | {name: b"1"}, SECRET, f"{name} .* no text", id=f"bytes as {name}"
            )
            for name in GOOD
        ),
        pytest.param(
            BODY,
            GOOD | {"webhook-signature": " ".join([SIGNATURE] * 17)},
            SECRET,
            "more than 16",
            id="too many",
        ),
    ],
)
def test_what_is_not_the_workers_is_refused(
    body: bytes | str, headers: Any, secret: Any, says: str
) -> None:
    with pytest.raises(WebhookError, match=says) as caught:
        opened(body, headers, secret)
    assert "whsec_" not in str(caught.value) and "v1," not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        event({"job_id": "CANARY"}),
        event(DONE | {"state": "CANARY"}),
        event(DONE | {"result": {"task": "detect_scenes", "scenes": "CANARY"}}),
    ],
)
def test_a_signed_body_that_is_no_event(body: bytes) -> None:
    with pytest.raises(WebhookError, match="no event") as caught:
        opened(body, signed(body))
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        SECRET[6:],
        "whsec_!!!",
        "whsec_" + base64.b64encode(b"short").decode(),
        "whsec_ü",
    ],
)
def test_a_secret_that_is_none(secret: str) -> None:
    with pytest.raises(ConfigError, match="24 to 64 bytes") as caught:
        opened(BODY, GOOD, secret)
    assert len(secret) < 7 or secret not in str(caught.value)
