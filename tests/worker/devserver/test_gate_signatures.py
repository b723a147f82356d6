"""URLs signed by boto3 are accepted as they are, and refused after any change. boto3 is the
independent truth here."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import pytest
import requests
from botocore.config import Config

from gpu_worker.devserver import ManualClock, R2Gate
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker.devserver.store.sigv4 import Credentials, verify

KEYS = [
    "plain.mp4",
    "a b/ü.mp4",
    "a+b=c&d.mp4",
    "日本/クリップ.mp4",
    "x//y~_-.mp4",
    "per%20cent.mp4",
    "q?#.mp4",
]


def s3(gate: R2Gate, **credentials: str) -> Any:
    keys = {
        "aws_access_key_id": gate.credentials.access_key,
        "aws_secret_access_key": gate.credentials.secret_key,
    }
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    return boto3.client(
        "s3",
        endpoint_url=gate.base_url,
        region_name="auto",
        config=config,
        **{**keys, **credentials},
    )


def code(response: requests.Response) -> str:
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


@pytest.mark.parametrize("key", KEYS)
def test_get_and_put_urls_of_boto3_work_for_any_key(gate: R2Gate, key: str) -> None:
    put = s3(gate).generate_presigned_url("put_object", Params={"Bucket": "media", "Key": key})
    assert requests.put(put, data=b"content").status_code == 200
    assert gate.read(key) == b"content"
    get = s3(gate).generate_presigned_url("get_object", Params={"Bucket": "media", "Key": key})
    assert requests.get(get).content == b"content"


@pytest.mark.parametrize("key", KEYS)
def test_our_presign_is_accepted_and_equals_what_boto3_addresses(gate: R2Gate, key: str) -> None:
    gate.put(key, b"content")
    assert requests.get(gate.presign("GET", key)).content == b"content"


def test_upload_ids_with_reserved_characters_are_verified() -> None:
    credentials = Credentials("a", "b")
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="auto",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    params = {"Bucket": "media", "Key": "k", "UploadId": "u+/=& ü", "PartNumber": 3}
    url = urlsplit(client.generate_presigned_url("upload_part", Params=params))
    query = verify("PUT", f"{url.path}?{url.query}", {"host": url.netloc}, credentials, time.time())
    assert query == {"uploadId": "u+/=& ü", "partNumber": "3"}


def test_signed_headers_must_be_sent_exactly(gate: R2Gate) -> None:
    params = {"Bucket": "media", "Key": "k", "ContentType": "video/mp4", "IfNoneMatch": "*"}
    url = s3(gate).generate_presigned_url("put_object", Params=params)
    right = {"Content-Type": "video/mp4", "If-None-Match": "*"}
    assert code(requests.put(url, data=b"1")) == "SignatureDoesNotMatch"
    assert (
        code(requests.put(url, data=b"1", headers={**right, "Content-Type": "video/webm"}))
        == "SignatureDoesNotMatch"
    )
    assert gate.read("k") is None
    assert requests.put(url, data=b"1", headers=right).status_code == 200


def test_an_unsigned_amz_header_is_refused(gate: R2Gate) -> None:
    response = requests.put(gate.presign("PUT", "k"), data=b"1", headers={"x-amz-meta-owner": "me"})
    assert (response.status_code, code(response)) == (403, "AccessDenied")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "POST"])
def test_a_get_url_is_good_for_get_only(gate: R2Gate, method: str) -> None:
    gate.put("k", b"content")
    assert requests.request(method, gate.presign("GET", "k"), data=b"").status_code == 403
    assert gate.read("k") == b"content"


def test_a_head_url_answers_the_size_without_a_body(gate: R2Gate) -> None:
    gate.put("k", b"content")
    response = requests.head(gate.presign("HEAD", "k"))
    assert (response.status_code, response.headers["Content-Length"], response.content) == (
        200,
        "7",
        b"",
    )


def test_any_change_of_the_url_breaks_the_signature(gate: R2Gate) -> None:
    gate.put("k", b"1")
    gate.put("other", b"2")
    url = gate.presign("GET", "k")
    parts = urlsplit(url)
    changed = [
        urlunsplit(parts._replace(path="/media/other")),
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601"),
        url + "&versionId=1",
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ]
    assert [code(requests.get(item)) for item in changed] == ["SignatureDoesNotMatch"] * 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"secret_key": "wrong"}, (403, "SignatureDoesNotMatch")),
        ({"access_key": "someone"}, (401, "Unauthorized")),
        ({"region": "eu-west-1"}, (400, "AuthorizationQueryParametersError")),
    ],
)
def test_foreign_credentials_are_refused(
    gate: R2Gate, change: dict[str, str], expected: tuple[int, str]
) -> None:
    gate.put("k", b"1")
    own = gate.credentials
    fields = {
        "access_key": own.access_key,
        "secret_key": own.secret_key,
        "region": own.region,
        **change,
    }
    gate.credentials = Credentials(**fields)
    url = gate.presign("GET", "k")
    gate.credentials = own
    response = requests.get(url)
    assert (response.status_code, code(response)) == expected


def test_without_a_signature_nothing_is_given(gate: R2Gate) -> None:
    gate.put("k", b"1")
    assert requests.get(f"{gate.base_url}/media/k").status_code == 401
    assert code(requests.get(f"{gate.base_url}/media/k?X-Amz-Algorithm=AWS4-HMAC-SHA256")) == (
        "AuthorizationQueryParametersError"
    )


def test_expiry_is_to_the_second_and_at_most_seven_days(gate: R2Gate, clock: ManualClock) -> None:
    gate.put("k", b"1")
    url = gate.presign("GET", "k", expires=60)
    clock.advance(59)
    assert requests.get(url).status_code == 200
    clock.advance(2)
    expired = requests.get(url)
    assert (expired.status_code, code(expired)) == (400, "ExpiredRequest")
    assert (
        code(requests.get(gate.presign("GET", "k", expires=604_801)))
        == "AuthorizationQueryParametersError"
    )
    assert requests.get(gate.presign("GET", "k", expires=604_800)).status_code == 200
    assert (
        code(requests.get(gate.presign("GET", "k", expires=60, age_seconds=3600)))
        == "ExpiredRequest"
    )


def test_a_request_from_the_future_is_refused(gate: R2Gate) -> None:
    gate.put("k", b"1")
    assert code(requests.get(gate.presign("GET", "k", age_seconds=-901))) == "RequestTimeTooSkewed"


def test_another_bucket_does_not_exist(gate: R2Gate) -> None:
    url = s3(gate).generate_presigned_url("get_object", Params={"Bucket": "elsewhere", "Key": "k"})
    assert code(requests.get(url)) == "NoSuchBucket"


def test_no_message_and_no_log_holds_a_signature(gate: R2Gate) -> None:
    url = gate.presign("GET", "missing")
    signature = url.rpartition("=")[2]
    assert signature not in requests.get(url).text
    assert signature not in repr(list(gate.log))
    with pytest.raises(S3Error) as refused:
        verify(
            "GET",
            urlsplit(url).path + "?" + urlsplit(url).query,
            {"host": "wrong"},
            gate.credentials,
            gate.clock(),
        )
    assert signature not in str(refused.value)
    assert gate.credentials.secret_key not in repr(gate.credentials)
