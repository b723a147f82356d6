"""The track task on a CUDA device: the same people under the same ids as on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_worker_client.protocol import TrackParams, TrackResult
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.track.processor import PROCESSOR

pytestmark = pytest.mark.gpu


def run(path: Path, work_dir: Path, weights_dir: Path, device: str, **params: Any) -> TrackResult:
    settings = ProcessorSettings(weights_dir, device)
    return PROCESSOR.run(
        LocalJob("job", TrackParams(**params), work_dir, path, settings=settings)
    ).unpacked()


@pytest.mark.parametrize("name", ["basketball_720p24.mp4", "pets_vtest/vtest_480x360.avi"])
def test_the_same_people_as_on_the_cpu(
    media: Path, tmp_path: Path, weights_dir: Path, name: str
) -> None:
    path = media / "tracking" / name
    cpu, gpu = (
        run(path, tmp_path, weights_dir, device, classes=["person"], frame_stride=3)
        for device in ("cpu", "cuda:0")
    )
    assert gpu.worker is not None and gpu.worker.device == "cuda:0"
    assert gpu.stats.total_frames == cpu.stats.total_frames
    here = {
        (box.frame, *(round(v / 8) for v in box.bbox))
        for track in cpu.tracks
        for box in track.frames
    }
    there = {
        (box.frame, *(round(v / 8) for v in box.bbox))
        for track in gpu.tracks
        for box in track.frames
    }
    assert abs(len(here) - len(there)) <= 0.02 * len(here)
    longest = max(cpu.tracks, key=lambda track: len(track.frames))
    assert any(abs(len(track.frames) - len(longest.frames)) <= 2 for track in gpu.tracks)


def test_two_runs_are_equal(media: Path, tmp_path: Path, weights_dir: Path) -> None:
    path = media / "tracking" / "basketball_720p24.mp4"
    first, second = (run(path, tmp_path, weights_dir, "cuda:0", frame_stride=4) for _ in range(2))
    assert first.tracks == second.tracks
