"""When a request is sent again and how long the pause is: the pure rules, one row each."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise

import pytest

from gpu_worker_client import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ConfigError,
    GpuWorkerError,
    RateLimitError,
    ServerError,
)
from gpu_worker_client._endpoint import check_id
from gpu_worker_client._http import check_service_url
from gpu_worker_client._retry import (
    BACKOFF_CAP_SECONDS,
    backoff_seconds,
    should_retry,
)
from gpu_worker_client.async_job import POLL_CAP_SECONDS, poll_seconds
from gpu_worker_client.protocol.foreign import redact
from gpu_worker_client.protocol.http import retry_after_seconds

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
REFUSED = APIConnectionError("", may_have_arrived=False)
RESET = APIConnectionError("", may_have_arrived=True)
BAD_CERTIFICATE = APIConnectionError("", may_have_arrived=False, transient=False)


@pytest.mark.parametrize(
    ("error", "any_effect", "not_accepted"),
    [
        pytest.param(REFUSED, True, True, id="connection refused: nothing was sent"),
        pytest.param(RESET, True, False, id="reset: it may have been taken"),
        pytest.param(BAD_CERTIFICATE, False, False, id="a bad certificate stays bad"),
        pytest.param(RateLimitError("", status=429), True, True, id="429 comes before the queue"),
        pytest.param(APIError("", status=408), True, False, id="408"),
        pytest.param(ServerError("", status=500), True, False, id="500 may come after the queue"),
        pytest.param(ServerError("", status=503), True, False, id="503"),
        pytest.param(
            APIError("", status=200),
            True,
            False,
            id="200 without JSON: a proxy's, and it may have passed the request on",
        ),
        pytest.param(ServerError("", status=501), False, False, id="501 will not change"),
        pytest.param(AuthenticationError("", status=401), False, False, id="401"),
        pytest.param(APIError("", status=400), False, False, id="400"),
        pytest.param(ConfigError(""), False, False, id="our own refusal"),
    ],
)
def test_should_retry(error: GpuWorkerError, any_effect: bool, not_accepted: bool) -> None:
    assert should_retry(error, "any") is any_effect
    assert should_retry(error, "not_accepted") is not_accepted
    assert should_retry(error, "none") is False


def test_backoff_is_full_jitter_that_doubles_to_a_cap() -> None:
    assert backoff_seconds(0, None, 0.0) == 0.0
    ceilings = [backoff_seconds(attempt, None, 1.0) for attempt in range(7)]
    assert ceilings == [0.5, 1, 2, 4, 8, 8, 8]
    assert ceilings[-1] == BACKOFF_CAP_SECONDS


def test_backoff_never_undercuts_retry_after() -> None:
    assert backoff_seconds(0, 30.0, 0.0) == 30.0
    assert 30.0 < backoff_seconds(0, 30.0, 0.9) < 31.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Tue, 01 Jan 2030 12:00:30 GMT", 30.0),
        ("Tue, 01 Jan 2030 12:00:30 -0000", 30.0),
        ("Tue, 01 Jan 2030 13:00:30 +0100", 30.0),
        ("Tue, 01 Jan 2030 11:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        ("Tue, 99 Jan 2030 12:00:30 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


def test_polling_slows_down_from_a_quarter_second_to_five() -> None:
    middle = [poll_seconds(looks, 0.5) for looks in range(2000)]
    assert middle[:3] == pytest.approx([0.25, 0.375, 0.5625])
    assert all(a <= b for a, b in pairwise(middle))
    assert middle[-1] == POLL_CAP_SECONDS
    assert (poll_seconds(0, 0.0), poll_seconds(0, 1.0)) == pytest.approx((0.1875, 0.3125))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.runpod.ai/v2",
        "https://api.runpod.ai/v2/",
        "http://127.0.0.1:8000/v2",
        "http://localhost",
        "http://[::1]:80/v2",
    ],
)
def test_base_urls_that_work(url: str) -> None:
    assert check_service_url(url, "base_url", "https://api.runpod.ai/v2") == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.runpod.ai/v2",
        "ftp://api.runpod.ai",
        "http://api.runpod.ai/v2",
        "http://127.0.0.1.evil.example/v2",
        "https://user:secret@api.runpod.ai/v2",
        "https://api.runpod.ai/v2?key=secret",
        "https://api.runpod.ai/v2#secret",
        "https://[::1",
        "https://host:99999/",
        "https:///v2",
    ],
)
def test_base_urls_that_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_service_url(url, "base_url", "https://api.runpod.ai/v2")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "../health", "a/b", "a?b", "a%2fb", "ü", "a b", "x" * 129, "-a", "a\n"]
)
def test_ids_that_could_change_the_path_are_refused(value: str) -> None:
    with pytest.raises(ConfigError):
        check_id(value, "job id")


def test_ids_as_runpod_makes_them() -> None:
    for value in (
        "c80ffee4-f315-4e25-a146-0f3d98cf024b-u1",
        "sync-79164ff4-d212-44bc-9fe3-389e199a5c15-e1",
        "vllm_9",
    ):
        assert check_id(value, "job id") == value


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("GET https://h/b/k?X-Amz-Signature=CANARY failed", "GET https://h/b/k failed"),
        ("url='https://u:CANARY@h:9/k#CANARY'", "url='https://h:9/k'"),
        ("(/b/k?a=1&X-Amz-Signature=CANARY&b=2)", "(/b/k?a=1&X-Amz-Signature=[redacted]&b=2)"),
        ("Authorization: Bearer CANARY0123", "Authorization: Bearer [redacted]"),
        ('{"u":"https://h/k?CANARY"}', '{"u":"https://h/k"}'),
        ('{"access_token": "CANARY"}', '{"access_token": "[redacted]"}'),
        ("key rpa_CANARY0123456789 refused", "key [redacted] refused"),
        ("Basic knowledge stays", "Basic knowledge stays"),
        ("file:///tmp/a.mp4 stays", "file:///tmp/a.mp4 stays"),
        ("nothing to hide: a=b?", "nothing to hide: a=b?"),
    ],
)
def test_redaction(text: str, redacted: str) -> None:
    assert redact(text) == redacted
