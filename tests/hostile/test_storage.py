"""A store that fails in every way a store can, over real HTTP: the bytes arrive whole and equal, or
a typed error and no file.

Row names are those of the project's list of hostile inputs. "One fault, then well" rows must
recover within the same transfer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.transfer_kit import KIB, Kit, noise, sha256, strict_gate

from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.store.gate import R2Gate
from gpu_worker_client.protocol import ErrorCode, TaskError

DATA = noise(1024 * KIB + 333)
FIRST = 64 * KIB
"""Size of the first range; later ranges are a quarter of the rest."""


KEYS = itertools.count()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[R2Gate]:
    with strict_gate(tmp_path_factory.mktemp("gate")) as gate:
        yield gate


@pytest.fixture
def kit(gate: R2Gate, tmp_path: Path) -> Iterator[Kit]:
    """Keys of its own for every test: the server may still be answering requests that an earlier
    test gave up."""
    kit = Kit(gate, tmp_path, prefix=f"{next(KEYS)}/")
    kit.put("in.mp4", DATA)
    yield kit
    gate.faults.clear()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "made.mp4"
    path.write_bytes(DATA)
    return path


RECOVERED_GET = {
    "S05 429": [Fault.status(429, times=2)],
    "S05 500": [Fault.status(500, times=2)],
    "S05 502": [Fault.status(502, times=2)],
    "S05 503": [Fault.status(503, times=4)],
    "S05 503 in a later range": [Fault.status(503, skip=2, times=2)],
    "S06 reset after 0": [Fault.reset_download(after_bytes=0)],
    "S06 reset after 1": [Fault.reset_download(after_bytes=1)],
    "S06 reset after half": [Fault.reset_download(after_bytes=FIRST // 2)],
    "S06 reset before the last": [Fault.reset_download(after_bytes=FIRST - 1)],
    "S06 reset in a later range": [Fault.reset_download(after_bytes=1000, skip=1, times=3)],
    "S07 short body": [Fault.truncated(after_bytes=100)],
    "S07 short body in later ranges": [Fault.truncated(after_bytes=5000, skip=1, times=4)],
    "S10 the object changes once": [Fault.change_object(skip=1)],
    "S10 another ETag once": [Fault.etag("other", skip=2)],
    "S11 Range ignored at first": [Fault.ignore_range()],
    "S11 Range ignored later": [Fault.ignore_range(skip=1)],
    "S11 Range never understood": [Fault.ignore_range(times=None)],
    "S11 wrong Content-Range at first": [Fault.wrong_content_range()],
    "S11 wrong Content-Range later": [Fault.wrong_content_range(skip=3)],
    "S11 Content-Range shifted back": [Fault.wrong_content_range(shift=-1, skip=2)],
    "all at once": [
        Fault.status(503),
        Fault.reset_download(after_bytes=9),
        Fault.truncated(after_bytes=99, skip=1),
        Fault.delay(0.2),
    ],
}


@pytest.mark.parametrize("faults", RECOVERED_GET.values(), ids=RECOVERED_GET)
def test_download_recovers(kit: Kit, faults: list[Fault]) -> None:
    ordered = [kit.fault(f, "GET") for f in faults]
    fetched = kit.fetch(kit.presign("GET", "in.mp4"))
    assert all(fault.hits > 0 for fault in ordered), "the fault never struck, so nothing was shown"
    assert sha256(kit.dest) == sha256(kit.read("in.mp4") or b"")
    assert fetched.size_bytes == len(DATA)
    assert kit.reports[-1] == (len(DATA), len(DATA))


REFUSED_GET: dict[str, tuple[list[Fault], ErrorCode, int]] = {
    # faults, code, most requests it may take
    "S01 400 ExpiredRequest": (
        [Fault.status(400, code="ExpiredRequest", times=None)],
        ErrorCode.url_expired,
        1,
    ),
    "S01 403 with AWS's words": (
        [
            Fault.status(
                403,
                body=(
                    b"<Error><Code>AccessDenied</Code><Message>Request has"
                    b" expired</Message></Error>"
                ),
            )
        ],
        ErrorCode.url_expired,
        1,
    ),
    "S01 403": ([Fault.status(403, times=None)], ErrorCode.url_denied, 1),
    "S01 401": ([Fault.status(401, times=None)], ErrorCode.url_denied, 1),
    "S02 expires midway": (
        [Fault.reset_download(after_bytes=9), Fault.expire(times=None)],
        ErrorCode.url_expired,
        2,
    ),
    "S04 404": ([Fault.status(404, times=None)], ErrorCode.input_not_found, 1),
    "S05 503 for ever": ([Fault.status(503, times=None)], ErrorCode.storage_unavailable, 5),
    "S06 reset for ever": (
        [Fault.reset_download(after_bytes=0, times=None)],
        ErrorCode.download_failed,
        5,
    ),
    "S07 short for ever": (
        [Fault.truncated(after_bytes=0, times=None)],
        ErrorCode.download_truncated,
        5,
    ),
    "S08 no Content-Length": (
        [Fault.truncated(after_bytes=100, declare_length=False)],
        ErrorCode.length_required,
        1,
    ),
    "S09 more than declared": ([Fault.longer(times=None)], ErrorCode.download_failed, 1),
    "S09 endless": ([Fault.endless(times=None)], ErrorCode.length_required, 1),
    "S10 changes for ever": ([Fault.change_object(times=None)], ErrorCode.input_changed, 40),
    "S12 Content-Encoding": ([Fault.gzip(times=None)], ErrorCode.unsupported_media, 1),
    "S20 clock": ([Fault.status(403, code="RequestTimeTooSkewed")], ErrorCode.clock_skew, 1),
    "U12 redirect inside": (
        [Fault.redirect("http://127.0.0.1:9/in.mp4?X-Amz-Signature=CANARY", times=None)],
        ErrorCode.redirect_not_allowed,
        1,
    ),
    "U13 redirect to itself": (
        [Fault.redirect("/media/in.mp4", status=302, times=None)],
        ErrorCode.redirect_not_allowed,
        1,
    ),
}


@pytest.mark.parametrize("row", REFUSED_GET.values(), ids=REFUSED_GET)
def test_download_is_refused(kit: Kit, row: tuple[list[Fault], ErrorCode, int]) -> None:
    faults, code, most = row
    ordered = [kit.fault(f, "GET") for f in faults]
    url = kit.presign("GET", "in.mp4")
    with pytest.raises(TaskError) as caught:
        kit.fetch(url)
    assert caught.value.code is code
    assert caught.value.message.startswith("input_url: ")
    assert 0 < sum(fault.hits for fault in ordered) <= most
    assert not kit.dest.exists()
    assert_no_secret(caught.value, url)


def assert_no_secret(error: TaskError, url: str) -> None:
    shown = f"{error} {error.body().to_wire()} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert "X-Amz-" not in shown
    assert "CANARY" not in shown
    assert url.partition("?")[2] not in shown


def test_s05_retry_after_is_honoured_and_jitter_is_full(kit: Kit) -> None:
    kit.fault(Fault.status(503, headers={"Retry-After": "7"}), "GET")
    kit.fault(Fault.status(503), "GET")
    kit.fetch(kit.presign("GET", "in.mp4"))
    assert kit.pauses == [7.0, 1.0]  # random is 1 here: the second pause is the whole of 0.5 s x 2


def test_s05_retry_after_beyond_the_budget_ends_at_once(kit: Kit) -> None:
    kit.fault(Fault.status(503, headers={"Retry-After": "600"}, times=None), "GET")
    with pytest.raises(TaskError) as caught:
        kit.fetch(kit.presign("GET", "in.mp4"))
    assert caught.value.code is ErrorCode.storage_unavailable
    assert caught.value.code.retryable
    assert kit.pauses == []


def test_s06_resumes_instead_of_starting_again(kit: Kit) -> None:
    kit.fault(Fault.reset_download(after_bytes=FIRST // 2, skip=1), "GET")
    kit.with_limits(range_parallelism=1, parallel_from_bytes=1 << 40).fetch(
        kit.presign("GET", "in.mp4")
    )
    ranges = [seen.headers["range"] for seen in kit.log]
    assert ranges[0] == f"bytes=0-{FIRST - 1}"
    assert ranges[1].startswith(f"bytes={FIRST}-")
    resumed_at = int(ranges[2].split("=")[1].split("-")[0])
    assert resumed_at > FIRST
    assert all("if-match" in seen.headers for seen in kit.log[1:])


def test_s10_a_range_of_another_version_is_not_used(kit: Kit) -> None:
    """The store ignores If-Match and sends a part of another version: only its ETag tells."""
    kit.fault(Fault.etag("other", skip=2), "GET")
    kit.fetch(kit.presign("GET", "in.mp4"))
    assert [seen.headers["range"] for seen in kit.log].count(f"bytes=0-{FIRST - 1}") == 2


@pytest.mark.parametrize("skip", [0, 1, 4])
def test_s11_a_range_that_was_not_asked_for_is_not_used(kit: Kit, skip: int) -> None:
    kit.fault(Fault.wrong_content_range(skip=skip), "GET")
    kit.fetch(kit.presign("GET", "in.mp4"))
    assert "range" not in kit.log[-1].headers
    assert kit.dest.read_bytes() == DATA


@pytest.mark.timeout(20)
def test_one_failed_range_ends_the_others_at_once(kit: Kit) -> None:
    kit.fault(Fault.status(403, skip=2), "GET")
    kit.fault(
        Fault.slow_download(bytes_per_interval=1, interval_seconds=29, skip=1, times=None), "GET"
    )
    with pytest.raises(TaskError) as caught:
        kit.with_limits(idle_seconds=60, min_bytes_per_second=0).fetch(kit.presign("GET", "in.mp4"))
    assert caught.value.code is ErrorCode.url_denied
    assert not kit.dest.exists()


def test_a_large_object_comes_over_several_connections_each_byte_once(kit: Kit) -> None:
    fetched = kit.fetch(kit.presign("GET", "in.mp4"))
    spans = sorted(tuple(int(n) for n in seen.headers["range"][6:].split("-")) for seen in kit.log)
    assert fetched.connections == len(spans) == 5
    assert spans[0][0] == 0
    assert [first for first, _ in spans[1:]] == [last + 1 for _, last in spans[:-1]]
    assert {seen.method for seen in kit.log} == {"GET"}
    assert {seen.headers["accept-encoding"] for seen in kit.log} == {"identity"}


def test_s09_size_limit_is_known_before_the_body(kit: Kit) -> None:
    with pytest.raises(TaskError) as caught:
        kit.with_limits(max_input_bytes=len(DATA) - 1).fetch(kit.presign("GET", "in.mp4"))
    assert caught.value.code is ErrorCode.input_too_large
    assert caught.value.details["size_bytes"] == len(DATA)
    assert len(kit.log) <= 1
    assert not kit.dest.exists()


def test_input_of_exactly_the_limit_is_taken(kit: Kit) -> None:
    assert kit.with_limits(max_input_bytes=len(DATA)).fetch(
        kit.presign("GET", "in.mp4")
    ).size_bytes == len(DATA)


@pytest.mark.parametrize(
    "size", [0, 1, FIRST - 1, FIRST, FIRST + 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1]
)
def test_sizes_around_every_edge(kit: Kit, size: int) -> None:
    kit.put("edge.mp4", DATA[:size])
    assert kit.fetch(kit.presign("GET", "edge.mp4")).size_bytes == size
    assert kit.dest.read_bytes() == DATA[:size]


def test_s13_a_drip_ends_by_its_rate(kit: Kit) -> None:
    kit.fault(Fault.slow_download(bytes_per_interval=1, interval_seconds=0.05, times=None), "GET")
    slow = kit.with_limits(min_bytes_per_second=10_000, min_rate_window_seconds=0.6)
    with pytest.raises(TaskError) as caught:
        slow.fetch(kit.presign("GET", "in.mp4"))
    assert caught.value.code is ErrorCode.download_timeout
    assert "slower" in caught.value.message
    assert not kit.dest.exists()


def test_the_total_deadline_ends_what_is_fast_enough(kit: Kit) -> None:
    kit.fault(Fault.slow_download(bytes_per_interval=1, interval_seconds=0.05, times=None), "GET")
    with pytest.raises(TaskError) as caught:
        kit.with_limits(total_seconds=0.7, min_bytes_per_second=0).fetch(
            kit.presign("GET", "in.mp4")
        )
    assert caught.value.code is ErrorCode.download_timeout
    assert "0.7 s" in caught.value.message


def test_silence_is_resumed_on_a_new_connection(kit: Kit) -> None:
    silent = kit.fault(
        Fault.slow_download(bytes_per_interval=100, interval_seconds=5, skip=1), "GET"
    )
    kit.with_limits(idle_seconds=0.5).fetch(kit.presign("GET", "in.mp4"))
    assert silent.hits == 1
    assert sha256(kit.dest) == sha256(DATA)


@pytest.mark.timeout(15)
def test_cancel_ends_a_download_that_is_waiting(kit: Kit) -> None:
    kit.fault(Fault.slow_download(bytes_per_interval=1, interval_seconds=20, times=None), "GET")
    patient = kit.with_limits(idle_seconds=60, min_bytes_per_second=0)
    patient.report = lambda done, total: kit.cancelled.set()  # type: ignore[method-assign]
    with pytest.raises(TaskError) as caught:
        patient.fetch(kit.presign("GET", "in.mp4"))
    assert caught.value.code is ErrorCode.cancelled
    assert not kit.dest.exists()


PRESIGN_REFUSED: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "U21 signed for PUT": ({"method": "PUT"}, ErrorCode.url_denied),
    "S04 no such key": ({"method": "GET", "key": "absent.mp4"}, ErrorCode.input_not_found),
}


@pytest.mark.parametrize("row", PRESIGN_REFUSED.values(), ids=PRESIGN_REFUSED)
def test_the_gate_itself_refuses(kit: Kit, row: tuple[dict[str, Any], ErrorCode]) -> None:
    arguments, code = row
    with pytest.raises(TaskError) as caught:
        kit.fetch(kit.presign(**{"key": "in.mp4", **arguments}))
    assert caught.value.code is code
    assert len(kit.log) == 1


RECOVERED_PUT = {
    "S05 429": [Fault.status(429, times=2)],
    "S05 500": [Fault.status(500, times=2)],
    "S05 503": [Fault.status(503, times=4)],
    "400 IncompleteBody": [Fault.status(400, code="IncompleteBody")],
    "S15 reset before the body": [Fault.reset_upload(after_bytes=0)],
    "S15 reset in the body": [Fault.reset_upload(after_bytes=300_000)],
    "S15 the answer is lost": [Fault.lose_response()],
    "S17 409 ConditionalRequestConflict": [Fault.status(409, code="ConditionalRequestConflict")],
}


@pytest.mark.parametrize("faults", RECOVERED_PUT.values(), ids=RECOVERED_PUT)
@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_upload_recovers(kit: Kit, output: Path, faults: list[Fault], conditional: bool) -> None:
    headers = {"If-None-Match": "*"} if conditional else {}
    ordered = [kit.fault(f, "PUT") for f in faults]
    delivered = kit.deliver(
        kit.target(kit.presign("PUT", "out.mp4", headers=headers), headers), output
    )
    assert all(fault.hits > 0 for fault in ordered)
    assert sha256(kit.read("out.mp4") or b"") == sha256(DATA)
    assert delivered.url.endswith("/out.mp4")
    assert kit.reports[-1] == (len(DATA), len(DATA))


REFUSED_PUT = {
    "S03 expires before the upload": (Fault.expire(times=None), ErrorCode.url_expired, 1),
    "403": (Fault.status(403, times=None), ErrorCode.url_denied, 1),
    "404 NoSuchBucket": (
        Fault.status(404, code="NoSuchBucket", times=None),
        ErrorCode.url_denied,
        1,
    ),
    "413": (Fault.status(413, code="EntityTooLarge", times=None), ErrorCode.output_too_large, 1),
    "S05 503 for ever": (Fault.status(503, times=None), ErrorCode.storage_unavailable, 5),
    "reset for ever": (Fault.reset_upload(after_bytes=0, times=None), ErrorCode.upload_failed, 5),
    "redirect": (
        Fault.redirect("http://127.0.0.1:9/out.mp4", times=None),
        ErrorCode.redirect_not_allowed,
        1,
    ),
}


@pytest.mark.parametrize("row", REFUSED_PUT.values(), ids=REFUSED_PUT)
def test_upload_is_refused(kit: Kit, output: Path, row: tuple[Fault, ErrorCode, int]) -> None:
    fault, code, most = row
    ordered = kit.fault(fault, "PUT")
    url = kit.presign("PUT", "out.mp4")
    with pytest.raises(TaskError) as caught:
        kit.deliver(url, output)
    assert caught.value.code is code
    assert 0 < ordered.hits <= most
    assert kit.read("out.mp4") is None
    assert_no_secret(caught.value, url)


def test_s16_a_lost_answer_then_412_is_our_own_success(kit: Kit, output: Path) -> None:
    lost = kit.fault(Fault.lose_response(), "PUT")
    headers = {"If-None-Match": "*"}
    delivered = kit.deliver(
        kit.target(kit.presign("PUT", "out.mp4", headers=headers), headers), output
    )
    assert lost.hits == 1
    assert [seen.status for seen in kit.log][-1] == 412
    assert delivered.etag is None
    assert kit.read("out.mp4") == DATA


def test_412_to_the_first_try_is_another_ones_object(kit: Kit, output: Path) -> None:
    kit.put("out.mp4", b"theirs")
    headers = {"If-None-Match": "*"}
    with pytest.raises(TaskError) as caught:
        kit.deliver(kit.target(kit.presign("PUT", "out.mp4", headers=headers), headers), output)
    assert caught.value.code is ErrorCode.output_exists
    assert kit.read("out.mp4") == b"theirs"


def test_412_after_half_a_body_is_not_our_own_doing(kit: Kit, output: Path) -> None:
    kit.put("out.mp4", b"theirs")
    kit.fault(Fault.reset_upload(after_bytes=1000), "PUT")
    headers = {"If-None-Match": "*"}
    output.write_bytes(
        noise(16 * 1024 * KIB)
    )  # more than socket buffers hold, so the reset is felt inside the body
    with pytest.raises(TaskError) as caught:
        kit.deliver(kit.target(kit.presign("PUT", "out.mp4", headers=headers), headers), output)
    assert caught.value.code is ErrorCode.output_exists


@pytest.mark.timeout(15)
def test_cancel_ends_an_upload_that_is_stuck(kit: Kit, output: Path) -> None:
    output.write_bytes(noise(32 * 1024 * KIB))
    kit.fault(Fault.slow_upload(bytes_per_interval=1, interval_seconds=10, times=None), "PUT")
    patient = kit.with_limits(idle_seconds=60, min_bytes_per_second=0)
    patient.report = lambda done, total: kit.cancelled.set()  # type: ignore[method-assign]
    with pytest.raises(TaskError) as caught:
        patient.deliver(kit.presign("PUT", "out.mp4"), output)
    assert caught.value.code is ErrorCode.cancelled
    assert kit.read("out.mp4") is None


def test_u19_proxies_of_the_environment_are_ignored(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert kit.fetch(kit.presign("GET", "in.mp4")).size_bytes == len(DATA)
