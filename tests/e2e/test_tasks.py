"""Every task, submitted by the SDK over HTTP, run by the unmodified runpod loop, files through the R2 gate, result typed."""

from __future__ import annotations

from pathlib import Path

import av
import clips
import pytest
import requests
from e2e_stage import Stage

from gpu_worker.platform.local import LocalPlatform
from gpu_worker_client import Client
from gpu_worker_client.protocol import (
    TASKS,
    DetectScenesParams,
    DetectScenesResult,
    DetectScenesTask,
    SelftestResult,
    SelftestTask,
    UpscaleParams,
    UpscaleResult,
    UpscaleTask,
)

DARK, BRIGHT, BLUE = (20, 20, 20), (230, 230, 230), (30, 30, 200)
DEADLINE_SECONDS = 120.0
COVERED = {"selftest", "detect_scenes", "upscale"}


def test_no_task_is_without_a_test_here() -> None:
    assert set(TASKS) == COVERED


def test_selftest(running: Stage) -> None:
    result = running.client.run(SelftestTask(), timeout=DEADLINE_SECONDS)
    assert isinstance(result, SelftestResult)
    assert result.status == "completed"
    assert result.processors["detect_scenes"].ok, result.processors
    assert result.worker is not None and result.worker.device
    assert running.job_directories() == []


def test_detect_scenes(running: Stage, tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "cuts.mp4", clips.Clip(frames=90), clips.flat(DARK, BRIGHT, BLUE, every=30))
    url = running.upload("in/cuts.mp4", clip)
    task = DetectScenesTask(input_url=url, params=DetectScenesParams(min_scene_length=0.5))
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, DetectScenesResult)
    assert [(s.start_frame, s.end_frame) for s in result.scenes] == [(0, 29), (30, 59), (60, 89)]
    assert [s.start_time for s in result.scenes] == pytest.approx([0, 1.2, 2.4], abs=1e-3)
    assert result.timings is not None and result.timings.process_sec > 0
    assert running.job_directories() == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_upscale(running: Stage, tmp_path: Path, weights_dir: Path, suffix: str) -> None:
    spec = clips.Clip(width=64, height=48, frames=12, audio_seconds=0.48)
    url = running.upload(f"in/small{suffix}", clips.make(tmp_path / f"small{suffix}", spec))
    put = running.platform.gate.presign("PUT", f"out/big{suffix}")
    task = UpscaleTask(input_url=url, output_url=put, params=UpscaleParams(model="realesr-animevideov3"))
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, UpscaleResult)
    assert result.output_url is not None and "?" not in result.output_url
    assert result.stats.output_resolution == "256x192"
    assert result.stats.frames_processed == 12
    stored = running.platform.gate.path(f"out/big{suffix}")
    with av.open(str(stored)) as output:
        frames = [(f.pts, f.width, f.height) for f in output.decode(output.streams.video[0])]
        assert len(output.streams.audio) == 1
    assert len(frames) == 12
    assert {(w, h) for _, w, h in frames} == {(256, 192)}
    assert running.job_directories() == []


def test_the_whole_result_is_put_at_result_url_and_reused_by_key(running: Stage, tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "cuts.mp4", clips.Clip(frames=60), clips.flat(DARK, BRIGHT, every=30))
    gate = running.platform.gate
    task = DetectScenesTask(
        input_url=running.upload("in/again.mp4", clip),
        result_url=gate.presign("PUT", "results/again.json"),
        result_get_url=gate.presign("GET", "results/again.json"),
        idempotency_key="again-1",
    )
    first = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert first.deduplicated is False
    stored = DetectScenesResult.model_validate_json(gate.read("results/again.json") or b"")
    assert stored.scenes == first.scenes
    second = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert second.deduplicated is True
    assert second.scenes == first.scenes


def test_a_large_result_goes_to_the_workers_own_bucket(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    root = tmp_path_factory.mktemp("bucket")
    clip = clips.make(tmp_path / "cuts.mp4", clips.Clip(frames=60), clips.flat(DARK, BRIGHT, every=30))
    with LocalPlatform(data_dir=root) as platform:
        gate = platform.gate
        env = {
            "GPU_WORKER_INLINE_RESULT_BYTES": "100",
            "GPU_WORKER_WORK_ROOT": str(root / "work"),
            "R2_ENDPOINT_URL": gate.base_url,
            "R2_BUCKET_NAME": gate.bucket,
            "R2_ACCESS_KEY_ID": gate.credentials.access_key,
            "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
        }
        platform.start_worker(env)
        gate.put("in.mp4", clip)
        client = Client(platform.endpoint_id, platform.api_key, platform.base_url)
        job = client.submit(DetectScenesTask(input_url=gate.presign("GET", "in.mp4")))
        status = job.wait(timeout=DEADLINE_SECONDS)
        assert status.output is not None, status
        assert (status.output["scenes_count"], "scenes" in status.output) == (2, False)
        stored = requests.get(status.output["result_url"], timeout=10)
        assert stored.status_code == 200
        assert len(DetectScenesResult.model_validate_json(stored.content).scenes) == 2
        assert len(job.result().scenes) == 2, "the SDK reads it from there"
