"""Peak memory of worker, engine and FFmpeg does not depend on the length of the video: 10 s of a
clip against 120 s, or 300 s of ten frames a second for track, whose detector is slow on a CPU."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
from support import clips
from support.e2e_stage import Stage, start

from gpu_worker_client.protocol import (
    AutoCropParams,
    AutoCropTask,
    DetectScenesTask,
    FileTask,
    InputTask,
    RenderParams,
    RenderTask,
    TrackParams,
    TrackTask,
    UpscaleParams,
    UpscaleTask,
)

ALLOWED_GROWTH = 1.05
DEADLINE_SECONDS = 600.0
STRIDE = 4
"""The detector, slow on a CPU, looks at every fourth frame; all of them are read and written."""


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
    if name == "track":
        return TrackTask(input_url=url, params=TrackParams(frame_stride=STRIDE))
    put = stage.platform.gate.presign("PUT", "out.mp4")
    if name == "auto_crop":
        params = AutoCropParams(frame_stride=STRIDE)
        return AutoCropTask(input_url=url, output_url=put, params=params)
    return UpscaleTask(
        input_url=url, output_url=put, params=UpscaleParams(model="realesr-animevideov3", scale=2)
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "size", "rate", "long_seconds"),
    [
        ("detect_scenes", (640, 360), 25, 120),
        ("upscale", (48, 32), 25, 120),
        ("track", (160, 32), 10, 300),
        ("auto_crop", (160, 64), 25, 120),
    ],
)
def test_peak_memory_does_not_grow_with_length(
    name: str,
    size: tuple[int, int],
    rate: int,
    long_seconds: int,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    weights_dir: Path,
) -> None:
    assert os.environ["WEIGHTS_DIR"]
    peaks: dict[int, int] = {}
    for seconds in (10, long_seconds):
        spec = clips.Clip(width=size[0], height=size[1], rate=Fraction(rate), frames=seconds * rate)
        clip = clips.make(tmp_path / f"{seconds}.mp4", spec)
        for stage in start(
            tmp_path_factory
        ):  # a fresh worker each, so that the peaks are their own
            result = stage.client.run(
                task_for(stage, name, stage.upload("in.mp4", clip)), timeout=DEADLINE_SECONDS
            )
            assert result.status == "completed"
            peaks[seconds] = peak_of(stage)
    short, long = peaks[10], peaks[long_seconds]
    print(
        f"{name}: peak RSS {short / 2**20:.1f} MiB at 10 s, {long / 2**20:.1f} MiB at"
        f" {long_seconds} s"
    )
    assert long <= short * ALLOWED_GROWTH


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ffmpegs_peak_memory_does_not_grow_with_length(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It is gone when the answer comes, so it is looked at while it runs; its record only rises."""
    words = (
        "-vf",
        "scale=160:90,fps=50",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-c:a",
        "aac",
        "out.mp4",
    )
    peaks: dict[int, int] = {}
    for seconds in (10, 120):
        card = (
            "-f",
            "lavfi",
            "-i",
            f"testsrc2=size=640x360:duration={seconds}",
            "-f",
            "lavfi",
            "-i",
            f"sine=duration={seconds}",
        )
        for stage in start(tmp_path_factory):
            put = stage.platform.gate.presign("PUT", "out.mp4")
            job = stage.client.submit(
                RenderTask(output_url=put, params=RenderParams(command_args=[*card, *words]))
            )
            watched = Watched(psutil.Process(stage.worker.pid))
            assert job.result(DEADLINE_SECONDS).status == "completed"
            peaks[seconds] = watched.end() + peak_of(stage)
    short, long = peaks[10], peaks[120]
    print(f"render: peak RSS {short / 2**20:.1f} MiB at 10 s, {long / 2**20:.1f} MiB at 120 s")
    assert long <= short * ALLOWED_GROWTH


class Watched(threading.Thread):
    """Peak of the FFmpegs below a process, from now to `end`."""

    def __init__(self, worker: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._worker, self._over, self._peak = worker, threading.Event(), 0
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            for child in self._worker.children(recursive=True):
                with contextlib.suppress(
                    psutil.NoSuchProcess, FileNotFoundError, AssertionError
                ):  # ended meanwhile
                    self._peak = max(
                        self._peak, peak_bytes(child.pid) if "ffmpeg" in child.name() else 0
                    )

    def end(self) -> int:
        self._over.set()
        self.join()
        assert self._peak, "no FFmpeg was seen"
        return self._peak
