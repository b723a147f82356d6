"""Whole tasks on a GPU, from file to file or result: does only the slowest stage show, and how far
ahead of the peer are we?"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from gpu_nets import Net, enlarge_all, enlarger, folder_with
from gpu_sizes import Row, Sizes, synchronize
from support.tiny_weights import compact
from torch import Tensor
from track import make_video, random_weights, real_weights, run_peer, settings
from upscale import count, make_clip

from gpu_worker_client.protocol import TrackParams, UpscaleParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.media.color import BT709, ColorTags
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.encode import VideoSpec, VideoWriter
from gpu_worker_processors.media.encoders import choose_encoder, working_encoders
from gpu_worker_processors.media.frame import Frame, Plane, PlaneReader
from gpu_worker_processors.media.probe import probe
from gpu_worker_processors.models.sr.loader import load
from gpu_worker_processors.track.processor import PROCESSOR as TRACK
from gpu_worker_processors.upscale.processor import PROCESSOR as UPSCALE

MODEL = "realesr-general-x4v3"
TRACK_BARS = {"yolov8n": (3.0, 1.5), "yolov8x": (6.0, 4.0)}
"""Seconds for 900 frames of 1080p on an H200: bar, aim."""
STAGE_SHARE = 0.9
"""Of the slowest stage's own speed that the whole has to reach."""


def upscale_rows(sizes: Sizes) -> Iterator[Row]:
    """Decoder, network and encoder each by itself, and the whole task, which should be as fast as
    the slowest of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder / "in.mp4", sizes.width, sizes.height, sizes.clip_frames)
        weights = folder_with(
            Net(MODEL, "srvgg_compact", lambda: _quiet(compact(sizes.convs))), folder / "weights"
        )
        job_settings = settings(weights.folder, str(sizes.device))
        job = LocalJob(
            "bench",
            UpscaleParams(model=MODEL),
            folder,
            clip,
            output_path=folder / "o.mp4",
            settings=job_settings,
        )
        UPSCALE.prepare(job)
        UPSCALE.run(job)  # of the two the first chooses kernels and encoder
        whole = sizes.clip_frames / _seconds(lambda: UPSCALE.run(job), sizes)
        assert count(folder / "o.mp4") == sizes.clip_frames
        stages = _stages(clip, folder / "stage.mp4", weights, sizes)
    slowest = min(stages, key=lambda stage: stages[stage])
    by_stage = ", ".join(f"{stage} {fps:.0f}" for stage, fps in stages.items())
    yield {
        "name": f"upscale, file to file, {MODEL}, {sizes.width}x{sizes.height} x4",
        "value": whole,
        "unit": "frames/s",
        "limit": stages[slowest],
        "bar": STAGE_SHARE * stages[slowest],
        "note": f"alone: {by_stage} frames/s; {100 * whole / stages[slowest]:.0f} % of {slowest}",
    }


def _quiet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random weights whose output is the enlarged source and not noise, which no encoder is made
    for."""
    last = max(
        (key for key in state if key.endswith(".bias")), key=lambda key: int(key.split(".")[1])
    )
    return state | {key: state[key] * 0.02 for key in (last, last.replace("bias", "weight"))}


def _stages(clip: Path, output: Path, weights: Any, sizes: Sizes) -> dict[str, float]:
    """Frames per second of each stage while the other two do not run."""
    frames: list[Frame] = []

    def decode() -> None:
        frames.clear()
        read = PlaneReader()
        frames.extend(read(item.frame) for item in FrameReader(clip, probe(clip)))

    decoding = _seconds(decode, sizes)
    resolver = load(MODEL, store=weights.store(), device=sizes.device)
    enlarge_all(resolver, frames, sizes)
    computing = _seconds(lambda: enlarge_all(resolver, frames, sizes), sizes)
    few = [planes.samples() for planes in enlarger(resolver, sizes)(frames[:4])]
    encoding = _seconds(lambda: _encode(output, few, sizes), sizes)
    return {
        stage: sizes.clip_frames / seconds
        for stage, seconds in (("decoder", decoding), ("network", computing), ("encoder", encoding))
    }


