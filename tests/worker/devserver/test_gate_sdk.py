"""The gate serves an SDK that signs with keys of its own (boto3, in the header) as R2 does. boto3
is the independent truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from gpu_worker.devserver import GateLimits, LocalPlatform, R2Gate


@pytest.fixture
def gate() -> Iterator[R2Gate]:
    """On the system's clock: boto3 signs with it."""
    with LocalPlatform(gate_limits=GateLimits(min_part_bytes=100)) as platform:
        yield platform.gate


def s3(gate: R2Gate, **settings: Any) -> Any:
    accepted = {
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        **settings,
    }
    return boto3.client(
        "s3",
        endpoint_url=gate.base_url,
        aws_access_key_id=gate.credentials.access_key,
        aws_secret_access_key=gate.credentials.secret_key,
        region_name="auto",
        config=Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **accepted
        ),
    )


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(Bucket="media", **arguments)
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.parametrize("key", ["plain.mp4", "a b/ü.mp4", "a+b=c&d.mp4", "per%20cent.mp4"])
def test_an_object_there_and_back(gate: R2Gate, key: str) -> None:
    client = s3(gate)
    client.put_object(
        Bucket="media", Key=key, Body=b"content", ContentType="video/mp4", Metadata={"owner": "me"}
    )
    assert gate.read(key) == b"content"
    head = client.head_object(Bucket="media", Key=key)
    assert (head["ContentLength"], head["ETag"]) == (7, f'"{hashlib.md5(b"content").hexdigest()}"')
    assert (head["ContentType"], head["Metadata"]) == ("video/mp4", {"owner": "me"})
    assert client.get_object(Bucket="media", Key=key, Range="bytes=3-")["Body"].read() == b"tent"
    client.delete_object(Bucket="media", Key=key)
    assert refusal(client.head_object, Key=key) == "404"


def test_a_multipart_upload(gate: R2Gate) -> None:
    client = s3(gate)
    upload = client.create_multipart_upload(Bucket="media", Key="big.mp4")["UploadId"]
    bodies = [b"a" * 200, b"b" * 200, b"c" * 7]
    where = {"Bucket": "media", "Key": "big.mp4", "UploadId": upload}
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**where, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    listed = client.list_parts(**where)["Parts"]
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in listed] == [
        (part["PartNumber"], len(body), part["ETag"])
        for part, body in zip(parts, bodies, strict=True)
    ]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert gate.read("big.mp4") == b"".join(bodies)
    assert gate.open_uploads() == []


def test_open_uploads_are_listed_and_aborted(gate: R2Gate) -> None:
    client = s3(gate)
    ids = {
        key: client.create_multipart_upload(Bucket="media", Key=key)["UploadId"]
        for key in ("in/a b.mp4", "out/b.mp4")
    }
    listed = client.list_multipart_uploads(Bucket="media", Prefix="in/")["Uploads"]
    assert [(upload["Key"], upload["UploadId"]) for upload in listed] == [
        ("in/a b.mp4", ids["in/a b.mp4"])
    ]
    client.abort_multipart_upload(Bucket="media", Key="in/a b.mp4", UploadId=ids["in/a b.mp4"])
    assert gate.open_uploads() == [ids["out/b.mp4"]]


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_lists_come_in_pages(gate: R2Gate, page: int) -> None:
    client = s3(gate)
    keys = ["in/ü 1", "in/a&b", "in/c"]
    for key in [*keys, "other"]:
        gate.put(key, b"1")
    uploads = {
        client.create_multipart_upload(Bucket="media", Key="up")["UploadId"] for _ in range(3)
    }
    where = {"Bucket": "media", "Key": "up", "UploadId": min(uploads)}
    for n in range(1, 4):
        client.upload_part(**where, PartNumber=n, Body=b"1" * n)

    def pages(operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield from client.get_paginator(operation).paginate(
            **arguments, PaginationConfig={"PageSize": page}
        )

    found = [
        item["Key"]
        for part in pages("list_objects_v2", Bucket="media", Prefix="in/")
        for item in part["Contents"]
    ]
    assert found == sorted(keys)
    assert {
        item["UploadId"]
        for part in pages("list_multipart_uploads", Bucket="media")
        for item in part["Uploads"]
    } == uploads
    assert [item["Size"] for part in pages("list_parts", **where) for item in part["Parts"]] == [
        1,
        2,
        3,
    ]


def test_a_bucket_is_there_or_not(gate: R2Gate) -> None:
    client = s3(gate)
    client.head_bucket(Bucket="media")
    with pytest.raises(ClientError):
        client.head_bucket(Bucket="elsewhere")
    with pytest.raises(ClientError):
        client.head_bucket(Bucket="media2")


def test_another_key_is_refused(gate: R2Gate) -> None:
    own = gate.credentials
    gate.credentials = type(own)(own.access_key, "other", own.region)
    client = s3(gate)
    gate.credentials = own
    assert refusal(client.list_objects_v2) == "SignatureDoesNotMatch"


def signed(gate: R2Gate, method: str, key: str, body: bytes) -> dict[str, str]:
    """botocore's signature of one request, as headers."""
    request = AWSRequest(method=method, url=f"{gate.base_url}/media/{key}", data=body)
    keys = Credentials(gate.credentials.access_key, gate.credentials.secret_key)
    S3SigV4Auth(keys, "s3", "auto").add_auth(request)
    return dict(request.headers.items())


def code(response: requests.Response) -> str:
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


def test_the_body_must_be_the_signed_one(gate: R2Gate) -> None:
    headers = signed(gate, "PUT", "k", b"mine")
    assert (
        code(requests.put(f"{gate.base_url}/media/k", data=b"sham", headers=headers))
        == "XAmzContentSHA256Mismatch"
    )
    assert gate.read("k") is None
    assert (
        requests.put(f"{gate.base_url}/media/k", data=b"mine", headers=headers).status_code == 200
    )


def test_a_header_signature_lives_fifteen_minutes(gate: R2Gate) -> None:
    gate.put("k", b"1")
    headers, url = signed(gate, "GET", "k", b""), f"{gate.base_url}/media/k"
    assert requests.get(url, headers=headers).status_code == 200
    now = gate.clock()
    gate.clock = lambda: now + 901
    assert code(requests.get(url, headers=headers)) == "RequestTimeTooSkewed"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"Authorization": "Bearer abc"}, "AuthorizationHeaderMalformed"),
        ({"X-Amz-Date": ""}, "AuthorizationHeaderMalformed"),
        ({"x-amz-meta-owner": "me"}, "AccessDenied"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_changed_request_is_refused(gate: R2Gate, change: dict[str, str], expected: str) -> None:
    gate.put("k", b"1")
    headers = {**signed(gate, "GET", "k", b""), **change}
    assert code(requests.get(f"{gate.base_url}/media/k", headers=headers)) == expected


def test_a_request_is_signed_once(gate: R2Gate) -> None:
    gate.put("k", b"1")
    assert (
        code(requests.get(gate.presign("GET", "k"), headers=signed(gate, "GET", "k", b"")))
        == "InvalidArgument"
    )


def test_boto3s_default_checksum_trailer_is_refused_as_r2_refuses_it(gate: R2Gate) -> None:
    """Over https boto3 sends it as an aws-chunked trailer; the header is what makes it so."""
    headers = signed(gate, "PUT", "k", b"1") | {"Content-Encoding": "aws-chunked"}
    assert (
        code(requests.put(f"{gate.base_url}/media/k", data=b"1", headers=headers))
        == "NotImplemented"
    )
