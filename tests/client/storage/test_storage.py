"""Storage against the R2 gate over real HTTP, with its faults: whole files or typed errors, nothing
sent or fetched twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from gpu_worker.devserver import Fault, Faults, GateLimits, LocalPlatform, R2Gate
from gpu_worker_client import ConfigError, Storage, StorageError, Timing
from gpu_worker_client.protocol import OutputPart
from gpu_worker_client.storage.s3 import refusal
from gpu_worker_client.storage.transfer import plan_parts

PART = 100_000
SECRET = "CANARYsecret0123456789"


@pytest.fixture
def gate() -> Iterator[R2Gate]:
    """boto3 signs with the system's clock, so the gate has it, too."""
    with LocalPlatform(
        gate_limits=GateLimits(min_part_bytes=PART, write_interval_seconds=0.0)
    ) as platform:
        yield platform.gate


@pytest.fixture
def faults(gate: R2Gate) -> Faults:
    return gate.faults


@pytest.fixture
def pauses() -> list[float]:
    """What was slept; nobody waits."""
    return []


@pytest.fixture
def storage(gate: R2Gate, pauses: list[float]) -> Storage:
    return storage_of(gate, timing=Timing(sleep=pauses.append, random=lambda: 0.5))


def storage_of(gate: R2Gate, **options: Any) -> Storage:
    keys = gate.credentials
    return Storage(
        gate.base_url,
        gate.bucket,
        keys.access_key,
        keys.secret_key,
        **{"part_bytes": PART, **options},
    )


