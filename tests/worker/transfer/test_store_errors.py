"""What each refusal of a store means, without a network: codes as R2 and AWS document them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from gpu_worker.transfer.download import LARGEST_RANGE_BYTES, split
from gpu_worker.transfer.http import pause_seconds
from gpu_worker.transfer.store_errors import StoreRefusal, Transient, judge
from gpu_worker_client.protocol import ErrorCode, TaskError

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


def xml(code: str, message: str = "words of the store") -> bytes:
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<?xml version='1.0'?>{xml}".encode()


def verdict(refusal: StoreRefusal, direction: str = "download") -> tuple[ErrorCode, bool]:
    """(code, tried again)"""
    judged = judge(refusal, "input_url", direction, NOW)  # type: ignore[arg-type]
    if isinstance(judged, Transient):
        return judged.error.code, True
    return judged.code, False


FINAL = [
    (400, "ExpiredRequest", ErrorCode.url_expired),
    (400, "ExpiredToken", ErrorCode.url_expired),
    (400, "AuthorizationQueryParametersError", ErrorCode.url_denied),
    (400, "InvalidArgument", ErrorCode.url_denied),
    (400, "BadDigest", ErrorCode.url_denied),
    (400, "EntityTooLarge", ErrorCode.output_too_large),
    (401, "Unauthorized", ErrorCode.url_denied),
    (403, "SignatureDoesNotMatch", ErrorCode.url_denied),
    (403, "AccessDenied", ErrorCode.url_denied),
    (403, "RequestTimeTooSkewed", ErrorCode.clock_skew),
    (404, "NoSuchKey", ErrorCode.input_not_found),
    (405, "MethodNotAllowed", ErrorCode.url_denied),
    (409, "InvalidBucketState", ErrorCode.url_denied),
    (410, "", ErrorCode.url_denied),
    (411, "MissingContentLength", ErrorCode.url_denied),
    (413, "", ErrorCode.output_too_large),
    (501, "NotImplemented", ErrorCode.url_denied),
    (301, "PermanentRedirect", ErrorCode.redirect_not_allowed),
    (307, "TemporaryRedirect", ErrorCode.redirect_not_allowed),
]


@pytest.mark.parametrize(("status", "code", "expected"), FINAL)
def test_final_refusals(status: int, code: str, expected: ErrorCode) -> None:
    assert verdict(StoreRefusal(status, xml(code))) == (expected, False)
    assert not expected.retryable


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, "") for status in (408, 425, 429, 500, 502, 503, 504)),
        *((400, code) for code in ("RequestTimeout", "IncompleteBody", "ClientDisconnect")),
        *((409, code) for code in ("ConditionalRequestConflict", "OperationAborted")),
        (503, "SlowDown"),
        (200, "InternalError"),
    ],
)
def test_refusals_that_are_tried_again(status: int, code: str) -> None:
    assert verdict(StoreRefusal(status, xml(code))) == (ErrorCode.storage_unavailable, True)


@pytest.mark.parametrize(
    ("status", "code", "ambiguous"),
    [
        (500, "", True),
        (503, "", True),
        (429, "", False),
        (409, "ConditionalRequestConflict", False),
        (400, "IncompleteBody", False),
    ],
)
def test_only_a_failure_inside_the_store_may_have_stored_the_object(
    status: int, code: str, ambiguous: bool
) -> None:
    judged = judge(StoreRefusal(status, xml(code)), "output_url", "upload", NOW)
    assert isinstance(judged, Transient)
    assert judged.ambiguous is ambiguous


@pytest.mark.parametrize(
    ("is_version_2", "advice"),
    [(True, 'signature_version="s3v4"'), (False, "WHEN_REQUIRED")],
    ids=["version 2", "version 4"],
)
def test_the_advice_fits_the_signature(is_version_2: bool, advice: str) -> None:
    refusal = StoreRefusal(501, xml("NotImplemented"), is_version_2=is_version_2)
    judged = judge(refusal, "input_url", "download", NOW)
    assert isinstance(judged, TaskError)
    assert advice in judged.message


def test_aws_says_expired_in_words() -> None:
    assert verdict(StoreRefusal(403, xml("AccessDenied", "Request has expired"))) == (
        ErrorCode.url_expired,
        False,
    )


def test_s20_clock_skew_is_measured_from_the_date_header() -> None:
    refusal = StoreRefusal(403, xml("RequestTimeTooSkewed"), date="Thu, 01 Jan 2026 12:20:00 GMT")
    error = judge(refusal, "input_url", "download", NOW)
    assert isinstance(error, TaskError)
    assert error.details["offset_seconds"] == 1200
    assert "+1200 s" in error.message


def test_a_skewed_clock_is_mentioned_beside_an_expiry() -> None:
    ahead = judge(
        StoreRefusal(400, xml("ExpiredRequest"), date="Thu, 01 Jan 2026 14:00:00 GMT"),
        "input_url",
        "download",
        NOW,
    )
    right = judge(
        StoreRefusal(400, xml("ExpiredRequest"), date="Thu, 01 Jan 2026 12:00:01 GMT"),
        "input_url",
        "download",
        NOW,
    )
    assert isinstance(ahead, TaskError)
    assert isinstance(right, TaskError)
    assert ahead.details["clock_offset_seconds"] == 7200
    assert "clock_offset_seconds" not in right.details


@pytest.mark.parametrize(
    "code", ["<b>", "A" * 65, "a b", "&lt;", "https://host/?X-Amz-Signature=s"]
)
def test_a_code_that_is_no_code_is_not_repeated(code: str) -> None:
    judged = judge(StoreRefusal(403, xml(code)), "input_url", "download", NOW)
    assert isinstance(judged, TaskError)
    assert "storage_code" not in judged.details
    assert code not in judged.message
    assert "words of the store" not in judged.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999999", 3600.0),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_in_both_forms(text: str | None, seconds: float | None) -> None:
    judged = judge(StoreRefusal(503, retry_after=text), "input_url", "download", NOW)
    assert isinstance(judged, Transient)
    assert judged.retry_after_seconds == seconds


def test_pauses_double_up_to_a_ceiling_and_jitter_is_full() -> None:
    assert [pause_seconds(n, None, 1.0) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert pause_seconds(5, None, 0.0) == 0.0
    assert pause_seconds(1, 30.0, 1.0) == 30.0


@pytest.mark.parametrize(
    ("start", "total", "connections"),
    [(0, 1, 6), (8, 8, 6), (8, 9, 6), (8, 100, 6), (7, 100, 1), (0, 1 << 40, 6)],
)
def test_ranges_cover_everything_once_and_are_equal(
    start: int, total: int, connections: int
) -> None:
    pieces = split(start, total, connections)
    edges = [start, *(piece.end for piece in pieces)]
    assert [piece.position for piece in pieces] == edges[:-1]
    assert edges[-1] == total
    sizes = {piece.end - piece.position for piece in pieces[:-1]}
    assert len(sizes) <= 1
    assert all(0 < piece.end - piece.position <= LARGEST_RANGE_BYTES for piece in pieces)