def _encode(path: Path, frames: list[list[Plane]], sizes: Sizes) -> None:
    """As many frames as the video has, there and back through a few that move."""
    width, height, with_gpu = 4 * sizes.width, 4 * sizes.height, sizes.device.type == "cuda"
    encoder = choose_encoder("h264", width, height, working_encoders(with_gpu), with_gpu=with_gpu)
    tags = ColorTags(BT709, 1, 1, full_range=False)
    threads = 0 if with_gpu else 1
    spec = VideoSpec(
        width, height, encoder, tags, Fraction(1), Fraction(25), Fraction(1, 25), threads
    )
    there_and_back = [*frames, *frames[-2:0:-1]]
    with VideoWriter(path, spec) as writer:
        for index in range(sizes.clip_frames):
            writer.write(there_and_back[index % len(there_and_back)], index, 1)


def decode_rows(sizes: Sizes) -> Iterator[Row]:
    """FFmpeg on the cores beside the card's decoder, both through PyAV into host memory; every
    sample has to be the same."""
    with tempfile.TemporaryDirectory() as name:
        video = make_video(Path(name) / "video.mp4", min(sizes.video_frames, 300), *sizes.video)
        seconds: dict[str, float] = {}
        digests: dict[str, str] = {}
        for kind in ("software", "nvdec") if sizes.device.type == "cuda" else ("software",):
            accelerator = (
                HWAccel("cuda", allow_software_fallback=False) if kind == "nvdec" else None
            )
            seconds[kind] = _seconds(lambda: _decoded(video, accelerator), sizes)  # noqa: B023
            digests[kind] = _digest(video, accelerator)
        frames = min(sizes.video_frames, 300)
        for kind, taken in seconds.items():
            same = (
                "the same samples"
                if digests[kind] == digests["software"]
                else "OTHER SAMPLES than software"
            )
            yield {
                "name": f"decode, {sizes.video[0]}x{sizes.video[1]} H.264, {kind}",
                "value": frames / taken,
                "unit": "frames/s",
                "note": same,
            }


def _decoded(video: Path, accelerator: HWAccel | None) -> int:
    with av.open(str(video), hwaccel=accelerator) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def _digest(video: Path, accelerator: HWAccel | None) -> str:
    """Of every sample of the first frames, chroma in planes of their own: hardware gives them
    interleaved."""
    read, digest = PlaneReader(), hashlib.sha256()
    with av.open(str(video), hwaccel=accelerator) as container:
        for frame in islice(container.decode(video=0), 30):
            for plane in read(frame).planes:
                digest.update(plane.tobytes())
    return digest.hexdigest()


def track_rows(sizes: Sizes) -> Iterator[Row]:
    """The task and `YOLO.track(stream=True, half=True)` on the same video, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = make_video(folder / "video.mp4", sizes.video_frames, *sizes.video)
        warm = make_video(folder / "warm.mp4", 20, *sizes.video)
        for model in sizes.trackers:
            yield _track_row(model, video, warm, folder / model, sizes)


def _track_row(model: str, video: Path, warm: Path, folder: Path, sizes: Sizes) -> Row:
    from ultralytics import YOLO

    folder.mkdir()
    weights = real_weights(model) or random_weights(folder, model)
    device = str(sizes.device)
    peer = YOLO(str(weights), task="detect")

    def job(source: Path) -> LocalJob:
        return LocalJob(
            "bench",
            TrackParams(model=model),
            folder,
            source,
            settings=settings(weights.parent, device),
        )

    TRACK.prepare(job(video))
    TRACK.run(job(warm))
    run_peer(peer, warm, device)
    theirs = _seconds(lambda: run_peer(peer, video, device), sizes)
    ours = min(_seconds(lambda: TRACK.run(job(video)), sizes) for _ in range(2))
    decoding = _seconds(lambda: sum(1 for _ in FrameReader(video, probe(video))), sizes)
    bar, aim = TRACK_BARS[model]
    kind = "real" if weights.parent != folder / "weights" else "random"
    return {
        "name": f"track, {model}, {sizes.video_frames} frames {sizes.video[0]}x{sizes.video[1]}",
        "value": ours,
        "unit": "s",
        "lower_is_better": True,
        "limit": decoding,
        "bar": bar,
        "aim": aim,
        "peer": theirs,
        "ratio": theirs / ours,
        "bar_ratio": 4.0,
        "note": f"{kind} weights; limit: decoding alone",
    }


def _seconds(work: Callable[[], object], sizes: Sizes) -> float:
    started = time.perf_counter()
    work()
    synchronize(sizes.device)
    return time.perf_counter() - started
