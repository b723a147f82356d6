"""auto_crop, file to file, beside what most open tools do: an exponentially smoothed path and
FFmpeg's crop filter.

Both get the same tracks, so the detector, which `track` measures, is not in the figure. The peer
smooths each frame's wanted position with a factor of 0.9, rounds it as the crop filter does with
4:2:0, hands the path to FFmpeg by `sendcmd`, and encodes by the same x264 settings. Behind a person
who walks the video pans over a scene, by no whole number of pixels; it is made at run time.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np

from gpu_worker_client.protocol import (
    Track,
    TrackBox,
    TrackFrames,
    TrackResult,
    TrackStats,
    TrackVideo,
)
from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_processors.auto_crop.processor import PROCESSOR
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.media.encoders import encoder_options

WIDTH, HEIGHT, FPS, FRAMES = 1920, 1080, 25, 200
WINDOW = 608
ROUNDS = 3
"""Peer and we take turns; the fastest round of each counts."""
CRF = 18


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, positions = make_video(folder / "video.mp4"), walk()
        tracks = folder / "tracks.json"
        tracks.write_text("".join(tracked(positions).json_pieces()), encoding="utf-8")
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for who, run in (("peer", run_peer), ("ours", run_ours)):
                seconds = timed(lambda run=run: run(folder, video, tracks))
                best[who] = min(best.get(who, 1e9), seconds)
        ours, theirs = FRAMES / best["ours"], FRAMES / best["peer"]
    note = (
        "exponential path, ffmpeg sendcmd and crop, the same tracks and x264 settings; the peer"
        " moves in steps of 2 px, ours samples between pixels and checks its output"
    )
    row = {
        "name": f"auto_crop, file to file, {WIDTH}x{HEIGHT} to 9:16",
        "ours": ours,
        "peer": theirs,
        "work": {
            "task": "auto_crop",
            "width": WIDTH,
            "height": HEIGHT,
            "frames": FRAMES,
            "seconds": best["ours"],
        },
    }
    return [row | {"ratio": ours / theirs, "unit": "frames/s", "note": note}]


def walk() -> Any:
    """The person's middle in each frame, shape (frames,): to the right and back, with steps."""
    t = np.arange(FRAMES) / FPS
    return 960 + 500 * np.sin(2 * np.pi * t / 9) + 6 * np.sin(2 * np.pi * t * 1.8)


def make_video(path: Path) -> Path:
    """Noise of a natural spectrum that slides by, so that the encoder has as much to do as with a
    real video."""
    dice = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.fftfreq(2 * WIDTH)[None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / WIDTH)
    scene = np.fft.ifft2(np.fft.fft2(dice.normal(size=(HEIGHT, 2 * WIDTH))) * falling).real
    scene = np.clip(128 + 40 * scene / scene.std(), 16, 235).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            pixels: Any = cv2.getRectSubPix(
                scene, (WIDTH, HEIGHT), (WIDTH / 2 + 2.37 * index, HEIGHT / 2)
            )
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(pixels, format="gray").reformat(format="yuv420p")
                )
            )
        container.mux(stream.encode(None))
    return path


def tracked(positions: Any) -> TrackResult:
    boxes = (
        TrackBox(frame=index, bbox=(x - 90, 300, x + 90, 900), confidence=0.9)
        for index, x in enumerate(positions.tolist())
    )
    return TrackResult(
        tracks=[Track(track_id=1, class_name="person", frames=TrackFrames(boxes))],
        video=TrackVideo(width=WIDTH, height=HEIGHT, fps=FPS, duration=FRAMES / FPS),
        stats=TrackStats(total_frames=FRAMES, unique_tracks=1, boxes=FRAMES),
    )


def run_ours(folder: Path, video: Path, tracks: Path) -> None:
    params = AutoCropParams(crf=CRF)
    output, settings = folder / "ours.mp4", ProcessorSettings(device="cpu")
    PROCESSOR.run(
        LocalJob("bench", params, folder, video, {"tracks": tracks}, output, settings=settings)
    )
    assert frames_of(output) == FRAMES


def run_peer(folder: Path, video: Path, tracks: Path) -> None:
    boxes = json.loads(tracks.read_text(encoding="utf-8"))["tracks"][0]["frames"]
    x, lines = (boxes[0]["bbox"][0] + boxes[0]["bbox"][2]) / 2, []
    for index, box in enumerate(boxes):
        x = 0.9 * x + 0.1 * (box["bbox"][0] + box["bbox"][2]) / 2
        left = int(min(max(x - WINDOW / 2, 0), WIDTH - WINDOW)) // 2 * 2
        lines.append(f"{index / FPS:.4f} crop x {left};")
    (folder / "path.txt").write_text("\n".join(lines), encoding="utf-8")
    options = [
        part
        for key, value in encoder_options("libx264", CRF).items()
        for part in (f"-{key}", value)
    ]
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-nostdin",
            "-v",
            "error",
            "-y",
            "-i",
            video,
            "-vf",
            f"sendcmd=f={folder / 'path.txt'},crop={WINDOW}:{HEIGHT}:0:0",
            "-c:v",
            "libx264",
            *options,
            folder / "peer.mp4",
        ],
        check=True,
    )
    assert frames_of(folder / "peer.mp4") == FRAMES


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
