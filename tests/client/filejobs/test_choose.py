"""Here or there: the switches, the history and what follows from it, an endpoint that answers or
not, and a child process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import clips
from support.toy_worker import ToyWorker, storage_of

from gpu_worker.devserver import Fault, LocalPlatform
from gpu_worker_client import (
    Client,
    ConfigError,
    OutOfMemory,
    Timing,
    Transfer,
)
from gpu_worker_client.errors import (
    APIConnectionError,
    AuthenticationError,
    RateLimitError,
    ServerError,
    StorageError,
)
from gpu_worker_client.filejobs import local
from gpu_worker_client.filejobs.choose import (
    BAD_SECONDS,
    GOOD_SECONDS,
    RunContext,
    UploadMeter,
    choose,
    is_available,
    kind_of,
    may_pass,
    run_anywhere,
)
from gpu_worker_client.filejobs.history import (
    MAX_FILE_BYTES,
    History,
    PastJob,
    Where,
    expected_seconds,
    measured_bandwidth,
    worth_it,
)
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.protocol import DetectScenesResult, ErrorBody, ErrorCode, TaskError
from gpu_worker_client.protocol.errors import GpuWorkerError, job_error
from gpu_worker_client.settings import Switches

MB = 1_000_000


@pytest.mark.parametrize(
    ("env", "field", "expected"),
    [
        ({}, "mode", "auto"),
        ({"GPU_WORKER_MODE": "Local"}, "mode", "local"),
        ({"CGPU_GPU_ENABLED": "true"}, "mode", "auto"),
        ({"CGPU_GPU_ENABLED": "0"}, "mode", "local"),
        ({"CGPU_GPU_ENABLED": "false", "GPU_WORKER_MODE": "remote"}, "mode", "remote"),
        ({}, "timeout_seconds", None),
        ({"CGPU_TIMEOUT": "1800"}, "timeout_seconds", 1800.0),
        ({"CGPU_TIMEOUT": "1800", "GPU_WORKER_TIMEOUT_SECONDS": "60"}, "timeout_seconds", 60.0),
        ({}, "max_parallel_jobs", None),
        ({"MAX_PARALLEL_JOBS": "4"}, "max_parallel_jobs", 4),
        ({"MAX_PARALLEL_JOBS": "4", "GPU_WORKER_MAX_PARALLEL_JOBS": "8"}, "max_parallel_jobs", 8),
        ({"GPU_WORKER_HISTORY": "off"}, "history", None),
        ({"GPU_WORKER_HISTORY": "h.jsonl"}, "history", Path("h.jsonl")),
        ({"XDG_CACHE_HOME": "cache"}, "history", Path("cache/gpu-worker-client/history.jsonl")),
    ],
)
def test_a_switch(env: dict[str, str], field: str, expected: object) -> None:
    assert getattr(Switches.from_env(env), field) == expected


@pytest.mark.parametrize(
    "name",
    [
        "GPU_WORKER_MODE",
        "CGPU_GPU_ENABLED",
        "GPU_WORKER_TIMEOUT_SECONDS",
        "CGPU_TIMEOUT",
        "GPU_WORKER_MAX_PARALLEL_JOBS",
        "MAX_PARALLEL_JOBS",
    ],
)
@pytest.mark.parametrize("value", ["maybe", "-1", "nan"])
def test_a_switch_that_does_not_parse_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Switches.from_env({name: value})


def past(
    where: Where, megabytes: float, seconds: float, *, upload: float = 0.0, kind: str = "track"
) -> PastJob:
    size = int(megabytes * MB)
    return PastJob(
        kind=kind,
        where=where,
        input_bytes=size,
        work_seconds=seconds,
        upload_bytes=size if upload else 0,
        upload_seconds=upload,
    )


def test_a_history_is_kept_bounded_and_survives_damage(tmp_path: Path) -> None:
    history = History(tmp_path / "sub" / "history.jsonl")
    assert history.jobs() == []
    history.add(past("local", 1, 2.5))
    assert history.path is not None
    with history.path.open("a") as file:
        file.write('{"kind": "newer", "where": "moon"}\nnot json\n')
    history.add(past("remote", 2, 1.0, upload=4.0))
    assert history.jobs() == [past("local", 1, 2.5), past("remote", 2, 1.0, upload=4.0)]
    with history.path.open("ab") as file:
        file.write(b"x" * MAX_FILE_BYTES + b"\n")
    history.add(past("local", 3, 3.0))
    assert history.path.stat().st_size <= MAX_FILE_BYTES / 2
    assert history.jobs() == [past("local", 3, 3.0)]
    assert [item.name for item in history.path.parent.iterdir()] == ["history.jsonl"]


def test_a_history_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history.jsonl")
    history.add(past("local", 1, 1))
    assert history.jobs() == [] and History(None).jobs() == []


def test_an_estimate_scales_what_was_nearest_in_size() -> None:
    jobs = [
        past("local", 1, 100.0),
        *(past("local", 100, seconds) for seconds in (10, 20, 30, 40, 50)),
    ]
    assert expected_seconds(jobs, "track", "local", 200 * MB) == pytest.approx(60.0)
    assert expected_seconds(jobs, "track", "remote", 200 * MB) is None
    assert expected_seconds(jobs, "beat", "local", 200 * MB) is None


def test_bandwidth_is_that_of_the_last_uploads() -> None:
    assert measured_bandwidth([past("remote", 10, 1)]) is None
    assert measured_bandwidth(
        [past("remote", 10, 1, upload=5), past("remote", 10, 1)]
    ) == pytest.approx(2 * MB)


@pytest.mark.parametrize(
    ("jobs", "bandwidth", "worth", "reason"),
    [
        ([], None, True, "nothing is known of this machine"),
        ([past("local", 10, 60)], None, True, "nothing is known of the endpoint"),
        (
            [past("local", 10, 60)],
            0.1 * MB,
            False,
            "the upload alone takes 100 s, the work here 60 s",
        ),
        (
            [past("local", 10, 60), past("remote", 10, 20)],
            1 * MB,
            True,
            "expected 30 s there, 60 s here",
        ),
        (
            [past("local", 10, 25), past("remote", 10, 20)],
            1 * MB,
            False,
            "expected 30 s there, 25 s here",
        ),
        (
            [past("local", 10, 25), past("remote", 10, 20, upload=1)],
            None,
            True,
            "expected 21 s there, 25 s here",
        ),
    ],
)
def test_worth_it(jobs: list[PastJob], bandwidth: float | None, worth: bool, reason: str) -> None:
    verdict = worth_it(10 * MB, "track", bandwidth, jobs)
    assert (bool(verdict), reason in verdict.reason) == (worth, True), verdict


def test_uploads_are_measured_and_what_was_there_already_is_not() -> None:
    now = iter([10.0, 11.0, 13.0, 20.0, 30.0, 31.0])
    told: list[Any] = []
    meter = UploadMeter(told.append, lambda: next(now))
    events = [
        *(Transfer("upload", "a.mp4", done, 200) for done in (0, 100, 200)),
        Transfer("upload", "b.mp4", 50, 50),  # known to the bucket
        *(Transfer("upload", "a.mp4", done, 100) for done in (0, 100)),
    ]
    for event in [*events, Transfer("download", "o.mp4", 1, 1), "else"]:
        meter(event)
    assert (meter.bytes, meter.seconds) == (300, 4.0)
    assert len(told) == len(events) + 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (APIConnectionError("m", may_have_arrived=True), True),
        (ServerError("m", status=503), True),
        (RateLimitError("m", status=429), True),
        (AuthenticationError("m", status=401), False),
        (ConfigError("m"), False),
        (StorageError("m", code="unavailable", retryable=True), True),
        (StorageError("m", code="denied", retryable=False), False),
        (job_error(ErrorBody(code="gpu_oom", message="m", retryable=True)), True),
        (job_error(ErrorBody(code="corrupt_media", message="m")), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_another_machine_can_do_better(error: GpuWorkerError, expected: bool) -> None:
    assert may_pass(error) is expected


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    with LocalPlatform(poll_seconds=5) as platform:
        yield platform


@pytest.fixture
def client(platform: LocalPlatform) -> Iterator[Client]:
    timing = Timing(sleep=lambda _: None)
    with Client(
        platform.endpoint_id,
        platform.api_key,
        platform.base_url,
        timing=timing,
        storage=storage_of(platform),
    ) as client:
        yield client


def test_an_endpoint_is_asked_once_in_a_while(platform: LocalPlatform) -> None:
    now = [0.0]
    access = (platform.endpoint_id, platform.api_key, platform.base_url)
    with Client(*access, timing=Timing(clock=lambda: now[0])) as client:
        assert is_available(client) and is_available(client)
        assert len(platform.control.log) == 1
        now[0] = GOOD_SECONDS
        platform.faults.add(Fault.status(500, path="health"))
        assert not is_available(client) and not is_available(client)
        assert len(platform.control.log) == 2, "one look, not tried again"
        now[0] += BAD_SECONDS
        assert is_available(client)


def test_who_is_not_available(platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(platform.endpoint_id, "wrong-key", platform.base_url) as stranger:
        assert not is_available(stranger)
    with Client("gone", "key", "http://127.0.0.1:9/v2") as nobody:
        assert not is_available(nobody)
    monkeypatch.delenv("GPU_WORKER_ENDPOINT_ID", raising=False)
    assert not is_available()
    monkeypatch.setenv("GPU_WORKER_ENDPOINT_ID", platform.endpoint_id)
    monkeypatch.setenv("GPU_WORKER_BASE_URL", platform.base_url)
    monkeypatch.setenv("RUNPOD_API_KEY", platform.api_key)
    assert is_available()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return clips.make(
        tmp_path / "film.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )


def scenes_of(film: Path) -> FileWork:
    return FileWork("detect_scenes", {"threshold": 30.0}, {"input_url": film})


def place_of(
    mode: Any, client: Client | None, history: History | None = None, **options: Any
) -> RunContext:
    return RunContext(mode, client, history or History(None), **options)


def test_where_a_job_runs(
    client: Client, platform: LocalPlatform, film: Path, tmp_path: Path
) -> None:
    work = scenes_of(film)
    assert kind_of(work) == "detect_scenes"
    assert kind_of(FileWork("upscale", {"model": "lite"}, {})) == "upscale/lite"
    assert choose(work, place_of("remote", None))[0] == "remote"
    assert choose(work, place_of("local", client))[0] == "local"
    assert choose(work, place_of("auto", None)) == ("local", "no endpoint is set up")
    assert choose(work, place_of("auto", client))[0] == "remote"
    with Client("gone", "key", "http://127.0.0.1:9/v2", storage=client.storage) as nobody:
        assert choose(work, place_of("auto", nobody)) == ("local", "the endpoint does not answer")
    history = History(tmp_path / "history.jsonl")
    history.add(past("local", 1, 0.1, kind="detect_scenes"))
    history.add(past("remote", 1, 30.0, kind="detect_scenes"))
    assert choose(work, place_of("auto", client, history))[0] == "local"


def test_without_a_bucket_a_file_stays_here(
    platform: LocalPlatform, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("R2_ENDPOINT_URL", "R2_ACCOUNT_ID", "R2_BUCKET_NAME"):
        monkeypatch.delenv(name, raising=False)
    with Client(platform.endpoint_id, platform.api_key, platform.base_url) as client:
        assert choose(scenes_of(film), place_of("auto", client)) == ("local", "no bucket is set up")


def test_a_task_in_a_child_process(film: Path, tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    done = asyncio.run(run_anywhere(scenes_of(film), place_of("local", None, history)))
    assert isinstance(done.result, DetectScenesResult)
    assert [scene.start_frame for scene in done.result.scenes] == [0, 25]
    assert (done.where, done.failed_remotely) == ("local", None)
    (job,) = history.jobs()
    assert (job.kind, job.where, job.input_bytes) == ("detect_scenes", "local", film.stat().st_size)


def test_what_failed_there_on_urls_is_not_tried_without_the_worker(
    client: Client, platform: LocalPlatform, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = local._is_installed
    monkeypatch.setattr(
        local, "_is_installed", lambda package: package != "gpu_worker" and installed(package)
    )
    platform.gate.put("in.mp4", film)
    work = FileWork("detect_scenes", {}, {"input_url": platform.gate.presign("GET", "in.mp4")})
    where, reason = choose(work, place_of("auto", client))
    assert (where, "pip install gpu-worker" in reason) == ("remote", True)
    worker = ToyWorker(platform)
    worker.answer = lambda _: {"error": TaskError(ErrorCode.gpu_oom, "m").body().to_wire()}
    worker.serve()
    with pytest.raises(OutOfMemory):
        asyncio.run(run_anywhere(work, place_of("auto", client)))


@pytest.mark.parametrize(
    ("code", "mode"), [(ErrorCode.gpu_oom, "auto"), (ErrorCode.internal, "auto")]
)
def test_what_failed_there_is_done_here_once(
    client: Client, platform: LocalPlatform, film: Path, code: ErrorCode, mode: str
) -> None:
    worker = ToyWorker(platform)
    worker.answer = lambda _: {"error": TaskError(code, "m").body().to_wire()}
    worker.serve()
    done = asyncio.run(run_anywhere(scenes_of(film), place_of(mode, client)))
    assert (done.where, len(worker.tasks)) == ("local", 1)
    assert done.failed_remotely is not None and code.value in str(done.failed_remotely)


@pytest.mark.parametrize(
    ("code", "mode"), [(ErrorCode.corrupt_media, "auto"), (ErrorCode.gpu_oom, "remote")]
)
def test_what_would_fail_here_too_is_not_done_again(
    client: Client, platform: LocalPlatform, film: Path, code: ErrorCode, mode: str
) -> None:
    worker = ToyWorker(platform)
    worker.answer = lambda _: {"error": TaskError(code, "m").body().to_wire()}
    worker.serve()
    with pytest.raises(GpuWorkerError) as caught:
        asyncio.run(run_anywhere(scenes_of(film), place_of(mode, client)))
    assert json.dumps(code.value).strip('"') in str(caught.value)
