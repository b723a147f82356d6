"""The job classes: the call forms of the tools that use them, results that say how it went, and never an exception."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_worker import ToyWorker, storage_of

from gpu_worker.platform import GateLimits, LocalPlatform
from gpu_worker.platform.dev_server import environment_lines
from gpu_worker_client import (
    AutoCropJob,
    BeatAnalysisJob,
    Client,
    ConfigError,
    FFmpegRenderJob,
    JobResult,
    SceneDetectionJob,
    Timing,
    TrackJob,
    UpscaleJob,
    execute_all,
)
from gpu_worker_client.history import History
from gpu_worker_client.protocol import BeatResult, BeatStats, ErrorCode, TaskError, TrackResult


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    with LocalPlatform(poll_seconds=5, gate_limits=GateLimits(write_interval_seconds=0)) as platform:
        yield platform


@pytest.fixture
def worker(platform: LocalPlatform) -> ToyWorker:
    return ToyWorker(platform)


@pytest.fixture
def options(platform: LocalPlatform, tmp_path: Path) -> Iterator[dict[str, Any]]:
    timing = Timing(sleep=lambda seconds: time.sleep(min(seconds, 0.02)))
    with Client(
        platform.endpoint_id, platform.api_key, platform.base_url, timing=timing, storage=storage_of(platform)
    ) as client:
        yield {"client": client, "mode": "remote", "env": {"GPU_WORKER_HISTORY": str(tmp_path / "history.jsonl")}}


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
    assert result.output_path == film.with_name("video.scenes.json")
    assert json.loads(result.output_path.read_text())["stats"]["total_scenes"] == 0
    assert worker.tasks[0]["params"] == {"threshold": 30.0, "min_scene_length": 1.0, "detector": "content"}
    assert (result.metadata["task"], result.metadata["where"], result.metadata["reason"]) == (
        *("detect_scenes", "remote", "asked for"),
    )
    assert "fallback_from" not in result.metadata and result.duration_seconds > 0
    (past,) = History(tmp_path / "history.jsonl").jobs()
    assert (past.kind, past.where, past.input_bytes, past.upload_bytes) == ("detect_scenes", "remote", 400, 400)


def test_beats(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    beats = BeatResult(tempo=120.0, beat_times=[0.5, 1.0], duration=2.0, stats=BeatStats(beats=2)).model_dump(mode="json")
    worker.answer = lambda _: {"output": beats}
    worker.serve(2)
    result = BeatAnalysisJob(input_path=film, **options).execute()
    assert result.output_path == film.with_name("video.beats.json")
    assert json.loads(result.output_path.read_text())["beat_times"] == [0.5, 1.0]
    analysis = film.with_name("analysis.json")
    result = BeatAnalysisJob(
        film, analysis_path=analysis, clicks_path=film.with_name("clicks.wav"), params={"hop_length": 256}, **options
    ).execute()
    assert set(json.loads(analysis.read_text())) == {"tempo", "beat_times", "energy", "duration", "sample_rate"}
    assert film.with_name("clicks.wav").exists() and result.output_path == film.with_name("video.beats.json")
    assert worker.tasks[1]["params"] == {"hop_length": 256}


def test_a_command(worker: ToyWorker, film: Path, options: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "compressed.mp4"
    words = FFmpegRenderJob.create_nvenc_command(input_file=film.name, output_file=str(output), bitrate="5M")
    worker.serve()
    result = FFmpegRenderJob(input_paths=[str(film)], command_args=words, output_filename=output, **options).execute()
    assert (result.output_path, output.read_bytes()) == (output, film.read_bytes()[::-1])
    assert worker.tasks[0]["params"]["command_args"] == words
    assert set(worker.tasks[0]["inputs"]) == {"video.mp4"}


@pytest.mark.parametrize(
    ("paths", "words"), [(["a/x.mp4", "b/x.mp4"], ["-i", "x.mp4", "out.mp4"]), (["x.mp4"], ["-i", "x.mp4", "other.mp4"])]
)
def test_a_command_that_cannot_be_meant(paths: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError):
        FFmpegRenderJob(paths, words, "out.mp4")


def test_films(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    worker.serve(2)
    result = UpscaleJob(film, params={"model": "lite", "scale": 2.0}, **options).execute()
    assert result.output_path == film.with_name("video.upscaled.mp4") and result.output_path.exists()
    named = UpscaleJob(film, film.with_name("big.mkv"), **options).execute()
    assert named.output_path == film.with_name("big.mkv") and named.output_path.exists()


def test_tracks_can_be_used_again(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    worker.serve(1)
    result = TrackJob(film, params={"classes": ["person"]}, **options).execute()
    assert result.output_path == film.with_name("video.tracks.json")
    assert TrackResult.from_json(result.output_path.read_bytes()).stats.total_frames == 1
    job = AutoCropJob(film, tracks_path=result.output_path, params={"target_aspect": "1:1"}, **options)
    assert set(job.work.paths) == {"input_url", "tracks_url"}
    assert job.work.output_path == film.with_name("video.cropped.mp4")


def failing(worker: ToyWorker, code: ErrorCode) -> None:
    worker.answer = lambda _: {"error": TaskError(code, "why it failed").body().to_wire()}


def test_a_failure_is_a_result(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    failing(worker, ErrorCode.corrupt_media)
    worker.serve()
    result = UpscaleJob(film, **options).execute()
    assert not result and result.output_path is None
    assert result.error == "corrupt_media: why it failed"
    assert result.metadata == {"task": "upscale", "code": "corrupt_media", "retryable": False}
    assert not film.with_name("video.upscaled.mp4").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"input_path": "none.mp4"}, "FileNotFoundError"),
        ({"params": {"scael": 2}}, "invalid_task"),
        ({"env": {"GPU_WORKER_MODE": "sometimes"}}, "ConfigError"),
        ({"client": None, "env": {"GPU_WORKER_HISTORY": "off"}}, "ConfigError"),
    ],
    ids=["no input", "misspelt", "a bad variable", "no endpoint"],
)
def test_whatever_is_wrong_is_a_result(film: Path, options: dict[str, Any], change: dict[str, Any], code: str) -> None:
    arguments = {"input_path": film, **options, **change}
    if arguments["client"] is None:
        del arguments["client"]
    result = UpscaleJob(**arguments).execute()
    assert (result.success, result.metadata["code"]) == (False, code)
    assert result.error


def test_a_fallback_is_said_in_the_metadata(worker: ToyWorker, options: dict[str, Any], tmp_path: Path) -> None:
    import clips

    failing(worker, ErrorCode.gpu_oom)
    worker.serve()
    film = clips.make(tmp_path / "real.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25))
    result = SceneDetectionJob(film, **{**options, "mode": "auto"}).execute()
    assert result.success and result.metadata["where"] == "local"
    assert result.metadata["fallback_from"] == {"code": "gpu_oom", "message": "gpu_oom: why it failed"}
    assert result.metadata["stats"]["total_scenes"] == 2


def test_many_jobs_and_one_that_fails(worker: ToyWorker, film: Path, options: dict[str, Any]) -> None:
    worker.serve(3)
    jobs = [SceneDetectionJob(film, threshold=20.0 + n, output_path=film.with_name(f"{n}.json"), **options) for n in range(3)]
    broken = SceneDetectionJob(film.with_name("none.mp4"), **options)
    results = dict(execute_all([*jobs, broken], max_parallel=2))
    assert [results[job].success for job in [*jobs, broken]] == [True, True, True, False]
    assert all(film.with_name(f"{n}.json").exists() for n in range(3))


def test_a_result_is_as_true_as_its_success() -> None:
    assert JobResult(True) and not JobResult(False)


def test_everything_from_the_environment(
    worker: ToyWorker, platform: LocalPlatform, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GPU_WORKER_ENDPOINT_ID", "R2_BUCKET_NAME"):
        monkeypatch.setenv(name, "another")
    worker.serve()
    env = dict(line.split("=", 1) for line in environment_lines(platform).splitlines())
    history = tmp_path / "history.jsonl"
    result = SceneDetectionJob(film, env={**env, "CGPU_GPU_ENABLED": "true", "GPU_WORKER_HISTORY": str(history)}).execute()
    assert (result.error, result.metadata["where"]) == (None, "remote")
    assert platform.gate.keys() and history.exists()
