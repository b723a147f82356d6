"""The SDK and the processors in a Python of their own, as their user installs them: the job classes
in local mode give what the worker's local run gives here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from support import clips, music
from support.paths import ROOT

PACKAGES = ("gpu-worker-client", "gpu-worker-processors")
FRAMES = 50
PROGRAM = """
import json, sys
from importlib.util import find_spec
from gpu_worker_client import AutoCropJob, BeatAnalysisJob, FFmpegRenderJob
from gpu_worker_client import SceneDetectionJob, TrackJob, UpscaleJob

command = ["-i", "film.mp4", "-vf", "scale=64:48", "-t", "1", "render.mp4"]
jobs = {
    "scenes": SceneDetectionJob("film.mp4", output_path="scenes.json"),
    "beat": BeatAnalysisJob("music.wav", output_path="beats.json"),
    "upscale": UpscaleJob("film.mp4", "upscale.mp4", model="lite", scale=2.0),
    "track": TrackJob("film.mp4", output_path="tracks.json", model="hog", classes=["person"]),
    "crop": AutoCropJob("film.mp4", "crop.mp4", tracks_path="tracks.json"),
    "render": FFmpegRenderJob(["film.mp4"], command, "render.mp4"),
}
bad = {
    "not media": SceneDetectionJob("notes.txt"),
    "missing file": UpscaleJob("gone.mp4", "bad.mp4"),
    "weights missing": UpscaleJob("film.mp4", "bad.mp4", model="SwinIR_4x_GAN"),
    "URL": SceneDetectionJob("https://h/in.mp4", output_path="bad.json"),
}
done = {name: job.execute() for name, job in {**jobs, **bad}.items()}
answer = {name: [result.success, result.error, result.metadata] for name, result in done.items()}
here = {name: find_spec(module) is not None
        for name, module in (("worker", "gpu_worker"), ("runpod", "runpod"))}
print(json.dumps(here | {"jobs": answer}))
"""


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the two packages and what they need, as pinned."""
    home = tmp_path_factory.mktemp("laptop") / "venv"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True, timeout=120)
    install = [
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        home / "bin/python",
        "-c",
        ROOT / "requirements/worker.txt",
    ]
    subprocess.run([*install, ROOT / "client", ROOT / "processors"], check=True, timeout=600)
    return home / "bin/python"


def material(folder: Path) -> Path:
    folder.mkdir()
    clips.make(
        folder / "film.mp4",
        clips.Clip(width=160, height=120, frames=FRAMES),
        clips.flat((255, 0, 0), (0, 0, 255), every=25),
    )
    music.save(folder / "music.wav", music.clicks(list(np.arange(0.5, 9.5, 0.5)), 10.0))
    (folder / "notes.txt").write_text("no film")
    return folder


def environment(folder: Path) -> dict[str, str]:
    kept = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**kept, "GPU_WORKER_MODE": "local", "GPU_WORKER_HISTORY": "off"}


def executed(python: Path, folder: Path) -> dict[str, Any]:
    command = [python, "-c", PROGRAM]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment(folder), timeout=280
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def both(
    laptop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Any], dict[str, Any], Path, Path]]:
    """What the laptop said and what the worker said, and their folders."""
    root = tmp_path_factory.mktemp("both")
    here, there = material(root / "laptop"), material(root / "worker")
    yield executed(laptop, here), executed(Path(sys.executable), there), here, there


Both = tuple[dict[str, Any], dict[str, Any], Path, Path]


@pytest.mark.slow
def test_every_job_runs_without_the_worker(both: Both) -> None:
    laptop, worker, _, _ = both
    assert (laptop["worker"], laptop["runpod"], worker["worker"]) == (False, False, True)
    for name in ("scenes", "beat", "upscale", "track", "crop", "render"):
        for answer, package in ((laptop, PACKAGES[1]), (worker, "gpu-worker")):
            success, error, metadata = answer["jobs"][name]
            assert success, (name, package, error)
            assert (metadata["where"], metadata["worker"]["package"]) == ("local", package)
        assert (
            laptop["jobs"][name][2]["worker"]["sandbox"]
            == worker["jobs"][name][2]["worker"]["sandbox"]
        )


