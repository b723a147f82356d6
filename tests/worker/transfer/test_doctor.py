"""The check of a task's URLs before any work: each fault the store would find an hour later is
named here, with its cure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from gpu_worker.devserver.store.presign import presign
from gpu_worker.devserver.store.sigv4 import Credentials
from gpu_worker.transfer import SafeUrl, TaskUrls, UrlPolicy, check_task
from gpu_worker_client.protocol import ErrorCode, TaskError, parse_task

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
HOST = "https://acct.r2.cloudflarestorage.com/media"
KEYS = Credentials("ACCESSKEY", "SECRETKEY")
INPUT = f"{HOST}/in.mp4"


def url(
    key: str,
    method: str = "PUT",
    *,
    age: float = 0,
    expires: int = 7200,
    host: str = HOST,
    **extra: Mapping[str, str],
) -> str:
    """Signed by botocore's own signer, `age` seconds before NOW."""
    return presign(
        method,
        f"{HOST}/{key}",
        KEYS,
        signed_at=NOW.timestamp() - age,
        expires_seconds=7200,
        **extra,
    )


def check(needed: float = 3600, policy: UrlPolicy | None = None, **fields: Any) -> TaskUrls:
    task = parse_task({"task": "upscale", "input_url": INPUT, **fields})
    return check_task(task, policy or UrlPolicy(), now=NOW, min_remaining_seconds=needed)


def refused(code: ErrorCode, *words: str, **fields: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        check(**fields)
    assert caught.value.code is code, str(caught.value)
    for word in words:
        assert word in caught.value.message
    assert "X-Amz-Signature" not in caught.value.body().to_wire()
    assert "ACCESSKEY" not in caught.value.body().to_wire()
    return caught.value


def test_a_good_task_gives_its_places() -> None:
    found = check(
        input_url=url("in.mp4", "GET"),
        output_url=url("out.MOV"),
        result_url=url("result.json.gz"),
        result_get_url=url("result.json.gz", "GET"),
        idempotency_key="job-1",
    )
    assert found.input is not None
    assert found.output is not None
    assert found.result is not None
    assert found.result_get is not None
    assert str(found.input) == INPUT
    assert found.output.suffix == ".mov"
    assert isinstance(found.output.location, SafeUrl)
    assert found.output.location.expires_at == NOW + timedelta(seconds=7200)
    assert "X-Amz" not in repr(found)


@pytest.mark.parametrize(("left", "good"), [(3600, True), (3599, False), (1, False)])
def test_an_output_must_outlive_the_job(left: int, good: bool) -> None:
    output = url("out.mp4", age=7200 - left)
    if good:
        check(output_url=output)
    else:
        error = refused(
            ErrorCode.url_expired, "output_url", "3600 s", "sign it for longer", output_url=output
        )
        assert error.details["remaining_seconds"] == left
        assert not error.code.retryable


def test_an_input_needs_to_live_only_until_it_is_fetched() -> None:
    check(input_url=url("in.mp4", "GET", age=7100), output_url=url("out.mp4"))
    refused(
        ErrorCode.url_expired,
        "input_url",
        input_url=url("in.mp4", "GET", age=7190),
        output_url=url("out.mp4"),
    )


def test_an_expired_url_is_named_before_any_work() -> None:
    error = refused(
        ErrorCode.url_expired,
        "expired 60 s ago",
        input_url=url("in.mp4", "GET", age=7260),
        output_url=url("out.mp4"),
    )
    assert error.details == {"path": "input_url", "expired_seconds_ago": 60}


def test_result_url_expiry_counts_too() -> None:
    refused(
        ErrorCode.url_expired,
        "result_url",
        output_url=url("out.mp4"),
        result_url=url("result.json", age=7000),
    )


def test_boto3_signs_more_than_seven_days_without_complaint_but_no_store_takes_it() -> None:
    client = boto3.client(
        "s3",
        endpoint_url="https://acct.r2.cloudflarestorage.com",
        region_name="auto",
        aws_access_key_id="ACCESSKEY",
        aws_secret_access_key="SECRETKEY",
        config=Config(signature_version="s3v4"),
    )
    signed = client.generate_presigned_url(
        "put_object", {"Bucket": "media", "Key": "out.mp4"}, ExpiresIn=8 * 86400
    )
    refused(ErrorCode.url_denied, "7 days", "604800", output_url=signed)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            "X-Amz-Credential=c&X-Amz-Signature=s&X-Amz-Date=yesterday&X-Amz-Expires=60",
            "X-Amz-Date",
        ),
        (
            "X-Amz-Credential=c&X-Amz-Signature=s&X-Amz-Date=20260301T120000Z&X-Amz-Expires=soon",
            "X-Amz-Expires",
        ),
        (
            "X-Amz-Credential=c&X-Amz-Signature=s&X-Amz-Date=20260301T120000Z&X-Amz-Expires=0",
            "X-Amz-Expires",
        ),
        ("X-Amz-Credential=c&X-Amz-Signature=s", "X-Amz-Date"),
        ("X-Goog-Credential=c&X-Goog-Signature=s&X-Goog-Date=1", "X-Goog-Date"),
        ("Expires=soon&Signature=s&AWSAccessKeyId=k", "Expires"),
    ],
)
def test_an_unreadable_life_is_named(query: str, words: str) -> None:
    refused(ErrorCode.url_denied, words, output_url=f"{HOST}/out.mp4?{query}")


