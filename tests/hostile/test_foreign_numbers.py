"""Numbers and dates of URLs and headers in forms that `int` or `datetime` takes or chokes on: each
is named before any work, or counts as absent. None is an internal error.
"""

from __future__ import annotations

import email.message
import io
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest

from gpu_worker.devserver.http_rules import byte_range
from gpu_worker.devserver.store.multipart import parse_complete
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker.devserver.store.sigv4 import Credentials, verify
from gpu_worker.transfer.http import Response
from gpu_worker.transfer.store_errors import StoreRefusal, Transient, judge
from gpu_worker.transfer.urls import UrlPolicy, check_task
from gpu_worker_client.protocol import ErrorCode, TaskError, parse_task

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
NUMBERS = {
    "superscript": "²",
    "superscript after a digit": "6²",
    "Arabic digits": "٣٦٠",
    "fullwidth digits": "３６０",
    "Devanagari digits": "३६०",
    "circled": "①",
    "sign": "+360",
    "minus": "-360",
    "underscore": "3_60",
    "blank": " 360",
    "newline": "360\n",
    "hexadecimal": "0x60",
    "exponent": "1e2",
    "fraction": "3.5",
    "5000 digits": "9" * 5000,
    "empty": "",
}
DATES = {
    "year 9999": "99991231T235959Z",
    "year 0": "00000101T000000Z",
    "before 1970": "19690101T000000Z",
    "month 13": "20261301T000000Z",
    "leap second": "20261231T235960Z",
    "Arabic digits": "٢٠٢٦٠٣٠١T000000Z",
    "fullwidth digits": "２０２６０３０１T000000Z",
    "short fields": "2026031T00000Z",
    "newline": "20260301T000000Z\n",
}
HTTP_DATES = {
    "year 9999 west of Greenwich": "Fri, 31 Dec 9999 23:59:59 -2359",
    "zone of 20 digits": "Sun, 01 Mar 2026 00:00:00 +99999999999999999999",
    "zone of 9999": "Sun, 01 Mar 2026 00:00:00 +9999",
    "year of 20 digits": "Sun, 01 Mar 20260000000000000000 00:00:00 GMT",
    "Arabic digits": "Sun, ٠١ Mar ٢٠٢٦ 00:00:00 GMT",
    "underscore": "Sun, 01 Mar 2_026 00:00:00 GMT",
}


def denied(**query: str) -> TaskError:
    text = "&".join(f"{name.replace('_', '-')}={quote(value)}" for name, value in query.items())
    fields = {"task": "detect_scenes", "input_url": f"https://a.example.com/in.mp4?{text}"}
    with pytest.raises(TaskError) as caught:
        check_task(parse_task(fields), UrlPolicy(), now=NOW, min_remaining_seconds=60)
    assert caught.value.code is ErrorCode.url_denied
    return caught.value


def signed(**changed: str) -> dict[str, str]:
    parts = {"X_Amz_Credential": "c", "X_Amz_Signature": "s", "X_Amz_SignedHeaders": "host"}
    return {**parts, "X_Amz_Date": "20260301T000000Z", "X_Amz_Expires": "3600", **changed}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_a_life_that_is_no_number_is_named(number: str) -> None:
    assert "X-Amz-Expires" in denied(**signed(X_Amz_Expires=number)).message
    assert "Expires" in denied(Signature="s", AWSAccessKeyId="k", Expires=number).message


@pytest.mark.parametrize("date", DATES.values(), ids=DATES)
def test_a_signing_date_that_is_none_is_named(date: str) -> None:
    assert "X-Amz-Date" in denied(**signed(X_Amz_Date=date)).message


@pytest.mark.parametrize("number", [*NUMBERS.values(), "0", "10001"], ids=[*NUMBERS, "0", "10001"])
def test_a_part_number_that_is_none_is_named(number: str) -> None:
    assert "partNumber" in denied(**signed(partNumber=number)).message


@pytest.mark.parametrize("text", [*NUMBERS.values(), *HTTP_DATES.values()])
def test_a_retry_after_that_cannot_be_read_counts_as_absent(text: str) -> None:
    if text in (" 360", "360\n", "3.5"):
        return  # HTTP allows blanks around a value, and our own dev-server sends fractions
    judged = judge(StoreRefusal(503, retry_after=text), "input_url", "download", NOW)
    assert isinstance(judged, Transient)
    assert judged.retry_after_seconds is None


@pytest.mark.parametrize("text", HTTP_DATES.values(), ids=HTTP_DATES)
def test_a_date_that_cannot_be_read_measures_no_clock(text: str) -> None:
    judged = judge(
        StoreRefusal(403, b"<Code>RequestTimeTooSkewed</Code>", text), "x", "download", NOW
    )
    assert isinstance(judged, TaskError)
    assert judged.code is ErrorCode.clock_skew
    assert judged.details["offset_seconds"] is None


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_a_content_length_that_is_no_number_is_none(number: str) -> None:
    if number in (" 360", "360\n"):
        return  # the blanks around a header's value are no part of it
    headers = email.message.Message()
    headers["Content-Length"] = number
    raw = SimpleNamespace(headers=headers, status=200, fp=io.BytesIO())
    nothing = cast(Any, None)
    assert Response(cast(Any, raw), nothing, "input_url", "download", None, nothing).length is None


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_the_local_store_refuses_what_is_no_number(number: str) -> None:
    if number not in (" 360", "360\n"):  # XML may be laid out
        document = f"<Part><PartNumber>{number}</PartNumber><ETag>a</ETag></Part>"
        with pytest.raises(S3Error, match="MalformedXML"):
            parse_complete(document.encode())
    if number:
        assert byte_range(f"bytes=0-{number}x", 10) is None
    for changed in ({"X-Amz-Expires": number}, {"X-Amz-Date": number}):
        with pytest.raises(S3Error) as caught:
            verify("GET", *presigned(changed), CREDENTIALS, NOW.timestamp())
        assert caught.value.code in ("AuthorizationQueryParametersError", "SignatureDoesNotMatch")


CREDENTIALS = Credentials("key", "secret")


def presigned(changed: dict[str, str]) -> tuple[str, dict[str, str]]:
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "key/20260301/auto/s3/aws4_request",
        "X-Amz-Date": "20260301T000000Z",
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "0" * 64,
    } | changed
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return f"/bucket/in.mp4?{text}", {"host": "a.example.com"}
