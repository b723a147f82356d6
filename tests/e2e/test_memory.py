"""Peak memory of worker and engine does not depend on the length of the video: 10 s against 120 s of the same clip."""

from __future__ import annotations

import os
import re
from pathlib import Path

import clips
import psutil
import pytest
from e2e_stage import Stage, start

from gpu_worker_client.protocol import DetectScenesTask, FileTask, InputTask, UpscaleParams, UpscaleTask

ALLOWED_GROWTH = 1.05
RATE = 25
DEADLINE_SECONDS = 280.0


def peak_bytes(pid: int) -> int:
    """The kernel's own record of the largest resident set (VmHWM, proc(5))."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def peak_of(stage: Stage) -> int:
    engine = stage.engine()
    assert engine is not None
    return peak_bytes(psutil.Process(stage.worker.pid).pid) + peak_bytes(engine.pid)


def task_for(stage: Stage, name: str, url: str) -> InputTask | FileTask:
    if name == "detect_scenes":
        return DetectScenesTask(input_url=url)
    put = stage.platform.gate.presign("PUT", "out.mp4")
    return UpscaleTask(input_url=url, output_url=put, params=UpscaleParams(model="realesr-animevideov3", scale=2))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "size"), [("detect_scenes", (640, 360)), ("upscale", (48, 32))])
def test_peak_memory_does_not_grow_with_length(
    name: str, size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, weights_dir: Path
) -> None:
    assert os.environ["WEIGHTS_DIR"]
    peaks: dict[int, int] = {}
    for seconds in (10, 120):
        spec = clips.Clip(width=size[0], height=size[1], frames=seconds * RATE)
        clip = clips.make(tmp_path / f"{seconds}.mp4", spec)
        for stage in start(tmp_path_factory):  # a fresh worker each, so that the peaks are their own
            result = stage.client.run(task_for(stage, name, stage.upload("in.mp4", clip)), timeout=DEADLINE_SECONDS)
            assert result.status == "completed"
            peaks[seconds] = peak_of(stage)
    print(f"{name}: peak RSS {peaks[10] / 2**20:.1f} MiB at 10 s, {peaks[120] / 2**20:.1f} MiB at 120 s")
    assert peaks[120] <= peaks[10] * ALLOWED_GROWTH
