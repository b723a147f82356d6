"""Multipart uploads by presigned URLs: R2's part rules, ETags as S3 defines them, nothing visible
before Complete."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import requests

from gpu_worker.devserver import ManualClock, R2Gate
from gpu_worker.devserver.store.multipart import StoredPart, choose_parts, parse_complete
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker_client.protocol import OutputMultipart


def code(response: requests.Response) -> str:
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


def document(*parts: tuple[int, str]) -> bytes:
    inner = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts
    )
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</CompleteMultipartUpload>'.encode()


def parts(*sizes: int) -> dict[int, StoredPart]:
    return {n: StoredPart(n, Path(), size, f"{n:032x}") for n, size in enumerate(sizes, 1)}


@pytest.mark.parametrize(
    ("sizes", "refused"),
    [
        ((100, 100, 100), None),
        ((100, 100, 1), None),
        ((1,), None),
        ((100, 99, 100), "InvalidPart"),
        ((100, 100, 101), "InvalidPart"),
        ((99, 99, 99), "EntityTooSmall"),
    ],
)
def test_the_rule_of_equal_parts(sizes: tuple[int, ...], refused: str | None) -> None:
    stored = parts(*sizes)
    listed = [(n, part.etag) for n, part in stored.items()]
    if refused is None:
        assert choose_parts(listed, stored, 100) == list(stored.values())
        return
    with pytest.raises(S3Error) as error:
        choose_parts(listed, stored, 100)
    assert error.value.code == refused


def test_parts_must_be_known_and_in_order() -> None:
    stored = parts(100, 100)
    one, two = ((n, part.etag) for n, part in stored.items())
    for listed, expected in (
        ([two, one], "InvalidPartOrder"),
        ([one, one], "InvalidPartOrder"),
        ([one, (3, "0")], "InvalidPart"),
        ([one, (2, one[1])], "InvalidPart"),
    ):
        with pytest.raises(S3Error) as error:
            choose_parts(listed, stored, 100)
        assert error.value.code == expected


@pytest.mark.parametrize("quote", ['"', "&quot;", "&#34;", ""])
def test_etags_may_be_quoted_in_every_way_of_xml(quote: str) -> None:
    assert parse_complete(document((1, f"{quote}AB{quote}"))) == [(1, "ab")]


@pytest.mark.parametrize(
    "body",
    [b"", b"<CompleteMultipartUpload/>", b"<Part><PartNumber>1</PartNumber></Part>", b"\xff\x00"],
)
def test_a_malformed_document_is_refused(body: bytes) -> None:
    with pytest.raises(S3Error, match="MalformedXML"):
        parse_complete(body)


def upload(gate: R2Gate, plan: OutputMultipart, *bodies: bytes) -> list[tuple[int, str]]:
    done: list[tuple[int, str]] = []
    for part, body in zip(plan.parts, bodies, strict=False):
        response = requests.put(part.url, data=body)
        response.raise_for_status()
        done.append((part.n, response.headers["ETag"]))
    return done


def plan_for(gate: R2Gate, size: int, **options: object) -> OutputMultipart:
    return OutputMultipart.model_validate(
        gate.presign_multipart("big.mp4", size, 5 * 1024 * 1024, **options)
    )  # type: ignore[arg-type]


def test_a_whole_upload(gate: R2Gate) -> None:
    plan = plan_for(gate, 11 * 1024 * 1024)
    assert len(plan.parts) == 3
    bodies = [b"a" * 200, b"b" * 200, b"c" * 7]
    done = upload(gate, plan, *bodies)
    assert gate.read("big.mp4") is None
    assert len(gate.open_uploads("big.mp4")) == 1
    assert plan.complete is not None
    response = requests.post(plan.complete.url, data=document(*done))
    assert response.status_code == 200
    assert gate.read("big.mp4") == b"".join(bodies)
    expected = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest()
    assert requests.get(gate.presign("GET", "big.mp4")).headers["ETag"] == f'"{expected}-3"'
    assert gate.open_uploads() == []
    assert code(requests.post(plan.complete.url, data=document(*done))) == "NoSuchUpload"


def test_unequal_parts_are_found_out_at_complete_and_nothing_shows(gate: R2Gate) -> None:
    plan = plan_for(gate, 15 * 1024 * 1024)
    done = upload(gate, plan, b"a" * 200, b"b" * 199, b"c" * 200)
    assert plan.complete is not None
    response = requests.post(plan.complete.url, data=document(*done))
    assert (response.status_code, code(response)) == (400, "InvalidPart")
    assert "All non-trailing parts must have the same length" in response.text
    assert gate.read("big.mp4") is None
    assert len(gate.open_uploads("big.mp4")) == 1


def test_a_part_sent_again_replaces_the_first(gate: R2Gate) -> None:
    plan = plan_for(gate, 1)
    upload(gate, plan, b"first")
    done = upload(gate, plan, b"second")
    assert plan.complete is not None
    requests.post(plan.complete.url, data=document(*done)).raise_for_status()
    assert gate.read("big.mp4") == b"second"


def test_complete_honours_if_none_match(gate: R2Gate, clock: ManualClock) -> None:
    headers = {"If-None-Match": "*"}
    plan = plan_for(gate, 1, complete_headers=headers)
    done = upload(gate, plan, b"mine")
    gate.put("big.mp4", b"theirs")
    assert plan.complete is not None
    assert (
        requests.post(plan.complete.url, data=document(*done), headers=headers).status_code == 412
    )
    assert gate.read("big.mp4") == b"theirs"


def test_abort_list_and_create_by_presigned_urls(gate: R2Gate) -> None:
    created = requests.post(gate.presign("POST", "k", query={"uploads": ""}))
    upload_id = created.text.partition("<UploadId>")[2].partition("<")[0]
    assert gate.open_uploads("k") == [upload_id]
    query = {"uploadId": upload_id}
    requests.put(
        gate.presign("PUT", "k", query={**query, "partNumber": "1"}), data=b"abc"
    ).raise_for_status()
    assert "<PartNumber>1</PartNumber>" in requests.get(gate.presign("GET", "k", query=query)).text
    assert requests.delete(gate.presign("DELETE", "k", query=query)).status_code == 204
    assert gate.open_uploads() == []
    late = requests.put(gate.presign("PUT", "k", query={**query, "partNumber": "2"}), data=b"abc")
    assert (late.status_code, code(late)) == (404, "NoSuchUpload")


@pytest.mark.parametrize("number", ["0", "10001", "x", "-1", "9" * 5000])
def test_part_numbers_are_1_to_10000(gate: R2Gate, number: str) -> None:
    upload_id = gate.uploads.create("k", {})
    url = gate.presign("PUT", "k", query={"uploadId": upload_id, "partNumber": number})
    assert code(requests.put(url, data=b"1")) == "InvalidArgument"


def test_without_complete_the_backend_completes(gate: R2Gate) -> None:
    plan = plan_for(gate, 1, complete=False)
    assert plan.complete is None
    upload(gate, plan, b"x")
    assert gate.read("big.mp4") is None
