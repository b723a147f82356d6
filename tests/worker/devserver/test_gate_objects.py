"""What a real bucket refuses, over real HTTP: lengths, conditions, ranges, checksums, write rate.
Nothing partial shows."""

from __future__ import annotations

import base64
import hashlib
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from gpu_worker.devserver import GateLimits, LocalPlatform, ManualClock, R2Gate
from gpu_worker.devserver.http_rules import byte_range
from gpu_worker.devserver.store.s3_errors import S3Error

CONTENT = bytes(range(256)) * 4


def code(response: requests.Response) -> str:
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


def test_a_chunked_upload_has_no_length_and_is_refused(gate: R2Gate) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abc"

    response = requests.put(gate.presign("PUT", "k"), data=chunks())
    assert (response.status_code, code(response)) == (411, "MissingContentLength")
    assert gate.keys() == []


def test_aws_chunked_trailers_are_refused(gate: R2Gate) -> None:
    headers = {"Content-Encoding": "aws-chunked"}
    response = requests.put(
        gate.presign("PUT", "k", headers=headers), data=b"3\r\nabc\r\n0\r\n", headers=headers
    )
    assert (response.status_code, code(response)) == (501, "NotImplemented")
    streaming = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    assert (
        requests.put(
            gate.presign("PUT", "k", headers=streaming), data=b"1", headers=streaming
        ).status_code
        == 501
    )
    assert gate.keys() == []


def test_one_put_is_capped(clock: ManualClock) -> None:
    with LocalPlatform(clock=clock, gate_limits=GateLimits(max_put_bytes=10)) as platform:
        assert requests.put(platform.gate.presign("PUT", "k"), data=b"x" * 10).status_code == 200
        assert (
            code(requests.put(platform.gate.presign("PUT", "l"), data=b"x" * 11))
            == "EntityTooLarge"
        )


def test_one_write_a_second_to_one_key(gate: R2Gate, clock: ManualClock) -> None:
    assert requests.put(gate.presign("PUT", "k"), data=b"1").status_code == 200
    assert requests.put(gate.presign("PUT", "k"), data=b"2").status_code == 429
    assert requests.put(gate.presign("PUT", "other"), data=b"2").status_code == 200
    clock.advance(1)
    assert requests.put(gate.presign("PUT", "k"), data=b"3").status_code == 200
    assert gate.read("k") == b"3"


def test_conditional_writes(gate: R2Gate, clock: ManualClock) -> None:
    def put(name: str, value: str, body: bytes) -> int:
        clock.advance(1)
        return requests.put(
            gate.presign("PUT", "k", headers={name: value}), data=body, headers={name: value}
        ).status_code

    assert put("If-Match", '"anything"', b"0") == 412
    assert put("If-None-Match", "*", b"1") == 200
    assert put("If-None-Match", "*", b"2") == 412
    assert put("If-Match", f'"{hashlib.md5(b"other").hexdigest()}"', b"3") == 412
    assert gate.read("k") == b"1"
    assert put("If-Match", f'"{hashlib.md5(b"1").hexdigest()}"', b"4") == 200
    assert gate.read("k") == b"4"


def test_conditional_reads(gate: R2Gate) -> None:
    gate.put("k", CONTENT)
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    url = gate.presign("GET", "k")
    assert requests.get(url).headers["ETag"] == etag
    assert requests.get(url, headers={"If-Match": etag}).status_code == 200
    assert requests.get(url, headers={"If-Match": '"0"'}).status_code == 412
    assert requests.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert requests.get(url, headers={"Range": "bytes=0-1", "If-Range": '"0"'}).status_code == 200


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=1000-", (1000, 1024)),
        ("bytes=-24", (1000, 1024)),
        ("bytes=-5000", (0, 1024)),
        ("bytes=1020-99999", (1020, 1024)),
    ],
)
def test_ranges(gate: R2Gate, header: str, expected: tuple[int, int]) -> None:
    gate.put("k", CONTENT)
    start, end = expected
    response = requests.get(gate.presign("GET", "k"), headers={"Range": header})
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/1024"
    assert response.content == CONTENT[start:end]


