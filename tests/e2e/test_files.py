"""Files in, files out over the whole way: the SDK, the bucket, the unmodified runpod loop, the real
worker and processors."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from support import clips
from support.e2e_stage import Stage
from support.toy_worker import storage_of

from gpu_worker_client import (
    Client,
    FFmpegRenderJob,
    Finished,
    ProgressEvent,
    SceneDetectionJob,
    Transfer,
)
from gpu_worker_processors.sandbox import landlock

DEADLINE_SECONDS = 120.0


@pytest.fixture
def client(running: Stage) -> Client:
    running.client.storage = storage_of(running.platform)
    return running.client


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds: red, then blue."""
    return clips.make(
        tmp_path / "film.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )


def objects(stage: Stage) -> list[str]:
    keys = stage.platform.gate.keys()
    return [key for key in keys if not key.startswith("gpu-worker/in/")]


def test_scenes_of_a_file(running: Stage, client: Client, film: Path) -> None:
    result = client.detect_scenes(film, timeout=DEADLINE_SECONDS)
    assert [(scene.start_frame, scene.end_frame) for scene in result.scenes] == [(0, 24), (25, 49)]
    assert objects(running) == []


@pytest.mark.slow
def test_a_file_becomes_a_larger_one(
    running: Stage, client: Client, film: Path, tmp_path: Path
) -> None:
    told: list[object] = []
    out = tmp_path / "out.mp4"
    result = client.upscale(
        film, out, model="lite", scale=2.0, timeout=DEADLINE_SECONDS, on_event=told.append
    )
    assert (result.stats.output_resolution, result.stats.frames_processed) == ("128x96", 50)
    with av.open(str(out)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 50 and pictures[0].shape == (96, 128, 3)
    for index, color in ((0, (255, 0, 0)), (49, (0, 0, 255))):
        assert np.abs(pictures[index].mean(axis=(0, 1)) - color).max() < 8
    kinds = {type(event) for event in told}
    assert {Transfer, ProgressEvent, Finished} <= kinds
    assert objects(running) == [] and running.job_directories() == []


@pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)
def test_a_command_on_a_file(running: Stage, client: Client, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "compressed.mp4"
    words = FFmpegRenderJob.create_nvenc_command(
        input_file=film.name, output_file=out.name, bitrate="500k"
    )
    result = FFmpegRenderJob(
        [film], words, out, client=client, mode="remote", env={"GPU_WORKER_HISTORY": "off"}
    ).execute()
    assert result.success, result.error
    assert result.metadata["stats"]["encoder_used"] in ("h264_nvenc", "libx264")
    with av.open(str(result.output_path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


def test_the_same_answer_here_and_there(
    running: Stage, client: Client, film: Path, tmp_path: Path
) -> None:
    reports = {mode: tmp_path / f"{mode}.json" for mode in ("remote", "local")}
    for mode, report in reports.items():
        job = SceneDetectionJob(
            film,
            output_path=report,
            client=client,
            mode=mode,
            timeout=DEADLINE_SECONDS,
            env={"GPU_WORKER_HISTORY": "off"},
        )
        assert job.execute().metadata["where"] == mode
    there, here = (json.loads(report.read_text())["scenes"] for report in reports.values())
    assert there == here and len(here) == 2
