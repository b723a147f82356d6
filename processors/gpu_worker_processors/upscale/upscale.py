"""One upscale job from file to file: probe, plan, run the pipe, verify the output."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

import torch

from gpu_worker_client.protocol import UpscaleParams, UpscaleResult, UpscaleStats, WorkerInfo
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.deinterlace import WholeFrames
from gpu_worker_processors.media.encode import VideoSpec, VideoWriter
from gpu_worker_processors.media.encoders import working_encoders
from gpu_worker_processors.media.probe import MediaInfo, VideoInfo, probe, require_video
from gpu_worker_processors.media.verify import Promise, verify_output
from gpu_worker_processors.upscale.enlarge import Faces, FrameEnlarger, Network
from gpu_worker_processors.upscale.pipeline import Counts, run_pipe
from gpu_worker_processors.upscale.plan import Plan, plan_upscale

CPU_ENCODER_THREADS = 2
"""Where the network runs on the CPU too, more encoder threads take its cores from it; but when the
network is done, x264 still holds 40 frames, and one thread took 8 % of the time of a clip of 75
frames for them."""


PARALLEL_FRAMES = {"cpu": 2, "cuda": 2}
"""Frames computed side by side by type of device. On a CPU each has its share of the cores: one
frame on all cores leaves them waiting for each other whenever the encoder takes one (176x144 on two
cores, 7.7 frames/s against 9.0 with two at once). On CUDA each has its own stream: while one thread
waits to learn whether its frame is finite, the other has work on the device."""


class TiledNetwork(Network, Protocol):
    """A network that knows how it cuts frames: `models.sr.SuperResolver`."""

    def tiles_for(self, height: int, width: int) -> int: ...

    def batch_for(self, height: int, width: int) -> int: ...


class CountedFaces(Faces, Protocol):
    """Restores faces and counts them: `faces.FollowedFaces`."""

    @property
    def count(self) -> int: ...


def upscale_file(
    job: LocalJob, net: TiledNetwork, faces: CountedFaces | None = None
) -> UpscaleResult:
    """Enlarges `job`'s input into its output file.

    Raises:
        TaskError: of the input, of any stage, or `output_invalid` when the written file is not what
            it should be. No file is left behind then.
    """
    started = time.monotonic()
    info = probe(job.require_input(), job.limits)
    video = require_video(info)
    with_gpu = net.device.type == "cuda"
    suffix = job.require_output().suffix
    plan = plan_upscale(job.params, video, suffix, working_encoders(with_gpu), with_gpu=with_gpu)
    job.warnings.extend((*info.warnings, *plan.warnings))
    counts, promise = _run(job, info, plan, net, faces)
    verify_output(job.require_output(), promise)
    elapsed = time.monotonic() - started
    return UpscaleResult(
        stats=UpscaleStats(
            processing_time_sec=round(elapsed, 3),
            input_resolution=f"{video.width}x{video.height}",
            output_resolution=f"{plan.width}x{plan.height}",
            frames_processed=counts.frames,
            fps=round(counts.frames / elapsed, 3),
            denoise=plan.denoise,
            tiles=net.tiles_for(video.height, video.width),
            frames_reused=counts.reused,
            faces_enhanced=faces.count if faces else 0,
            duration=round(counts.duration_seconds(video), 3),
        ),
        worker=WorkerInfo(
            version="",  # the worker fills in its own
            device=str(net.device),
            encoder=plan.encoder.name,
            fallback_reason=plan.encoder.fallback_reason,
        ),
    )


def _run(
    job: LocalJob, info: MediaInfo, plan: Plan, net: TiledNetwork, faces: CountedFaces | None
) -> tuple[Counts, Promise]:
    params: UpscaleParams = job.params
    video = require_video(info)
    source = job.require_input()
    strength = params.denoise_strength or 0.0 if plan.denoise == "filter" else 0.0
    total = video.expected_frames
    spec = _spec(plan, video, net.device)
    frames = WholeFrames(FrameReader(source, info, limits=job.limits))
    with (
        side_by_side(net, video, faces) as parallel,
        VideoWriter(
            job.require_output(),
            spec,
            source=(source, info),
            captions=frames.captions,
            limits=job.limits,
        ) as writer,
    ):
        counts = run_pipe(
            frames,
            FrameEnlarger(plan, video, net, strength=strength, faces=faces),
            writer,
            batch=net.batch_for(video.height, video.width),
            parallel=parallel,
            reuse_identical=params.reuse_identical_frames,
            progress=lambda done: job.progress(
                "process", done, max(done, total) if total else None
            ),
        )
    job.warnings.extend((*writer.notes, *frames.warnings))
    return counts, writer.promise


@contextmanager
def side_by_side(net: TiledNetwork, video: VideoInfo, faces: object | None) -> Generator[int]:
    """How many frames to compute side by side; on a CPU torch's threads are shared out among them
    meanwhile.

    One where faces are followed from frame to frame, and for frames so large that a CPU tiles them,
    for memory's sake.
    """
    threads = torch.get_num_threads()
    on_cpu = net.device.type == "cpu"
    parallel = min(PARALLEL_FRAMES["cpu"], threads) if on_cpu else PARALLEL_FRAMES["cuda"]
    if faces is not None or (on_cpu and net.tiles_for(video.height, video.width) > 1):
        parallel = 1
    if on_cpu:
        torch.set_num_threads(threads // parallel)
    try:
        yield parallel
    finally:
        torch.set_num_threads(threads)


def _spec(plan: Plan, video: VideoInfo, device: torch.device) -> VideoSpec:
    """The stream to write: the source's clock and pixel shape, the plan's size, colours and
    encoder."""
    threads = CPU_ENCODER_THREADS if device.type == "cpu" else 0
    return VideoSpec(
        plan.width,
        plan.height,
        plan.encoder,
        plan.tags,
        video.sar,
        video.fps,
        video.time_base,
        threads,
        video.is_uneven,
    )
