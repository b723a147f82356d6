"""track against `YOLO.track(stream=True)` of the library whose weights it uses: the same file,
settings and device, in turn.

The peer is called as its documentation says for long videos: one frame at a time, BoT-SORT with
camera motion, the classes and the weakest score that our detector sees too. The medium network is
one of the real shape with random numbers, since only its speed is asked for. The video pans over a
photograph of a street with people, made at run time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # what the engine sets; torch reads it once, at its import
os.environ.update(
    {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1"}
)
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="yolo-"))

import av
import cv2
import numpy as np
from needed_weights import FOLDER, skipped

from gpu_worker_client.protocol import TrackParams
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.track.processor import PROCESSOR

WIDTH, HEIGHT, FPS = 1280, 720, 25
FRAMES = {"yolov8n": 120, "yolov8m": 24}
ROUNDS = 2
"""Peer and we take turns; the fastest round of each counts."""
COCO_IDS = [0, 32]
"""person and sports ball, the task's default classes."""


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [speed(folder, model, frames) for model, frames in FRAMES.items()]


def speed(folder: Path, model: str, frames: int) -> dict[str, Any]:
    title = f"track, file to result, {model}, {WIDTH}x{HEIGHT}"
    weights = real_weights(model) if model == "yolov8n" else random_weights(folder, model)
    if weights is None:
        return skipped(title, model)
    from ultralytics import YOLO

    clip = make_video(folder / f"{model}.mp4", frames)
    peer = YOLO(str(weights), task="detect")
    job = LocalJob(
        "bench", TrackParams(model=model), folder, clip, settings=settings(weights.parent)
    )
    PROCESSOR.prepare(job)
    warm = make_video(folder / "warm.mp4", 5)
    run_peer(peer, warm)
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        best["peer"] = min(best.get("peer", 1e9), timed(lambda: run_peer(peer, clip)))
        best["ours"] = min(best.get("ours", 1e9), timed(lambda: PROCESSOR.run(job)))
    ours, theirs = frames / best["ours"], frames / best["peer"]
    return {
        "name": title,
        "ours": ours,
        "peer": theirs,
        "ratio": ours / theirs,
        "unit": "frames/s",
        "note": "YOLO.track(stream=True), BoT-SORT, same weights, classes, weakest score",
        "work": {
            "task": "track",
            "model": model,
            "width": WIDTH,
            "height": HEIGHT,
            "frames": frames,
            "seconds": best["ours"],
        },
    }


def settings(weights_dir: Path, device: str = "cpu") -> ProcessorSettings:
    return ProcessorSettings(weights_dir, device)


def real_weights(model: str) -> Path | None:
    path = Path(FOLDER, f"{model}.pt")
    return path if path.is_file() else None


def random_weights(folder: Path, model: str) -> Path:
    """A weights directory with one network of the real shape, pinned as the loader demands."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    path = folder / "weights" / f"{model}.pt"
    path.parent.mkdir(exist_ok=True)
    network = YOLO(f"{model}.yaml")
    network.model.names |= {0: "person", 32: "sports ball"}  # type: ignore[union-attr] # a fresh one numbers its classes
    network.save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = {
        "name": model,
        "file": path.name,
        "kind": "yolo",
        "arch": model,
        "sha256": digest,
        "licence": "none",
    }
    lines = [f'{key} = "{value}"' for key, value in entry.items()]
    text = "\n".join(["[[weights]]", *lines, f"bytes = {path.stat().st_size}", ""])
    (path.parent / "manifest.local.toml").write_text(text, encoding="utf-8")
    return path


def run_peer(peer: Any, clip: Path, device: str = "cpu") -> int:
    """Frames that went through; in half precision on a GPU."""
    results = peer.track(
        str(clip),
        stream=True,
        persist=False,
        tracker="botsort.yaml",
        conf=0.1,
        iou=0.45,
        classes=COCO_IDS,
        device=device,
        half=device != "cpu",
        verbose=False,
    )
    return sum(1 for _ in results)


def make_video(path: Path, frames: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A slow pan over the street scene that ultralytics ships."""
    folder = Path(importlib.util.find_spec("ultralytics").submodule_search_locations[0])  # type: ignore[union-attr, index]
    photo: Any = cv2.imread(str(folder / "assets" / "bus.jpg"))
    photo = cv2.resize(
        photo, (int(width * 1.3), int(width * 1.3 * photo.shape[0] / photo.shape[1]))
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            x, y = 2 * index % (photo.shape[1] - width), (500 + index) % (photo.shape[0] - height)
            pixels = np.ascontiguousarray(photo[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
