"""Each fault once, over real HTTP, as an HTTP client meets it."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import requests
from requests.exceptions import ChunkedEncodingError, ConnectionError

from gpu_worker.devserver import Fault, Faults, ManualClock, R2Gate

CONTENT = bytes(range(256)) * 4000
"""1 024 000 bytes."""


def code(response: requests.Response) -> str:
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


def received(response: requests.Response) -> bytes:
    """What arrives before the connection ends, however it ends."""
    data = bytearray()
    try:
        for chunk in response.raw.stream(8192, decode_content=False):
            data += chunk
    except Exception as error:
        if "Incomplete" not in repr(error) and "reset" not in repr(error).lower():
            raise
    return bytes(data)


def get(gate: R2Gate, **options: Any) -> requests.Response:
    gate.put("k", CONTENT)
    return requests.get(gate.presign("GET", "k"), timeout=20, **options)


def test_a_status_n_times_then_the_truth(gate: R2Gate, faults: Faults) -> None:
    fault = faults.add(Fault.status(503, times=2, headers={"Retry-After": "1"}))
    first, second, third = get(gate), get(gate), get(gate)
    assert [r.status_code for r in (first, second, third)] == [503, 503, 200]
    assert (code(first), first.headers["Retry-After"]) == ("ServiceUnavailable", "1")
    assert fault.hits == 2
    assert [(seen.status, seen.fault) for seen in gate.log] == [
        (503, fault),
        (503, fault),
        (200, None),
    ]


def test_a_fault_hits_only_what_it_names(gate: R2Gate, faults: Faults) -> None:
    faults.add(
        Fault.status(500, method="PUT", path="out/*", query="partNumber", skip=1, times=None)
    )
    upload = gate.uploads.create("out/k", {})
    query = {"uploadId": upload, "partNumber": "1"}
    statuses = [
        requests.put(gate.presign("PUT", "out/k", query=query), data=b"1").status_code
        for _ in range(3)
    ]
    assert statuses == [200, 500, 500]
    assert requests.put(gate.presign("PUT", "out/k"), data=b"1").status_code == 200
    assert get(gate).status_code == 200
    faults.clear()
    assert requests.put(gate.presign("PUT", "out/k", query=query), data=b"1").status_code == 200


def test_an_error_inside_a_200(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.status(200, body=b"<Error><Code>InternalError</Code></Error>"))
    response = get(gate)
    assert (response.status_code, code(response)) == (200, "InternalError")


def test_reset_in_the_middle_of_a_download(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.reset_download(after_bytes=300_000))
    some = received(get(gate, stream=True))
    assert 0 < len(some) <= 300_000  # the HTTP library drops its last, unfinished read
    assert CONTENT.startswith(some)
    faults.add(Fault.reset_download(after_bytes=300_000))
    with pytest.raises((ChunkedEncodingError, ConnectionError)):
        get(gate)
    assert get(gate).content == CONTENT


def test_reset_in_the_middle_of_an_upload(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.reset_upload(after_bytes=1000))
    with pytest.raises(ConnectionError):
        requests.put(gate.presign("PUT", "k"), data=CONTENT * 8)
    assert gate.read("k") is None
    assert gate.log[-1].status == 0


def test_truncated_with_the_full_length_declared(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.truncated(after_bytes=1000))
    response = get(gate, stream=True)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert received(response) == CONTENT[:1000]


def test_truncated_without_a_length_looks_like_success(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.truncated(after_bytes=1000, declare_length=False))
    response = get(gate)
    assert response.status_code == 200
    assert "Content-Length" not in response.headers
    assert "Transfer-Encoding" not in response.headers
    assert response.content == CONTENT[:1000]


def test_a_slow_body_still_arrives_whole(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.slow_download(bytes_per_interval=256_000, interval_seconds=0.01))
    assert get(gate).content == CONTENT


def test_a_slow_upload_still_arrives_whole(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.slow_upload(bytes_per_interval=64_000, interval_seconds=0.001))
    assert requests.put(gate.presign("PUT", "k"), data=CONTENT).status_code == 200
    assert gate.read("k") == CONTENT


def test_range_ignored(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.ignore_range())
    response = get(gate, headers={"Range": "bytes=10-19"})
    assert (response.status_code, response.content) == (200, CONTENT)


def test_wrong_content_range(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.wrong_content_range(shift=5))
    response = get(gate, headers={"Range": "bytes=10-19"})
    assert (response.status_code, response.content) == (206, CONTENT[10:20])
    assert response.headers["Content-Range"] == f"bytes 15-24/{len(CONTENT) + 5}"


def test_more_bytes_than_declared(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.longer(extra_bytes=5000))
    response = get(gate)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.content == CONTENT


def test_an_endless_body_is_chunked_and_bounded(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.endless(max_bytes=3_000_000))
    response = get(gate, stream=True)
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in response.headers
    assert 3_000_000 <= len(received(response)) < 4_000_000


def test_another_etag(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.etag("changed"))
    assert get(gate).headers["ETag"] == '"changed"'


def test_the_object_changes_between_two_ranges(gate: R2Gate, faults: Faults) -> None:
    gate.put("k", CONTENT)
    url = gate.presign("GET", "k")
    faults.add(Fault.change_object(path="k"))
    first = requests.get(url, headers={"Range": "bytes=0-9"})
    assert first.content == CONTENT[:10]
    second = requests.get(url, headers={"Range": "bytes=10-19", "If-Match": first.headers["ETag"]})
    assert second.status_code == 412
    assert requests.get(url).content == bytes(byte ^ 0xFF for byte in CONTENT)


def test_the_answer_is_lost_after_the_write(
    gate: R2Gate, faults: Faults, clock: ManualClock
) -> None:
    headers = {"If-None-Match": "*"}
    url = gate.presign("PUT", "k", headers=headers)
    faults.add(Fault.lose_response(method="PUT"))
    with pytest.raises(ConnectionError):
        requests.put(url, data=CONTENT, headers=headers)
    assert gate.read("k") == CONTENT
    clock.advance(1)
    assert requests.put(url, data=CONTENT, headers=headers).status_code == 412


def test_forced_expiry(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.expire(skip=1))
    assert get(gate).status_code == 200
    response = get(gate)
    assert (response.status_code, code(response)) == (400, "ExpiredRequest")


def test_redirect(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.redirect("http://169.254.169.254/latest", status=302))
    response = get(gate, allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (
        302,
        "http://169.254.169.254/latest",
    )


def test_content_encoding_gzip(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.gzip())
    response = get(gate, stream=True)
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(received(response)) == CONTENT


def test_delay_serves_in_the_end(gate: R2Gate, faults: Faults) -> None:
    faults.add(Fault.delay(0.01))
    assert get(gate).content == CONTENT
