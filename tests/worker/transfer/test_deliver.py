"""What leaves the worker: single PUTs, parts, results and local files, each whole or not there."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.transfer_kit import KIB, Kit, noise, strict_gate

from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.store.gate import R2Gate
from gpu_worker.transfer import Source, Target, TransferLimits
from gpu_worker.transfer.multipart import PlannedPart, completion_xml, plan_parts
from gpu_worker_client.protocol import MIN_PART_BYTES, ErrorCode, OutputPart, TaskError

DATA = noise(700 * KIB + 77)
PART = 128 * KIB
KEYS = itertools.count()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[R2Gate]:
    with strict_gate(tmp_path_factory.mktemp("gate")) as gate:
        yield gate


@pytest.fixture
def kit(gate: R2Gate, tmp_path: Path) -> Iterator[Kit]:
    yield Kit(gate, tmp_path, prefix=f"{next(KEYS)}/")
    gate.faults.clear()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "made.mp4"
    path.write_bytes(DATA)
    return path


def multipart(
    kit: Kit, key: str = "out.mp4", size: int = len(DATA), part_size: int = PART, **options: Any
) -> Target:
    """Parts smaller than the wire allows, so that a small file has several: planned with legal
    parts, then shrunk."""
    plan = kit.gate.presign_multipart(kit.prefix + key, size, part_size, **options)
    headers = options.get("complete_headers") or {}
    target = kit.target({**plan, "part_size": MIN_PART_BYTES}, headers)
    assert target.multipart is not None
    return replace(target, multipart=replace(target.multipart, part_size=part_size))


def test_one_put_has_a_length_a_type_and_gives_the_etag(kit: Kit, output: Path) -> None:
    delivered = kit.deliver(kit.presign("PUT", "out.mp4"), output)
    assert kit.read("out.mp4") == DATA
    assert delivered.etag == f'"{hashlib.md5(DATA).hexdigest()}"'
    assert (delivered.size_bytes, delivered.parts) == (len(DATA), None)
    (seen,) = kit.log
    assert seen.headers["content-length"] == str(len(DATA))
    assert seen.headers["content-type"] == "video/mp4"
    assert "transfer-encoding" not in seen.headers
    assert "if-none-match" not in seen.headers


def test_signed_headers_are_sent_as_given(kit: Kit, output: Path) -> None:
    headers = {"Content-Type": "video/x-special", "x-amz-meta-job": "7"}
    kit.deliver(kit.target(kit.presign("PUT", "out.mp4", headers=headers), headers), output)
    (seen,) = kit.log
    assert {name: seen.headers[name.lower()] for name in headers} == headers


def test_an_empty_file_is_delivered(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    kit.deliver(kit.presign("PUT", "out.mp4"), tmp_path / "empty.mp4")
    assert kit.read("out.mp4") == b""


def test_s03_expiry_is_looked_at_before_the_first_byte(kit: Kit, output: Path) -> None:
    late = kit.target(kit.presign("PUT", "out.mp4", expires=3600))
    url = kit.presign("PUT", "out.mp4", expires=60, age_seconds=120)
    expired = replace(late, location=_unchecked(url))
    with pytest.raises(TaskError) as caught:
        kit.deliver(expired, output)
    assert caught.value.code is ErrorCode.url_expired
    assert kit.log == []


def _unchecked(url: str) -> Any:
    from gpu_worker.transfer.safe_url import parse_url

    return parse_url(url, "output_url")


def test_more_than_one_put_takes_is_refused_before_the_first_byte(kit: Kit, output: Path) -> None:
    with pytest.raises(TaskError) as caught:
        kit.with_limits(max_put_bytes=len(DATA) - 1).deliver(kit.presign("PUT", "out.mp4"), output)
    assert caught.value.code is ErrorCode.output_too_large
    assert "output_multipart" in caught.value.message
    assert kit.log == []
    assert (
        kit.with_limits(max_put_bytes=len(DATA)).deliver(kit.presign("PUT", "out.mp4"), output).etag
    )


def test_one_write_a_second_is_waited_for(tmp_path: Path, output: Path) -> None:
    with strict_gate(tmp_path / "gate", write_interval_seconds=1.0) as gate:
        kit = Kit(gate, tmp_path)
        gate.put("out.mp4", b"before")
        lost = gate.faults.add(Fault.lose_response(method="PUT"))
        with pytest.raises(TaskError) as caught:
            kit.deliver(
                kit.presign("PUT", "out.mp4"), output
            )  # pauses are recorded, not slept: 429 to the end
        assert caught.value.code is ErrorCode.storage_unavailable
        assert lost.hits == 1
        assert [seen.status for seen in gate.log][1:] == [429] * 4
        assert gate.read("out.mp4") == DATA


@pytest.mark.parametrize(
    ("size", "part_size", "expected"),
    [
        (0, 10, [(1, 0, 0)]),
        (1, 10, [(1, 0, 1)]),
        (10, 10, [(1, 0, 10)]),
        (11, 10, [(1, 0, 10), (2, 10, 1)]),
        (30, 10, [(1, 0, 10), (2, 10, 10), (3, 20, 10)]),
    ],
)
def test_plan_has_equal_parts_but_for_the_last(
    size: int, part_size: int, expected: list[tuple[int, int, int]]
) -> None:
    assert plan_parts(size, part_size, 3) == [PlannedPart(*part) for part in expected]


def test_plan_needs_enough_urls() -> None:
    with pytest.raises(TaskError) as caught:
        plan_parts(31, 10, 3)
    assert caught.value.code is ErrorCode.output_too_large
    assert caught.value.details == {"size_bytes": 31, "parts_needed": 4, "parts_given": 3}


def test_parts_are_uploaded_and_completed(kit: Kit, output: Path) -> None:
    delivered = kit.deliver(multipart(kit), output)
    assert kit.read("out.mp4") == DATA
    assert delivered.parts is None
    assert delivered.etag is not None
    assert delivered.etag.endswith('-6"')
    sizes = [int(seen.headers["content-length"]) for seen in kit.log if seen.method == "PUT"]
    assert sorted(sizes, reverse=True) == [PART] * 5 + [len(DATA) - 5 * PART]
    assert kit.reports[-1] == (len(DATA), len(DATA))


def test_without_a_completion_url_the_parts_come_back(kit: Kit, output: Path) -> None:
    delivered = kit.deliver(multipart(kit, complete=False), output)
    assert kit.read("out.mp4") is None
    assert delivered.parts is not None
    slices = [DATA[at : at + PART] for at in range(0, len(DATA), PART)]
    assert [(part.n, part.etag) for part in delivered.parts] == [
        (n, f'"{hashlib.md5(piece).hexdigest()}"') for n, piece in enumerate(slices, 1)
    ]


def test_unused_part_urls_are_left_alone(kit: Kit, output: Path) -> None:
    kit.deliver(multipart(kit, size=2 * len(DATA)), output)
    assert kit.read("out.mp4") == DATA


def test_too_few_part_urls_are_found_out_before_the_first_byte(kit: Kit, output: Path) -> None:
    with pytest.raises(TaskError) as caught:
        kit.deliver(multipart(kit, size=len(DATA) - PART), output)
    assert caught.value.code is ErrorCode.output_too_large
    assert kit.log == []


PART_FAULTS = {
    "S21 500 on the third part": [Fault.status(500, skip=2)],
    "S21 503 for several": [Fault.status(503, skip=1, times=TransferLimits().attempts - 1)],
    "reset in a part": [Fault.reset_upload(after_bytes=1000, skip=3)],
    "a part's answer is lost": [Fault.lose_response(skip=1)],
}


@pytest.mark.parametrize("faults", PART_FAULTS.values(), ids=PART_FAULTS)
def test_each_part_is_tried_again_alone(kit: Kit, output: Path, faults: list[Fault]) -> None:
    ordered = [kit.fault(fault, "PUT") for fault in faults]
    kit.deliver(multipart(kit), output)
    assert all(fault.hits for fault in ordered)
    assert kit.read("out.mp4") == DATA
    assert len([seen for seen in kit.log if seen.method == "PUT"]) == 6 + sum(
        fault.hits for fault in ordered
    )


@pytest.mark.parametrize("status", [403, 500])
def test_s21_a_part_that_never_arrives_leaves_no_object(
    kit: Kit, output: Path, status: int
) -> None:
    kit.fault(Fault.status(status, times=None, skip=3), "PUT")
    with pytest.raises(TaskError) as caught:
        kit.deliver(multipart(kit), output)
    assert caught.value.code is (
        ErrorCode.url_denied if status == 403 else ErrorCode.storage_unavailable
    )
    assert kit.read("out.mp4") is None
    assert not [seen for seen in kit.log if seen.method == "POST"]


def xml_error(code: str) -> bytes:
    return (
        f"<?xml version='1.0'?>\n   <Error><Code>{code}</Code><Message>We encountered an"
        " error</Message></Error>".encode()
    )


COMPLETE_FAULTS = {
    "S22 200 with InternalError inside": Fault.status(
        200, body=xml_error("InternalError"), times=2
    ),
    "S22 200 with nothing inside": Fault.status(200, body=b"", times=2),
    "503": Fault.status(503, times=3),
    "the answer is lost, then NoSuchUpload": Fault.lose_response(),
    "S17 409": Fault.status(409, code="ConditionalRequestConflict"),
}


@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
@pytest.mark.parametrize("fault", COMPLETE_FAULTS.values(), ids=COMPLETE_FAULTS)
def test_completion_recovers(kit: Kit, output: Path, fault: Fault, conditional: bool) -> None:
    ordered = kit.fault(fault, "POST")
    kit.deliver(
        multipart(kit, complete_headers={"If-None-Match": "*"} if conditional else None), output
    )
    assert ordered.hits > 0
    assert kit.read("out.mp4") == DATA


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.status(200, body=xml_error("InvalidPart"), times=None), ErrorCode.url_denied),
        (
            Fault.status(200, body=xml_error("InternalError"), times=None),
            ErrorCode.storage_unavailable,
        ),
        (Fault.status(404, code="NoSuchUpload", times=None), ErrorCode.url_denied),
        (Fault.status(412, times=None), ErrorCode.output_exists),
        (Fault.expire(times=None), ErrorCode.url_expired),
    ],
    ids=["S22 InvalidPart in a 200", "S22 for ever", "upload gone", "object exists", "expired"],
)
def test_completion_is_refused(kit: Kit, output: Path, fault: Fault, code: ErrorCode) -> None:
    kit.fault(fault, "POST")
    with pytest.raises(TaskError) as caught:
        kit.deliver(multipart(kit), output)
    assert caught.value.code is code
    assert kit.read("out.mp4") is None


def test_completion_document_escapes_what_the_store_sent() -> None:
    document = completion_xml([OutputPart(n=1, etag='"a&b<c>"')])
    assert b'<Part><PartNumber>1</PartNumber><ETag>"a&amp;b&lt;c&gt;"</ETag></Part>' in document


RESULT = b'{"status":"completed","scenes":[]}'


def result_target(kit: Kit, key: str = "r.json", headers: dict[str, str] | None = None) -> Target:
    target = kit.target(kit.presign("PUT", "x.mp4"), headers)
    return replace(
        target,
        location=_unchecked(kit.presign("PUT", key, headers=headers or {})),
        where="result_url",
    )


def result_source(kit: Kit, key: str = "r.json") -> Source:
    return replace(kit.source(kit.presign("GET", key)), where="result_get_url")


def test_result_is_plain_json_or_gzip_by_its_name(kit: Kit) -> None:
    kit.deliver_result(result_target(kit), RESULT)
    kit.deliver_result(result_target(kit, "r.json.gz"), RESULT)
    assert kit.read("r.json") == RESULT
    packed = kit.read("r.json.gz")
    assert packed is not None
    assert packed != RESULT
    assert gzip.decompress(packed) == RESULT
    assert [seen.headers["content-type"] for seen in kit.log] == [
        "application/json",
        "application/gzip",
    ]
    assert kit.read_result(result_source(kit)) == RESULT
    assert kit.read_result(result_source(kit, "r.json.gz")) == RESULT


def test_no_earlier_result_is_no_error(kit: Kit) -> None:
    assert kit.read_result(result_source(kit)) is None


@pytest.mark.parametrize(
    "fault",
    [Fault.status(503), Fault.truncated(after_bytes=5), Fault.reset_download(after_bytes=1)],
)
def test_reading_a_result_recovers(kit: Kit, fault: Fault) -> None:
    kit.put("r.json", RESULT)
    ordered = kit.fault(fault, "GET")
    assert kit.read_result(result_source(kit)) == RESULT
    assert ordered.hits == 1


def test_an_earlier_result_is_bounded_packed_and_unpacked(kit: Kit) -> None:
    small = kit.with_limits(max_result_bytes=1000)
    kit.put("r.json", b"x" * 1001)
    kit.put("r.json.gz", gzip.compress(b"x" * 10_000_000))
    for key in ("r.json", "r.json.gz"):
        with pytest.raises(TaskError) as caught:
            small.read_result(result_source(kit, key))
        assert caught.value.code is ErrorCode.result_too_large
    kit.put("r.json.gz", b"not gzip")
    with pytest.raises(TaskError) as caught:
        kit.read_result(result_source(kit, "r.json.gz"))
    assert caught.value.code is ErrorCode.invalid_task


def test_s16_412_is_settled_by_reading_back(kit: Kit) -> None:
    headers = {"If-None-Match": "*"}
    kit.put("r.json", RESULT)
    kit.deliver_result(result_target(kit, headers=headers), RESULT, result_source(kit))
    with pytest.raises(TaskError) as caught:
        kit.deliver_result(result_target(kit, headers=headers), b"another", result_source(kit))
    assert caught.value.code is ErrorCode.output_exists
    with pytest.raises(TaskError):
        kit.deliver_result(result_target(kit, headers=headers), RESULT)  # nothing to read back with
    assert kit.read("r.json") == RESULT


def test_local_files_come_and_go_whole(kit: Kit, output: Path, tmp_path: Path) -> None:
    place = tmp_path / "a folder" / "out.mp4"
    place.parent.mkdir()
    delivered = kit.deliver(str(place), output)
    assert place.read_bytes() == DATA
    assert delivered.url == str(place)
    assert [path.name for path in place.parent.iterdir()] == ["out.mp4"]
    assert place.stat().st_mode & 0o777 == 0o644
    fetched = kit.fetch(str(place))
    assert kit.dest.read_bytes() == DATA
    assert fetched.size_bytes == len(DATA)
    assert not kit.dest.samefile(place), "a link would let the engine write to the caller's file"


def test_local_input_must_be_a_file_within_the_limit(
    kit: Kit, output: Path, tmp_path: Path
) -> None:
    for absent in (tmp_path / "absent.mp4", tmp_path):
        with pytest.raises(TaskError) as caught:
            kit.fetch(str(absent))
        assert caught.value.code is ErrorCode.input_not_found
    with pytest.raises(TaskError) as caught:
        kit.with_limits(max_input_bytes=1000).fetch(str(output))
    assert caught.value.code is ErrorCode.input_too_large
    assert not kit.dest.exists()


def test_local_copies_can_be_cancelled(kit: Kit, output: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    kit.cancelled.set()
    with pytest.raises(TaskError) as caught:
        kit.deliver(str(tmp_path / "out" / "out.mp4"), output)
    assert caught.value.code is ErrorCode.cancelled
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(TaskError) as caught:
        kit.fetch(str(output))
    assert caught.value.code is ErrorCode.cancelled
    assert not kit.dest.exists()


@pytest.mark.parametrize("there", [True, False], ids=["object there", "no object yet"])
def test_an_upload_url_signed_for_get_is_found_before_the_work(kit: Kit, there: bool) -> None:
    if there:
        kit.put("out.mp4", DATA)
    with pytest.raises(TaskError) as caught:
        kit.check_upload(kit.presign("GET", "out.mp4"))
    assert caught.value.code is ErrorCode.url_denied
    assert "sign it for PUT" in caught.value.message


def test_the_check_of_a_right_upload_url_writes_nothing(kit: Kit) -> None:
    kit.check_upload(kit.presign("PUT", "out.mp4"))
    assert [(seen.method, seen.status) for seen in kit.log] == [("GET", 403)]
    assert kit.read("out.mp4") is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(503),
        Fault.status(403, code="AccessDenied"),
        Fault.redirect("https://elsewhere.example/"),
        Fault.reset_download(after_bytes=0),
    ],
    ids=["503", "403", "redirect", "reset"],
)
def test_what_the_check_cannot_be_sure_of_is_left_to_the_upload(kit: Kit, fault: Fault) -> None:
    kit.fault(fault, "GET")
    kit.check_upload(kit.presign("PUT", "out.mp4"))
    assert len(kit.log) == 1, "asked once, not again"


@pytest.mark.parametrize("code", ["NoSuchBucket", "InvalidAccessKeyId"])
def test_a_refusal_that_no_method_escapes_is_found_before_the_work(kit: Kit, code: str) -> None:
    kit.fault(Fault.status(404 if code == "NoSuchBucket" else 403, code=code), "GET")
    with pytest.raises(TaskError) as caught:
        kit.check_upload(kit.presign("PUT", "out.mp4"))
    assert caught.value.code is ErrorCode.url_denied
    assert caught.value.details["storage_code"] == code
