"""detect_scenes against plain decoding and against PySceneDetect, the same file in the same
process, in turn.

The floor is what PyAV needs to decode the file with all cores and to analyse nothing; the peer is
`scenedetect.detect()`. Real clips from TEST_MEDIA where it names a folder, and a 720p clip made at
run time anywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from scenedetect import ContentDetector, detect

from gpu_worker_client.protocol import DetectScenesParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.detect_scenes.processor import PROCESSOR

ROUNDS, SECONDS = 5, 10.0
"""The best of at least so many turns over at least so long: on a shared machine the slower ones
measure the neighbours, and a clip of a tenth of a second sees too little of them in five."""
MADE = "made at run time, 720p"
"""Name of the clip whose figure estimates rest on."""
REAL = ("psd_testvideo.mp4", "big_buck_bunny_0_30.webm", "bikes.mp4")


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        clips = [_made(Path(folder)), *_real()]
        return [row for clip in clips for row in _measure(clip)]


def _real() -> list[Path]:
    folder = Path(os.environ.get("TEST_MEDIA", ""), "scenes")
    return [folder / name for name in REAL if (folder / name).is_file()]


def _made(folder: Path) -> Path:
    """20 seconds of 720p H.264 with motion everywhere and a cut every two seconds."""
    path = folder / f"{MADE}.mp4"
    dice = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "veryfast", "crf": "23"}
        )
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for index in range(500):
            if index % 50 == 0:
                scene = np.kron(
                    dice.integers(0, 256, (45, 80, 3), np.uint8), np.ones((16, 16, 1), np.uint8)
                )
            pixels = np.ascontiguousarray(np.roll(scene, index * 3, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _decode(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(1 for _ in container.decode(stream))


def _theirs(path: Path) -> list[int]:
    return [
        start.frame_num
        for start, _ in detect(
            str(path), ContentDetector(30, min_scene_len=1.0), start_in_scene=True
        )
    ]


def _ours(path: Path) -> list[int]:
    result = PROCESSOR.run(LocalJob("bench", DetectScenesParams(), path.parent, path))
    return [scene.start_frame for scene in result.scenes]


def _measure(path: Path) -> list[dict[str, Any]]:
    best = dict.fromkeys((_decode, _ours, _theirs), float("inf"))
    answers: dict[Callable[[Path], Any], Any] = {}
    began, rounds = time.perf_counter(), 0
    while rounds < ROUNDS or time.perf_counter() - began < SECONDS:
        rounds += 1
        for work in best:
            started = time.perf_counter()
            answers[work] = work(path)
            best[work] = min(best[work], time.perf_counter() - started)
    if answers[_ours] != answers[_theirs]:
        raise RuntimeError(
            f"{path.name}: {answers[_ours]} is not PySceneDetect's {answers[_theirs]}"
        )
    frames, floor = answers[_decode], best[_decode]
    note = (
        f"{frames} frames, {len(answers[_ours])} scenes, the same in both;"
        f" {best[_ours] / floor:.2f} x the {floor:.2f} s of decoding alone (bar 1.25),"
        f" PySceneDetect {best[_theirs] / floor:.2f} x"
    )
    row = {
        "name": f"detect_scenes: {path.stem}",
        "ours": best[_ours],
        "peer": best[_theirs],
        "unit": "s",
        "note": note,
    }
    row |= {"ratio": best[_theirs] / best[_ours], "peak_rss_mb": _peak_rss_mb(path)}
    if path.stem == MADE:
        row["work"] = {
            "task": "detect_scenes",
            "width": 1280,
            "height": 720,
            "frames": frames,
            "seconds": best[_ours],
        }
    return [row]


def _peak_rss_mb(path: Path) -> float:
    """Of a process that does nothing but this task, imports included."""
    ran = subprocess.run(
        [sys.executable, __file__, path], check=True, capture_output=True, text=True
    )
    return float(ran.stdout)


if __name__ == "__main__":
    _ours(Path(sys.argv[1]))
    # Not getrusage: its peak is inherited from the process that forked this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
