"""The job classes: the call forms of the tools that use them, results that say how it went, and
never an exception."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.toy_worker import ToyWorker, storage_of

from gpu_worker.devserver import Fault, GateLimits, LocalPlatform
from gpu_worker.devserver.dev_server import environment_lines
from gpu_worker_client import (
    AutoCropJob,
    BeatAnalysisJob,
    Client,
    ConfigError,
    FFmpegRenderJob,
    JobResult,
    Queued,
    SceneDetectionJob,
    Timing,
    TrackJob,
    UpscaleJob,
    execute_all,
)
from gpu_worker_client._retry import MAX_RETRIES
from gpu_worker_client.filejobs.history import History
from gpu_worker_client.filejobs.jobs import FileJob, JobOptions
from gpu_worker_client.protocol import (
    TASKS,
    BeatResult,
    BeatStats,
    ErrorCode,
    TaskError,
    TrackResult,
)


async def _soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.02))


QUICK = Timing(sleep=lambda seconds: time.sleep(min(seconds, 0.02)), async_sleep=_soon)


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    with LocalPlatform(
        poll_seconds=5, gate_limits=GateLimits(write_interval_seconds=0)
    ) as platform:
        yield platform


@pytest.fixture
def worker(platform: LocalPlatform) -> ToyWorker:
    return ToyWorker(platform)


@pytest.fixture
def options(platform: LocalPlatform, tmp_path: Path) -> Iterator[dict[str, Any]]:
    with Client(
        platform.endpoint_id,
        platform.api_key,
        platform.base_url,
        timing=QUICK,
        storage=storage_of(platform),
    ) as client:
        yield {
            "client": client,
            "mode": "remote",
            "timeout": 30.0,
            "env": {"GPU_WORKER_HISTORY": str(tmp_path / "history.jsonl")},
        }


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"film" * 100)
    return path


def test_scenes(worker: ToyWorker, film: Path, options: dict[str, Any], tmp_path: Path) -> None:
    worker.serve()
    job = SceneDetectionJob(input_path=str(film), threshold=30.0, **options)
    result = job.execute()
    assert result and result.success and result.error is None
    assert result.output_path == film.with_name("video.mp4.scenes.json")
    assert json.loads(result.output_path.read_text())["stats"]["total_scenes"] == 0
    assert worker.tasks[0]["params"] == {"threshold": 30.0}
    assert (result.metadata["task"], result.metadata["where"], result.metadata["reason"]) == (
        "detect_scenes",
        "remote",
        "asked for",
    )
    assert "fallback_from" not in result.metadata and result.duration_seconds > 0
    (past,) = History(tmp_path / "history.jsonl").jobs()
    assert (past.kind, past.where, past.input_bytes, past.upload_bytes) == (
        "detect_scenes",
        "remote",
        400,
        400,
    )


def test_beats(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    beats = BeatResult(
        tempo=120.0, beat_times=[0.5, 1.0], duration=2.0, stats=BeatStats(beats=2)
    ).model_dump(mode="json")
    worker.answer = lambda _: {"output": beats}
    worker.serve(2)
    result = BeatAnalysisJob(input_path=film, **options).execute()
    assert result.output_path == film.with_name("video.mp4.beats.json")
    assert json.loads(result.output_path.read_text())["beat_times"] == [0.5, 1.0]
    analysis = film.with_name("analysis.json")
    result = BeatAnalysisJob(
        film,
        analysis_path=analysis,
        clicks_path=film.with_name("clicks.wav"),
        hop_length=256,
        **options,
    ).execute()
    assert set(json.loads(analysis.read_text())) == {
        "tempo",
        "beat_times",
        "energy",
        "duration",
        "sample_rate",
    }
    assert film.with_name("clicks.wav").exists() and result.output_path == film.with_name(
        "video.mp4.beats.json"
    )
    assert worker.tasks[1]["params"] == {"hop_length": 256}


def test_a_command(worker: ToyWorker, film: Path, options: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "compressed.mp4"
    words = FFmpegRenderJob.create_nvenc_command(
        input_file=film.name, output_file=str(output), bitrate="5M"
    )
    worker.serve()
    result = FFmpegRenderJob(
        input_paths=[str(film)], command_args=words, output_filename=output, **options
    ).execute()
    assert (result.output_path, output.read_bytes()) == (output, film.read_bytes()[::-1])
    assert worker.tasks[0]["params"]["command_args"] == words
    assert set(worker.tasks[0]["inputs"]) == {"video.mp4"}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["a/x.mp4", "b/x.mp4"], ["-i", "x.mp4", "out.mp4"]),
        (["x.mp4"], ["-i", "x.mp4", "other.mp4"]),
    ],
)
def test_a_command_that_cannot_be_meant(paths: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError):
        FFmpegRenderJob(paths, words, "out.mp4")


def test_films(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    worker.serve(2)
    result = UpscaleJob(film, model="lite", scale=2.0, **options).execute()
    assert (
        result.output_path == film.with_name("video.mp4.upscaled.mp4")
        and result.output_path.exists()
    )
    named = UpscaleJob(film, film.with_name("big.mkv"), **options).execute()
    assert named.output_path == film.with_name("big.mkv") and named.output_path.exists()


def test_tracks_can_be_used_again(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    worker.serve(1)
    result = TrackJob(film, classes=["person"], **options).execute()
    assert result.output_path == film.with_name("video.mp4.tracks.json")
    assert TrackResult.from_json(result.output_path.read_bytes()).stats.total_frames == 1
    job = AutoCropJob(film, tracks_path=result.output_path, target_aspect="1:1", **options)
    assert set(job.work.paths) == {"input_url", "tracks_url"}
    assert job.work.output_path == film.with_name("video.mp4.cropped.mp4")


def failing(worker: ToyWorker, code: ErrorCode) -> None:
    worker.answer = lambda _: {"error": TaskError(code, "why it failed").body().to_wire()}


def test_a_failure_is_a_result(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    failing(worker, ErrorCode.corrupt_media)
    worker.serve()
    result = UpscaleJob(film, **options).execute()
    assert not result and result.output_path is None
    assert result.error == "corrupt_media: why it failed"
    assert result.metadata == {"task": "upscale", "code": "corrupt_media", "retryable": False}
    assert not film.with_name("video.mp4.upscaled.mp4").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"input_path": "none.mp4"}, "FileNotFoundError"),
        ({"scale": 9.0}, "invalid_task"),
        ({"env": {"GPU_WORKER_MODE": "sometimes"}}, "ConfigError"),
        ({"client": None, "env": {"GPU_WORKER_HISTORY": "off"}}, "ConfigError"),
    ],
    ids=["no input", "out of range", "a bad variable", "no endpoint"],
)
def test_whatever_is_wrong_is_a_result(
    film: Path, options: dict[str, Any], change: dict[str, Any], code: str
) -> None:
    arguments = {"input_path": film, **options, **change}
    if arguments["client"] is None:
        del arguments["client"]
    result = UpscaleJob(**arguments).execute()
    assert (result.success, result.metadata["code"]) == (False, code)
    assert result.error


ONE_INPUT = (AutoCropJob, BeatAnalysisJob, SceneDetectionJob, TrackJob, UpscaleJob)


@pytest.mark.parametrize("kind", ONE_INPUT)
def test_a_keyword_that_there_is_not_is_refused_when_the_job_is_made(kind: type[FileJob]) -> None:
    make: Any = kind
    with pytest.raises(ConfigError, match="auto, remote, local"):
        make("c.mp4", mode="lokal")
    with pytest.raises(
        TypeError, match=rf"{kind.__name__} takes no 'tiemout'\. Did you mean \"timeout\"\?"
    ):
        make("c.mp4", tiemout=3)


def test_a_misspelt_parameter_is_refused_when_the_job_is_made() -> None:
    with pytest.raises(TypeError, match='Did you mean "threshold"'):
        SceneDetectionJob("c.mp4", treshold=3)
    render: Any = FFmpegRenderJob
    for keyword in ({"timeline": {}}, {"hardware": True}):
        with pytest.raises(TypeError, match="FFmpegRenderJob takes no"):
            render(["c.mp4"], ["-i", "c.mp4", "o.mp4"], "o.mp4", **keyword)
    with pytest.raises(ConfigError, match="auto, remote, local"):
        render(["c.mp4"], ["-i", "c.mp4", "o.mp4"], "o.mp4", mode="lokal")


@pytest.mark.parametrize("task", TASKS)
def test_no_parameter_has_the_name_of_an_option(task: str) -> None:
    assert not JobOptions.__optional_keys__ & set(TASKS[task].params.model_fields)


@pytest.mark.parametrize("kind", ONE_INPUT)
def test_outputs_of_two_inputs_of_one_stem_are_two_files(kind: Any) -> None:
    places = [
        (job.report_path or job.work.output_path) for job in (kind("f/a.mp4"), kind("f/a.mov"))
    ]
    assert [place.name.split(".")[:2] for place in places] == [["a", "mp4"], ["a", "mov"]]
    assert {place.parent for place in places} == {Path("f")}


def test_a_url_has_no_place_beside_it() -> None:
    with pytest.raises(ConfigError, match="output_path"):
        UpscaleJob("https://h/in.mp4?X-Amz-Signature=1")
    with pytest.raises(ConfigError, match="on this machine"):
        SceneDetectionJob("c.mp4", output_path="https://h/c.json?X-Amz-Signature=1")
    assert UpscaleJob("c.mp4", "https://h/out.mp4").work.output == "https://h/out.mp4"


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("", "IsADirectoryError"),
        ("video.mp4/r.json", "NotADirectoryError"),
        ("none/r.json", "FileNotFoundError"),
    ],
    ids=["folder", "below a file", "no folder"],
)
@pytest.mark.parametrize("name", ["output_path", "analysis_path"])
def test_a_report_that_cannot_be_written_is_found_before_anything_is_sent(
    platform: LocalPlatform, film: Path, options: dict[str, Any], name: str, place: str, code: str
) -> None:
    report = film.parent / place
    job = BeatAnalysisJob(film, **{name: report}, **options)
    result = job.execute()
    assert (result.success, result.metadata["code"]) == (False, code)
    assert result.error and str(report) in result.error
    assert not platform.gate.log and not platform.control.log


def test_a_report_does_not_replace_its_input(
    platform: LocalPlatform, film: Path, options: dict[str, Any]
) -> None:
    result = SceneDetectionJob(film, output_path=film, **options).execute()
    assert result.metadata["code"] == "ConfigError" and film.read_bytes().startswith(b"film")
    assert not platform.gate.log


def test_an_endpoint_in_trouble_is_a_failure_that_can_be_repeated(
    platform: LocalPlatform, film: Path, options: dict[str, Any]
) -> None:
    for _ in range(MAX_RETRIES + 1):
        platform.faults.add(Fault.status(500, path="run"))
    result = SceneDetectionJob(film, **options).execute()
    assert (result.metadata["code"], result.metadata["retryable"]) == ("ServerError", True)
    with Client(
        "gone", "key", "http://127.0.0.1:9/v2", storage=options["client"].storage, timing=QUICK
    ) as nobody:
        result = SceneDetectionJob(film, **{**options, "client": nobody}).execute()
    assert (result.metadata["code"], result.metadata["retryable"]) == ("APIConnectionError", True)
    with Client(
        platform.endpoint_id, "wrong-key", platform.base_url, storage=options["client"].storage
    ) as stranger:
        result = SceneDetectionJob(film, **{**options, "client": stranger}).execute()
    assert (result.metadata["code"], result.metadata["retryable"]) == ("AuthenticationError", False)


def test_a_fallback_is_said_in_the_metadata(
    worker: ToyWorker, options: dict[str, Any], tmp_path: Path
) -> None:
    from support import clips

    failing(worker, ErrorCode.gpu_oom)
    worker.serve()
    film = clips.make(
        tmp_path / "real.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )
    result = SceneDetectionJob(film, **{**options, "mode": "auto"}).execute()
    assert result.success and result.metadata["where"] == "local"
    assert result.metadata["fallback_from"] == {
        "code": "gpu_oom",
        "message": "gpu_oom: why it failed",
    }
    assert result.metadata["stats"]["total_scenes"] == 2


def test_many_jobs_and_one_that_fails(
    worker: ToyWorker, film: Path, options: dict[str, Any]
) -> None:
    worker.serve(3)
    jobs = [
        SceneDetectionJob(
            film, threshold=20.0 + n, output_path=film.with_name(f"{n}.json"), **options
        )
        for n in range(3)
    ]
    broken = SceneDetectionJob(film.with_name("none.mp4"), **options)
    results = dict(execute_all([*jobs, broken], max_parallel=2))
    assert [results[job].success for job in [*jobs, broken]] == [True, True, True, False]
    assert all(film.with_name(f"{n}.json").exists() for n in range(3))


@pytest.fixture
def at_last(worker: ToyWorker) -> Iterator[None]:
    """Ends the jobs that nobody cancels, so that a test which waits for them comes to its end, and
    fails."""
    timer = threading.Timer(15, worker.serve, [8])
    timer.start()
    yield
    timer.cancel()


def states(platform: LocalPlatform) -> list[str]:
    return [job.status for job in platform.control.hub.queue.jobs.values()]


def when_queued(call: Callable[[], object]) -> Callable[[object], None]:
    """A listener that makes the call at the first `Queued`; another place in the queue is told as
    another."""
    calls = iter([call])

    def listen(event: object) -> None:
        if isinstance(event, Queued):
            next(calls, int)()

    return listen


@pytest.mark.usefixtures("at_last")
def test_leaving_the_loop_cancels_what_runs(
    platform: LocalPlatform, worker: ToyWorker, film: Path, options: dict[str, Any]
) -> None:
    queued = threading.Barrier(3, action=worker.serve, timeout=10)
    jobs = [
        SceneDetectionJob(
            film,
            threshold=20.0 + n,
            output_path=film.with_name(f"{n}.json"),
            on_event=when_queued(queued.wait),
            **options,
        )
        for n in range(3)
    ]
    for _, result in execute_all(jobs, max_parallel=3):
        assert result.success
        break
    assert sorted(states(platform)) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert len(list(film.parent.glob("?.json"))) == 1


@pytest.mark.usefixtures("at_last")
def test_an_interrupt_cancels_what_runs(
    platform: LocalPlatform, film: Path, options: dict[str, Any]
) -> None:
    interrupt = when_queued(lambda: os.kill(os.getpid(), signal.SIGINT))
    jobs = [
        SceneDetectionJob(film, threshold=20.0 + n, **options, on_event=interrupt) for n in range(2)
    ]
    with pytest.raises(KeyboardInterrupt):
        list(execute_all(jobs, max_parallel=1))
    assert states(platform) == ["CANCELLED"], "and the second is not begun"


def test_a_result_is_as_true_as_its_success() -> None:
    assert JobResult(True) and not JobResult(False)


def test_everything_from_the_environment(
    worker: ToyWorker,
    platform: LocalPlatform,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GPU_WORKER_ENDPOINT_ID", "R2_BUCKET_NAME"):
        monkeypatch.setenv(name, "another")
    worker.serve()
    env = dict(line.split("=", 1) for line in environment_lines(platform).splitlines())
    history = tmp_path / "history.jsonl"
    result = SceneDetectionJob(
        film, env={**env, "CGPU_GPU_ENABLED": "true", "GPU_WORKER_HISTORY": str(history)}
    ).execute()
    assert (result.error, result.metadata["where"]) == (None, "remote")
    assert platform.gate.keys() and history.exists()
