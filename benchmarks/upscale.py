"""The upscale task from file to file against a RealESRGANer loop with the same weights, and its
memory on a long video.

The peer is what the original's video script does per frame: decode to BGR, `RealESRGANer.enhance`,
encode with libx264. It gets in-process PyAV instead of the script's two ffmpeg pipes, and our
preset and quality, so what differs is the work between.
"""

from __future__ import annotations

import os

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # what the engine sets; torch reads it once, at its import

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import skimage.data
from needed_weights import FOLDER, STORE, skipped
from reference import load_reference

from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.models.tensors import load_state_dict
from gpu_worker_processors.upscale.processor import PROCESSOR

MODEL = "realesr-animevideov3"


@dataclass(frozen=True)
class Case:
    """A network of the compact layout and a size of video."""

    model: str
    features: int
    convs: int
    width: int
    height: int


CASES = (Case(MODEL, 64, 16, 176, 144), Case("lite", 32, 10, 320, 180))
FRAMES = 75
ROUNDS = 2
"""Peer and we take turns; the fastest round of each counts."""
LONG_SECONDS, SHORT_SECONDS = 120, 10
TINY_PX = 32
"""Edge of the memory clip: what must not grow is what depends on the length."""


def rows() -> list[dict[str, Any]]:
    return [*map(speed_row, CASES), memory_row()]


def speed_row(case: Case) -> dict[str, Any]:
    title = f"upscale, file to file, {case.model}, {case.width}x{case.height} x4"
    if not STORE.present(case.model):
        return skipped(title, case.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder / "in.mp4", case.width, case.height, FRAMES)
        peer = peer_network(case, folder)
        job = make_job(clip, folder / "ours.mp4", case.model)
        PROCESSOR.prepare(job)
        run_peer(
            make_clip(folder / "warm.mp4", case.width, case.height, 3), folder / "peer.mp4", peer
        )
        peer_seconds: list[float] = []
        our_seconds: list[float] = []
        for _ in range(ROUNDS):
            peer_seconds.append(timed(run_peer, clip, folder / "peer.mp4", peer))
            our_seconds.append(timed(PROCESSOR.run, job))
        assert count(folder / "peer.mp4") == count(folder / "ours.mp4") == FRAMES
    ours, theirs = FRAMES / min(our_seconds), FRAMES / min(peer_seconds)
    return {
        "name": title,
        "ours": ours,
        "peer": theirs,
        "ratio": ours / theirs,
        "unit": "frames/s",
        "note": "RealESRGANer loop with the same weights, fp32, and the same libx264 settings",
        "work": {
            "task": "upscale",
            "model": case.model,
            "width": case.width,
            "height": case.height,
            "frames": FRAMES,
            "seconds": min(our_seconds),
        },
    }


def memory_row() -> dict[str, Any]:
    """Each length in a process of its own, since a peak never falls."""
    title = f"upscale, growth of peak RSS from {SHORT_SECONDS} s to {LONG_SECONDS} s of video"
    if not STORE.present(MODEL):
        return skipped(title, MODEL)
    peaks = {seconds: peak_rss_mb(seconds) for seconds in (SHORT_SECONDS, LONG_SECONDS)}
    growth = peaks[LONG_SECONDS] / peaks[SHORT_SECONDS] - 1
    return {
        "name": title,
        "ours": 100 * growth,
        "unit": "%",
        "peak_rss_mb": peaks[LONG_SECONDS],
        "note": (
            f"{peaks[SHORT_SECONDS]:.0f} MB -> {peaks[LONG_SECONDS]:.0f} MB at {TINY_PX}x{TINY_PX}"
        ),
    }


def peak_rss_mb(seconds: int) -> float:
    output = subprocess.run(
        [sys.executable, __file__, str(seconds)], check=True, capture_output=True, text=True
    ).stdout
    return json.loads(output)["peak_rss_mb"]


def upscale_once(seconds: int) -> float:
    """Upscales a clip of that length in this process and answers the process's peak in MB.

    From /proc: `ru_maxrss` also counts what the parent had when it started this process."""
    with tempfile.TemporaryDirectory() as name:
        clip = make_clip(Path(name) / "in.mp4", TINY_PX, TINY_PX, 25 * seconds)
        result = PROCESSOR.run(make_job(clip, Path(name) / "out.mp4"))
        assert result.stats.frames_processed == 25 * seconds
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        / 1024
    )


def make_job(source: Path, output: Path, model: str = MODEL) -> LocalJob:
    settings = ProcessorSettings(Path(FOLDER), "cpu")
    return LocalJob(
        "bench",
        UpscaleParams(model=model),
        output.parent,
        source,
        output_path=output,
        settings=settings,
    )


def make_clip(path: Path, width: int, height: int, frames: int) -> Path:
    """A slow pan over a photograph, so that no two frames are equal."""
    photo = cv2.resize(
        skimage.data.astronaut(), (width * 2, height * 2), interpolation=cv2.INTER_AREA
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "veryfast", "crf": "12"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            x, y = abs(index % (2 * width) - width), index // 2 % height
            pixels = np.ascontiguousarray(photo[y : y + height, x : x + width])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def peer_network(case: Case, folder: Path) -> Any:
    import torch

    reference = load_reference()
    weights = folder / "weights.pth"
    torch.save({"params": load_state_dict(STORE.resolve(case.model))}, weights)
    shape = {"num_feat": case.features, "num_conv": case.convs, "upscale": 4, "act_type": "prelu"}
    net = reference.SRVGGNetCompact(num_in_ch=3, num_out_ch=3, **shape)
    return reference.RealESRGANer(
        scale=4, model_path=str(weights), model=net, half=False, device=torch.device("cpu")
    )


def run_peer(source: Path, output: Path, network: Any) -> None:
    options = {"preset": "medium", "crf": "18"}
    with av.open(str(source)) as reader, av.open(str(output), "w") as writer:
        stream = writer.add_stream("libx264", rate=25, options=options)
        size = reader.streams.video[0]
        stream.width, stream.height, stream.pix_fmt = size.width * 4, size.height * 4, "yuv420p"
        for frame in reader.decode(video=0):
            large, _ = network.enhance(frame.to_ndarray(format="bgr24"), outscale=4)
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="bgr24")))
        writer.mux(stream.encode(None))


def timed(work: Any, *args: Any) -> float:
    started = time.perf_counter()
    work(*args)
    return time.perf_counter() - started


def count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


if __name__ == "__main__":
    print(json.dumps({"peak_rss_mb": upscale_once(int(sys.argv[1]))}))