@pytest.mark.parametrize("header", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_the_object_is_416(gate: R2Gate, header: str) -> None:
    gate.put("k", CONTENT)
    assert requests.get(gate.presign("GET", "k"), headers={"Range": header}).status_code == 416


@pytest.mark.parametrize(
    "header",
    [None, "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=9-3", "bytes=" + "9" * 5000 + "-"],
)
def test_what_is_no_single_byte_range_gives_the_whole(header: str | None) -> None:
    assert byte_range(header, 100) is None
    with pytest.raises(S3Error):
        byte_range("bytes=0-", 0)


def test_form_posts_and_response_overrides_are_not_implemented(gate: R2Gate) -> None:
    gate.put("k", b"1")
    assert requests.post(gate.presign("POST", "k"), data={"key": "k"}).status_code == 501
    url = gate.presign("GET", "k", query={"response-content-type": "text/html"})
    assert code(requests.get(url)) == "NotImplemented"


def test_a_checksum_signed_into_the_url_must_match_the_body(gate: R2Gate) -> None:
    """aws-sdk-js signs the checksum of an empty body into presigned PUT URLs."""
    empty = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32"}
    response = requests.put(gate.presign("PUT", "k", query=empty), data=b"body")
    assert (response.status_code, code(response)) == (400, "BadDigest")
    right = {
        "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(b"body").to_bytes(4, "big")).decode()
    }
    assert requests.put(gate.presign("PUT", "k", query=right), data=b"body").status_code == 200


@pytest.mark.parametrize("name", ["Content-MD5", "x-amz-checksum-sha256", "x-amz-checksum-sha1"])
def test_a_checksum_header_must_match_the_body(gate: R2Gate, clock: ManualClock, name: str) -> None:
    make = {
        "Content-MD5": hashlib.md5,
        "x-amz-checksum-sha256": hashlib.sha256,
        "x-amz-checksum-sha1": hashlib.sha1,
    }[name]
    for body, status in ((b"body", 200), (b"ydob", 400)):
        clock.advance(1)
        headers = {name: base64.b64encode(make(b"body").digest()).decode()}
        assert (
            requests.put(
                gate.presign("PUT", "k", headers=headers), data=body, headers=headers
            ).status_code
            == status
        )
    assert gate.read("k") == b"body"


def test_headers_of_the_put_come_back_with_the_get(gate: R2Gate) -> None:
    headers = {"Content-Type": "video/mp4", "Cache-Control": "no-store", "x-amz-meta-job": "7"}
    requests.put(
        gate.presign("PUT", "k", headers=headers), data=b"1", headers=headers
    ).raise_for_status()
    answered = requests.get(gate.presign("GET", "k")).headers
    assert {name: answered[name] for name in headers} == headers


def test_an_upload_that_breaks_off_leaves_nothing(
    gate: R2Gate, platform: LocalPlatform, clock: ManualClock
) -> None:
    folder = platform.data_dir / "objects"
    gate.put("k", b"before")
    url = urlsplit(gate.presign("PUT", "k"))
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 0), timeout=10) as connection:
        head = (
            f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length:"
            " 100000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 50_000)
        assert platform.wait_until(lambda: True if len(list(folder.iterdir())) == 2 else None, 10)
        assert gate.read("k") == b"before"
    assert platform.wait_until(lambda: True if len(list(folder.iterdir())) == 1 else None, 10)
    assert gate.read("k") == b"before"
    assert requests.get(gate.presign("GET", "k")).content == b"before"


def test_fewer_bytes_than_declared_are_incomplete(gate: R2Gate) -> None:
    with gate.store.incoming("k") as incoming:
        incoming.write(b"abc")
        with pytest.raises(S3Error, match="IncompleteBody"):
            incoming.finish(4)


def test_a_missing_key_and_a_deleted_one(gate: R2Gate) -> None:
    assert code(requests.get(gate.presign("GET", "k"))) == "NoSuchKey"
    gate.put("k", b"1")
    assert requests.delete(gate.presign("DELETE", "k")).status_code == 204
    assert gate.read("k") is None
    assert requests.get(gate.presign("GET", "k")).status_code == 404


def test_a_reader_keeps_its_version_while_another_is_written(gate: R2Gate) -> None:
    first, second = b"a" * 8_000_000, b"b" * 8_000_000
    gate.put("k", first)
    with requests.get(gate.presign("GET", "k"), stream=True) as response:
        chunks = response.iter_content(100_000)
        received = next(chunks)
        gate.put("k", second)
        received += b"".join(chunks)
    assert received == first
    assert gate.read("k") == second


def test_files_go_in_and_out_by_path(gate: R2Gate, tmp_path: Path) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(CONTENT)
    gate.put("in/clip.mp4", source)
    assert gate.path("in/clip.mp4").read_bytes() == CONTENT
    assert gate.path("in/clip.mp4").suffix == ".mp4"
    assert gate.keys() == ["in/clip.mp4"]


def test_the_log_shows_what_was_asked(gate: R2Gate) -> None:
    gate.put("k", CONTENT)
    requests.get(gate.presign("GET", "k"), headers={"Range": "bytes=0-0"})
    (seen,) = gate.log
    assert (seen.method, seen.key, seen.status, seen.headers["range"], seen.query) == (
        "GET",
        "k",
        206,
        "bytes=0-0",
        {},
    )