def test_older_signatures_have_an_end_too() -> None:
    ends = int(NOW.timestamp()) + 60
    refused(
        ErrorCode.url_expired,
        "60 s",
        output_url=f"{HOST}/out.mp4?Expires={ends}&Signature=s&AWSAccessKeyId=k",
    )


def test_signed_headers_must_come_with_the_task() -> None:
    headers = {"Content-Type": "video/mp4", "If-None-Match": "*"}
    signed = url("out.mp4", headers=headers)
    error = refused(
        ErrorCode.url_denied, "content-type", "if-none-match", "headers.output", output_url=signed
    )
    assert error.details["missing_headers"] == ["content-type", "if-none-match"]
    found = check(
        output_url=signed, headers={"output": {"content-type": "video/mp4", "IF-NONE-MATCH": "*"}}
    )
    assert found.output is not None
    assert dict(found.output.headers) == {"content-type": "video/mp4", "IF-NONE-MATCH": "*"}


def test_a_result_read_back_gets_only_the_headers_it_signed() -> None:
    fields = {
        "output_url": url("out.mp4"),
        "result_url": url("r.json", headers={"If-None-Match": "*", "x-amz-meta-a": "b"}),
        "result_get_url": url("r.json", "GET", headers={"x-amz-meta-a": "b"}),
        "idempotency_key": "k",
    }
    found = check(headers={"result": {"If-None-Match": "*", "x-amz-meta-a": "b"}}, **fields)
    assert found.result_get is not None
    assert dict(found.result_get.headers) == {"x-amz-meta-a": "b"}
    missing = {**fields, "result_url": url("r.json")}
    refused(ErrorCode.url_denied, "result_get_url", "x-amz-meta-a", "headers.result", **missing)


def test_an_amz_header_that_was_not_signed_would_be_refused() -> None:
    refused(
        ErrorCode.url_denied,
        "x-amz-meta-a",
        output_url=url("out.mp4"),
        headers={"output": {"X-Amz-Meta-A": "1"}},
    )


@pytest.mark.parametrize("name", ["Range", "If-Match", "if-none-match"])
def test_an_input_takes_no_condition(name: str) -> None:
    refused(
        ErrorCode.invalid_task,
        f"headers.input.{name}",
        output_url=url("out.mp4"),
        headers={"input": {name: "x"}},
    )


def test_a_signed_content_length_cannot_be_met() -> None:
    signed = url("out.mp4", headers={"Content-Length": "10"})
    refused(ErrorCode.url_denied, "content-length", output_url=signed)


@pytest.mark.parametrize(
    "query",
    [
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"X-Amz-Checksum-SHA256": "abc"},
    ],
)
def test_a_checksum_baked_into_the_url_is_named_with_its_cure(query: dict[str, str]) -> None:
    refused(
        ErrorCode.url_denied,
        "WHEN_REQUIRED",
        "requestChecksumCalculation",
        output_url=url("out.mp4", query=query),
    )


@pytest.mark.parametrize(
    "name", ["x-amz-checksum-crc32", "content-md5", "x-amz-sdk-checksum-algorithm"]
)
def test_a_checksum_signed_as_header_is_named_too(name: str) -> None:
    signed = url("out.mp4", headers={name: "AAAA"})
    refused(ErrorCode.url_denied, name, output_url=signed, headers={"output": {name: "AAAA"}})


def test_what_the_javascript_sdk_adds_to_a_get_is_harmless() -> None:
    check(
        input_url=url(
            "in.mp4", "GET", query={"x-amz-checksum-mode": "ENABLED", "x-id": "GetObject"}
        ),
        output_url=url("out.mp4", query={"x-id": "PutObject"}),
    )


