"""Tasks on files in one warm engine, sandboxed as every worker's is, and clips by plain FFmpeg."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import parse_task
from gpu_worker_processors.base import ignore_progress
from gpu_worker_processors.engine.errors import as_task_error
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.engine.settings import EngineSettings
from gpu_worker_processors.local.files import PathFiles
from gpu_worker_processors.local.paths import paths_of
from gpu_worker_processors.runner import JobRunner

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
"""Another build than PyAV's, with a mind of its own about files."""


class MediaWorker:
    """Runs tasks as `python -m gpu_worker_processors` does, without a start for each."""

    def __init__(self, engine: Engine, settings: EngineSettings) -> None:
        self._runner = JobRunner(engine, settings, "gpu-worker-processors", "test")

    def run(self, task: str, source: Path, output: Path | None = None, **params: Any) -> Any:
        """The answer; a failed task's is `{"code", "message", ...}`."""
        wire = {"task": task, "input_url": str(source), "params": params}
        if output is not None:
            wire["output_url"] = str(output)
        parsed = parse_task(json.dumps(wire).encode())
        try:
            return self._runner.run(
                "test", parsed, PathFiles(paths_of(parsed)), ignore_progress, threading.Event()
            )
        except Exception as raised:  # noqa: BLE001 - as at the worker's own edge
            return json.loads(as_task_error(raised).body().to_wire())

    def upscaled(self, source: Path, output: Path, **params: Any) -> Any:
        """The answer of an upscale by the model that ships with the package."""
        return self.run("upscale", source, output, model="lite", scale=2, **params)


@contextmanager
def media_worker(folder: Path) -> Generator[MediaWorker]:
    """A worker whose tasks may read what lies in `folder`."""
    env = {**os.environ, "GPU_WORKER_WORK_ROOT": str(folder / "work")}
    settings = EngineSettings.from_env(env)
    settings.work_root.mkdir(parents=True, exist_ok=True)
    with closing(Engine(settings, env, readable=(folder,))) as engine:
        yield MediaWorker(engine, settings)


def ffmpeg(*words: object) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, words)], check=True)


def in_video_settings(path: Path, more: bytes) -> Path:
    """Puts an element into the video settings of a Matroska file of one track, written with
    `-fflags bitexact`: all that hold it grow. FFmpeg writes sizes with eight bytes, or with one."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\xb0", data.index(b"\xe0", data.index(b"\x16\x54\xae\x6b")))  # PixelWidth
    end = at
    for name in (b"\xe0", b"\xae", b"\x16\x54\xae\x6b", b"\x18\x53\x80\x67"):
        end = data.rindex(name, 0, end)
        start = end + len(name)
        length = 9 - data[start].bit_length()
        value = int.from_bytes(data[start : start + length], "big") + len(more)
        data[start : start + length] = value.to_bytes(length, "big")
    data[at:at] = more
    path.write_bytes(data)
    return path


def said(*words: object) -> str:
    """What plain FFmpeg says of files, by its standard error."""
    done = subprocess.run(
        [FFMPEG, "-hide_banner", *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.stderr


def played(path: Path, rate: int, channels: int, stream: int = 0) -> NDArray[np.float32]:
    """An audio stream from the file's time 0, shape (channels, samples), as plain FFmpeg plays it:
    gaps are silence."""
    words = ["-map", f"0:a:{stream}", "-af", "aresample=async=1:first_pts=0", "-ar", rate]
    words += ["-ac", channels, "-f", "f32le", "-"]
    done = subprocess.run(
        [FFMPEG, "-v", "error", "-i", path, *map(str, words)], capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels).T


def seen(path: Path, width: int, height: int, pix_fmt: str = "gray") -> NDArray[np.uint8]:
    """Every frame as plain FFmpeg shows it, shape (frames, bytes of one)."""
    done = subprocess.run(
        [FFMPEG, "-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
        + ["-pix_fmt", pix_fmt, "-s", f"{width}x{height}", "-f", "rawvideo", "-"],
        capture_output=True,
        check=True,
    )
    count = width * height * {"gray": 1, "rgb24": 3, "rgba": 4}[pix_fmt]
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, count)