@pytest.mark.slow
def test_the_results_are_the_workers(both: Both) -> None:
    _, _, here, there = both
    scenes, beats, tracks = (
        json.loads((here / f"{name}.json").read_text()) for name in ("scenes", "beats", "tracks")
    )
    assert [(scene["start_frame"], scene["end_frame"]) for scene in scenes["scenes"]] == [
        (0, 24),
        (25, 49),
    ]
    assert len(beats["beat_times"]) == 18 and abs(beats["tempo"] - 120) < 1
    for name, found, field in (
        ("scenes", scenes, "scenes"),
        ("beats", beats, "beat_times"),
        ("tracks", tracks, "tracks"),
    ):
        assert found[field] == json.loads((there / f"{name}.json").read_text())[field], name
    assert tracks["cuts"] == [{"frame": 25, "time": 1.0}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "frames"),
    [("upscale.mp4", (320, 240), FRAMES), ("crop.mp4", None, FRAMES), ("render.mp4", (64, 48), 25)],
)
def test_the_films_are_the_workers(
    both: Both, name: str, size: tuple[int, int] | None, frames: int
) -> None:
    _, _, here, there = both
    ours, theirs = looked_at(here / name), looked_at(there / name)
    assert ours == theirs
    assert ours[1] == frames and size in (None, ours[0])


def looked_at(path: Path) -> tuple[tuple[int, int], int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return (stream.width, stream.height), sum(1 for _ in container.decode(video=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("not media", "not_media", ""),
        ("missing file", "FileNotFoundError", "gone.mp4"),
        ("weights missing", "weights_missing", "curl -fL -o"),
        ("URL", "ConfigError", "pip install gpu-worker"),
    ],
)
def test_what_cannot_work_is_typed_and_leaves_nothing(
    both: Both, name: str, code: str, words: str
) -> None:
    laptop, _, here, _ = both
    success, error, metadata = laptop["jobs"][name]
    assert (success, metadata["code"], words in error) == (False, code, True), error
    made = {"scenes.json", "beats.json", "upscale.mp4", "tracks.json", "crop.mp4", "render.mp4"}
    assert {path.name for path in here.iterdir() if path.name != ".cache"} == made | {
        "film.mp4",
        "music.wav",
        "notes.txt",
    }


@pytest.mark.slow
def test_ctrl_c_ends_it_whole(laptop: Path, tmp_path: Path) -> None:
    folder = material(tmp_path / "films")
    program = (
        "from gpu_worker_client import FFmpegRenderJob\n"
        "words = ['-stream_loop', '-1', '-i', 'film.mp4', '-t', '3600', '-vf', 'scale=1920:1080']\n"
        "words += ['-preset', 'veryslow', 'o.mp4']\n"
        "FFmpegRenderJob(['film.mp4'], words, 'o.mp4').execute()"
    )
    env = environment(folder) | {"GPU_WORKER_WORK_ROOT": str(tmp_path / "work")}
    child = psutil.Popen([laptop, "-c", program], cwd=folder, env=env, stderr=subprocess.DEVNULL)
    started: list[psutil.Process] = []
    while not any("veryslow" in words_of(process) for process in started):
        assert child.poll() is None
        started = child.children(recursive=True)
    child.send_signal(2)
    child.wait(60)
    gone, alive = psutil.wait_procs(started, timeout=60)
    assert len(gone) == len(started) >= 3 and not alive
    assert sorted(path.name for path in folder.iterdir()) == ["film.mp4", "music.wav", "notes.txt"]
    assert list((tmp_path / "work").iterdir()) == []


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
def test_the_extra_for_yolo_leaves_an_opencv_that_has_hog(laptop: Path) -> None:
    """ultralytics asks for `opencv-python` of any version, which is put into the folder of
    `opencv-python-headless`."""
    uv = Path(sys.executable).with_name("uv")
    extras = ROOT / "processors"
    command = [
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        laptop,
        "-c",
        ROOT / "requirements/worker.txt",
        f"{extras}[yolo]",
    ]
    subprocess.run(command, check=True, timeout=600)
    program = (
        "import cv2; from gpu_worker_processors.track.detectors.ultralytics_net import"
        " import_ultralytics\nimport_ultralytics('tasks', 'yolov8n'); cv2.HOGDescriptor();"
        " print(cv2.__version__)"
    )
    done = subprocess.run([laptop, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("4."), (done.stdout, done.stderr)