def test_u21_a_url_signed_for_the_other_direction_is_named_when_it_says_so() -> None:
    refused(
        ErrorCode.url_denied, "PutObject", output_url=url("out.mp4", query={"x-id": "GetObject"})
    )
    refused(
        ErrorCode.url_denied,
        "GetObject",
        input_url=url("in.mp4", "GET", query={"x-id": "PutObject"}),
        output_url=url("o.mp4"),
    )


SAME = {
    "J13 output is the input": {"output_url": INPUT + "?a=1"},
    "J13 in other words": {
        "output_url": "https://ACCT.r2.cloudflarestorage.com:443/media/i%6E.mp4"
    },
    "J14 result is the output": {
        "output_url": f"{HOST}/out.mp4",
        "result_url": f"{HOST}/ou%74.mp4",
    },
    "result is the input": {"output_url": f"{HOST}/out.mp4", "result_url": INPUT},
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_no_object_is_written_twice_or_read_and_written(fields: dict[str, str]) -> None:
    refused(ErrorCode.invalid_task, "object", **fields)


@pytest.mark.parametrize(
    ("key", "good"),
    [("out", True), ("out.MKV", True), ("out.exe", False), ("out.avi", False), ("a.b/out", True)],
)
def test_the_name_chooses_a_known_container(key: str, good: bool) -> None:
    if good:
        check(output_url=f"{HOST}/{key}")
    else:
        refused(ErrorCode.invalid_task, ".mp4", output_url=f"{HOST}/{key}")


def parts(*urls: str, complete: str | None = None) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "part_size": 5 * 1024 * 1024,
        "parts": [{"n": n, "url": u} for n, u in enumerate(urls, 1)],
    }
    return plan if complete is None else {**plan, "complete": {"url": complete}}


def part(n: int, key: str = "out.mp4", **extra: Any) -> str:
    return url(key, query={"partNumber": str(n), "uploadId": "u"}, **extra)


def test_a_multipart_output_is_checked_url_by_url() -> None:
    found = check(
        output_multipart=parts(
            part(1), part(2), complete=url("out.mp4", "POST", query={"uploadId": "u"})
        )
    )
    assert found.output is not None
    assert found.output.multipart is not None
    assert found.output.suffix == ".mp4"
    assert str(found.output) == f"{HOST}/out.mp4"
    refused(
        ErrorCode.invalid_task, "parts.2", "part number", output_multipart=parts(part(1), part(3))
    )
    refused(ErrorCode.url_expired, "parts.2", output_multipart=parts(part(1), part(2, age=7000)))
    refused(ErrorCode.url_not_allowed, "parts.1", output_multipart=parts("file:///tmp/out.mp4"))


def test_only_what_a_part_signed_is_asked_of_the_headers() -> None:
    complete = url("out.mp4", "POST", query={"uploadId": "u"}, headers={"If-None-Match": "*"})
    plan = parts(part(1), complete=complete)
    refused(ErrorCode.url_denied, "complete", "if-none-match", output_multipart=plan)
    check(output_multipart=plan, headers={"output": {"If-None-Match": "*"}})


def test_local_paths_only_where_they_are_allowed(tmp_path: Path) -> None:
    local = UrlPolicy(allow_local_files=True)
    for text in ("/tmp/in.mp4", "file:///tmp/in.mp4", "in.mp4"):
        refused(ErrorCode.url_not_allowed, "input_url", input_url=text, output_url=url("out.mp4"))
    found = check(policy=local, input_url="file:///tmp/a%20b.mp4", output_url="/tmp/out.mkv")
    assert found.input is not None
    assert found.output is not None
    assert found.input.location == Path("/tmp/a b.mp4")
    assert found.output.location == Path("/tmp/out.mkv")
    refused(
        ErrorCode.url_not_allowed,
        "input_url",
        policy=local,
        input_url="file://host/in.mp4",
        output_url="/tmp/out.mp4",
    )
    refused(
        ErrorCode.url_not_allowed,
        "input_url",
        policy=local,
        input_url="ftp://host/in.mp4",
        output_url="/tmp/out.mp4",
    )
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "in.mp4")
    refused(
        ErrorCode.invalid_task,
        "same",
        policy=local,
        input_url=str(tmp_path / "in.mp4"),
        output_url=str(link),
    )


def test_selftest_has_no_place() -> None:
    assert (
        check_task(parse_task({"task": "selftest"}), UrlPolicy(), now=NOW, min_remaining_seconds=60)
        == TaskUrls()
    )