def file_of(tmp_path: Path, size: int, name: str = "clip.MP4") -> tuple[Path, bytes]:
    """A file whose every part differs."""
    data = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(size // 32 + 1))[:size]
    path = tmp_path / name
    path.write_bytes(data)
    return path, data


def requests_of(gate: R2Gate, method: str, **query: str) -> int:
    return sum(
        seen.method == method and query.items() <= dict(seen.query).items() for seen in gate.log
    )


class Told(list[tuple[int, int]]):
    """A progress callback that keeps what it was told."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART, 3 * PART + 17])
def test_a_file_there_and_back(storage: Storage, gate: R2Gate, tmp_path: Path, size: int) -> None:
    path, data = file_of(tmp_path, size)
    up, down = Told(), Told()
    key = storage.upload(path, on_progress=up)
    assert key == f"gpu-worker/in/{hashlib.sha256(data).hexdigest()}.mp4"
    assert gate.read(key) == data
    assert storage.download(key, tmp_path / "back.mp4", down).read_bytes() == data
    for told in (up, down):
        assert told == sorted(told) and told[-1] == (size, size)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["back.mp4", "clip.MP4"]
    assert gate.open_uploads() == []


def test_the_same_content_is_uploaded_once(storage: Storage, gate: R2Gate, tmp_path: Path) -> None:
    first, data = file_of(tmp_path, 3 * PART, "a.mp4")
    second = tmp_path / "b.mp4"
    second.write_bytes(data)
    told = Told()
    assert storage.upload(first) == storage.upload(second, on_progress=told)
    assert requests_of(gate, "POST", uploads="") == 1
    assert requests_of(gate, "PUT") == 3
    assert told == [(3 * PART, 3 * PART)]


def test_parts_are_equal_and_few_enough() -> None:
    mib = 1024**2
    for size in (1, 16 * mib, 16 * mib + 1, 200_000 * mib, 4 * 1024**4):
        parts = plan_parts(size, 16 * mib)
        assert len(parts) <= 10_000
        assert {part.size for part in parts[:-1]} <= {parts[0].size}
        assert parts[-1].size <= parts[0].size and sum(part.size for part in parts) == size
        assert [part.start for part in parts] == [n * parts[0].size for n in range(len(parts))]


UPLOAD_FAULTS: dict[str, Callable[[], Fault]] = {
    "a 500 at the second part": lambda: Fault.status(500, method="PUT", query="partNumber", skip=1),
    "three 503": lambda: Fault.status(503, method="PUT", query="partNumber", times=3),
    "429": lambda: Fault.status(429, code="TooManyRequests", method="PUT", query="partNumber"),
    "a reset in the middle of a part": lambda: Fault.reset_upload(
        after_bytes=PART // 2, method="PUT", query="partNumber"
    ),
    "a part stored, its answer lost": lambda: Fault.lose_response(method="PUT", query="partNumber"),
    "a 500 at the beginning": lambda: Fault.status(500, method="POST", query="uploads"),
    "a 503 at the end": lambda: Fault.status(503, method="POST", query="uploadId"),
    "completed, the answer lost": lambda: Fault.lose_response(method="POST", query="uploadId"),
    "an error inside a 200": lambda: Fault.status(
        200,
        method="POST",
        query="uploadId",
        body=b"<Error><Code>InternalError</Code><Message>m</Message></Error>",
    ),
    "a 500 at the look": lambda: Fault.status(500, method="HEAD"),
}


@pytest.mark.parametrize("fault", UPLOAD_FAULTS.values(), ids=UPLOAD_FAULTS)
def test_an_upload_survives(
    storage: Storage,
    gate: R2Gate,
    faults: Faults,
    pauses: list[float],
    tmp_path: Path,
    fault: Callable[[], Fault],
) -> None:
    path, data = file_of(tmp_path, 3 * PART + 5)
    ordered = faults.add(fault())
    key = storage.upload(path)
    assert ordered.hits == (ordered.times or 1) and pauses
    assert gate.read(key) == data
    assert gate.open_uploads() == []


def test_an_upload_is_taken_up_where_it_stopped(
    storage: Storage, gate: R2Gate, faults: Faults, tmp_path: Path
) -> None:
    path, data = file_of(tmp_path, 5 * PART)
    fault = faults.add(Fault.status(500, method="PUT", query="partNumber", times=None, skip=2))
    serial = storage_of(gate, parallel=1, timing=Timing(sleep=lambda _: None))
    with pytest.raises(StorageError) as caught:
        serial.upload(path)
    assert (caught.value.code, caught.value.retryable) == ("unavailable", True)
    assert len(gate.open_uploads()) == 1
    fault.times = 0
    before = requests_of(gate, "PUT")
    key = storage_of(gate).upload(path)
    assert requests_of(gate, "PUT") - before == 3, "two parts were there"
    assert requests_of(gate, "POST", uploads="") == 1
    assert gate.read(key) == data


def test_a_part_of_another_file_is_not_taken_for_ours(
    storage: Storage, gate: R2Gate, tmp_path: Path
) -> None:
    path, data = file_of(tmp_path, 2 * PART)
    upload = gate.uploads.create("mine.mp4", {})
    url = gate.presign("PUT", "mine.mp4", query={"uploadId": upload, "partNumber": "1"})
    requests.put(url, data=b"x" * PART).raise_for_status()
    storage.upload(path, "mine.mp4")
    assert gate.read("mine.mp4") == data


def test_an_upload_that_is_told_to_stop_goes_on_later(gate: R2Gate, tmp_path: Path) -> None:
    path, data = file_of(tmp_path, 4 * PART)

    class Enough(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done >= PART:
            raise Enough

    with pytest.raises(Enough):
        storage_of(gate, parallel=1).upload(path, on_progress=stop)
    assert len(gate.open_uploads()) == 1
    assert gate.read(storage_of(gate).upload(path)) == data
    assert requests_of(gate, "PUT") <= 5


def test_a_file_that_changes_meanwhile_is_no_upload(gate: R2Gate, tmp_path: Path) -> None:
    path, data = file_of(tmp_path, 2 * PART)

    def meddle(done: int, total: int) -> None:
        path.write_bytes(data[::-1])

    with pytest.raises(StorageError, match="written to"):
        storage_of(gate, timing=Timing(sleep=lambda _: None)).upload(path, on_progress=meddle)
    assert gate.keys() == []


EARLY_END = {"after_bytes": 150_000, "method": "GET"}

DOWNLOAD_FAULTS: dict[str, Callable[[], list[Fault]]] = {
    "a 500": lambda: [Fault.status(500, method="GET")],
    "a reset in the middle": lambda: [Fault.reset_download(after_bytes=150_000, method="GET")],
    "an early end": lambda: [Fault.truncated(**EARLY_END)],
    "an early end that shows no length": lambda: [
        Fault.truncated(declare_length=False, **EARLY_END)
    ],
    "three early ends": lambda: [Fault.truncated(after_bytes=70_000, method="GET", times=3)],
    "more than was asked for": lambda: [Fault.longer(method="GET")],
    "a range that is shifted": lambda: [Fault.wrong_content_range(method="GET")],
    "the whole instead of the rest": lambda: [
        Fault.truncated(**EARLY_END),
        Fault.ignore_range(method="GET"),
    ],
    "a body without end": lambda: [Fault.endless(method="GET", max_bytes=10 * PART)],
    "a packed body": lambda: [Fault.gzip(method="GET")],
    "another ETag": lambda: [Fault.etag("0" * 32, method="GET")],
}


@pytest.mark.parametrize("ordered", DOWNLOAD_FAULTS.values(), ids=DOWNLOAD_FAULTS)
def test_a_download_survives(
    storage: Storage,
    gate: R2Gate,
    faults: Faults,
    tmp_path: Path,
    ordered: Callable[[], list[Fault]],
) -> None:
    _, data = file_of(tmp_path, 3 * PART)
    gate.put("out.mp4", data)
    added = [faults.add(fault) for fault in ordered()]
    assert storage.download("out.mp4", tmp_path / "out.mp4").read_bytes() == data
    assert all(fault.hits == fault.times for fault in added)
    assert not list(tmp_path.glob(".*.part"))


def test_a_download_goes_on_where_another_process_left_it(
    gate: R2Gate, faults: Faults, tmp_path: Path
) -> None:
    _, data = file_of(tmp_path, 3 * PART)
    gate.put("out.mp4", data)
    broken = faults.add(Fault.truncated(after_bytes=PART, method="GET", times=1))
    dead = faults.add(Fault.status(503, method="GET", times=None))
    with pytest.raises(StorageError):
        storage_of(gate, timing=Timing(sleep=lambda _: None)).download(
            "out.mp4", tmp_path / "out.mp4"
        )
    assert broken.hits == 1 and not (tmp_path / "out.mp4").exists()
    dead.times = 0
    told = Told()
    assert storage_of(gate).download("out.mp4", tmp_path / "out.mp4", told).read_bytes() == data
    assert told[0] == (PART, 3 * PART)
    assert gate.log[-1].headers["range"] == f"bytes={PART}-"


def test_an_object_replaced_before_its_first_byte(
    storage: Storage, gate: R2Gate, faults: Faults, tmp_path: Path
) -> None:
    gate.put("out.mp4", file_of(tmp_path, 2 * PART)[1])
    faults.add(Fault.change_object(method="HEAD"))
    assert storage.download("out.mp4", tmp_path / "out.mp4").read_bytes() == gate.read("out.mp4")
    assert not list(tmp_path.glob(".*.part"))


def test_an_object_replaced_in_the_middle(
    storage: Storage, gate: R2Gate, faults: Faults, tmp_path: Path
) -> None:
    """Two versions never mix: the bytes of the first are thrown away."""
    _, data = file_of(tmp_path, 2 * PART)
    gate.put("out.mp4", data)
    faults.add(Fault.truncated(after_bytes=PART, method="GET"))

    def replace(done: int, _: int) -> None:
        if done == PART:
            gate.put("out.mp4", data[::-1])

    assert storage.download("out.mp4", tmp_path / "out.mp4", replace).read_bytes() == data[::-1]
    assert not list(tmp_path.glob(".*.part"))
    assert [seen.status for seen in gate.log if seen.method == "GET"] == [206, 412, 206]


def test_an_object_that_keeps_changing_is_an_error(
    storage: Storage, gate: R2Gate, faults: Faults, tmp_path: Path
) -> None:
    gate.put("out.mp4", b"content")
    faults.add(Fault.change_object(method="HEAD", times=None))
    with pytest.raises(StorageError) as caught:
        storage.download("out.mp4", tmp_path / "out.mp4")
    assert caught.value.code == "changed"
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there(storage: Storage, gate: R2Gate, tmp_path: Path) -> None:
    assert storage.head("no.mp4") is None and storage.read("no.mp4") is None
    storage.delete("no.mp4")
    with pytest.raises(StorageError, match="no such object"):
        storage.download("no.mp4", tmp_path / "no.mp4")
    with pytest.raises(FileNotFoundError):
        storage.upload(tmp_path / "no.mp4")


def test_read_is_bounded(storage: Storage, gate: R2Gate) -> None:
    gate.put("result.json", b"{}" * 50)
    assert storage.read("result.json") == b"{}" * 50
    with pytest.raises(StorageError, match="more than 99"):
        storage.read("result.json", max_bytes=99)


def test_presigned_urls_do_what_they_say_and_live_that_long(storage: Storage, gate: R2Gate) -> None:
    put, get = storage.presign_put("k.mp4", 60), storage.presign_get("k.mp4", 7 * 86_400)
    assert requests.put(put, data=b"content").status_code == 200
    assert requests.get(get).content == b"content"
    assert requests.get(put).status_code == 403
    assert [parse_qs(urlsplit(url).query)["X-Amz-Expires"] for url in (put, get)] == [
        ["60"],
        ["604800"],
    ]
    assert not any("checksum" in url.lower() for url in (put, get))


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_a_url_that_would_be_refused_is_not_made(storage: Storage, seconds: int) -> None:
    for presign in (storage.presign_get, storage.presign_put):
        with pytest.raises(ConfigError, match="7 days"):
            presign("k", seconds)
    with pytest.raises(ConfigError, match="7 days"):
        storage.presign_parts("k", 5 * 1024**2, 1, seconds)


def test_parts_for_somebody_else_to_send(storage: Storage, gate: R2Gate) -> None:
    upload = storage.presign_parts("out.mp4", 5 * 1024**2, 3, 3600)
    assert upload.multipart.part_size == 5 * 1024**2
    bodies = [b"a" * PART, b"b" * 10]
    sent = [
        OutputPart(n=part.n, etag=requests.put(part.url, data=body).headers["ETag"])
        for part, body in zip(upload.multipart.parts, bodies, strict=False)
    ]
    storage.complete_parts(upload, sent[::-1])
    assert gate.read("out.mp4") == b"".join(bodies)
    storage.abort_parts(upload)
    dropped = storage.presign_parts("out2.mp4", 5 * 1024**2, 1, 3600)
    storage.abort_parts(dropped)
    assert gate.open_uploads() == []


@pytest.mark.parametrize(
    ("status", "code", "expected", "retryable"),
    [
        (403, "AccessDenied", "denied", False),
        (403, "SignatureDoesNotMatch", "denied", False),
        (401, "Unauthorized", "denied", False),
        (403, "RequestTimeTooSkewed", "clock_skew", False),
        (404, "NoSuchBucket", "no_bucket", False),
        (500, "InternalError", "unavailable", True),
        (400, "EntityTooLarge", "too_large", False),
        (400, "Novel", "refused", False),
        (418, "", "refused", False),
    ],
)
def test_refusals_are_typed(status: int, code: str, expected: str, retryable: bool) -> None:
    found = refusal(code, status)
    assert (found.code, found.retryable) == (expected, retryable)


def test_a_wrong_key_is_said_to_be_one(gate: R2Gate, tmp_path: Path) -> None:
    path, _ = file_of(tmp_path, 10)
    stranger = Storage(gate.base_url, gate.bucket, gate.credentials.access_key, SECRET)
    with pytest.raises(StorageError, match="check both keys") as caught:
        stranger.upload(path, "k")
    assert caught.value.code == "denied"


def test_no_text_holds_a_secret(
    gate: R2Gate, faults: Faults, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    stranger = Storage(
        gate.base_url, gate.bucket, "CANARYaccess", SECRET, timing=Timing(sleep=lambda _: None)
    )
    texts = [repr(stranger), repr(vars(stranger).keys())]
    gone = Storage(
        "http://127.0.0.1:9", "media", "CANARYaccess", SECRET, timing=Timing(sleep=lambda _: None)
    )
    for attempt in (lambda: stranger.download("k", tmp_path / "k"), lambda: gone.head("k")):
        with pytest.raises(StorageError) as caught:
            attempt()
        texts += [repr(caught.value), str(caught.value), repr(caught.value.__cause__)]
    ours = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("gpu_worker_client")
    ]
    assert ours, "retries are logged"
    for text in [*texts, *ours]:
        assert SECRET not in text and "CANARY" not in text and "Signature=" not in text
