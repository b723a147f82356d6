"""How large the GPU benchmark's work is: `FULL` for a card, `SMALL` for the same code on a CPU
within seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Row = dict[str, Any]
"""`name`, `value`, `unit` and, where they make sense: `limit` (what the card's arithmetic would
allow), `bar` and `aim` (in the unit of the value), `lower_is_better`, `peer`, `ratio` (above 1: we
are better), `note`."""


@dataclass(frozen=True)
class Sizes:
    """Of one run."""

    device: torch.device
    width: int
    """Of the frames that are enlarged."""
    height: int
    blocks: int
    """Of RRDBNet."""
    small_blocks: int
    """Of its anime variant."""
    convs: int
    """Of the compact network of general-x4v3; animevideov3 has half."""
    swin: dict[str, int]
    """Shape of SwinIR."""
    parity_px: int
    """Edge of the frame on which formats are compared."""
    rounds: int
    """Timed repetitions; their median counts."""
    round_seconds: float
    """Least length of one repetition."""
    clip_frames: int
    """Frames of the video that is enlarged."""
    video: tuple[int, int]
    """Width and height of the video in which people are followed."""
    video_frames: int
    trackers: tuple[str, ...]
    """Detectors to follow with."""
    matrix: int
    """Edge of the matrices whose product gives the peak rate."""


FULL = Sizes(
    torch.device("cuda", 0),
    720,
    480,
    blocks=23,
    small_blocks=6,
    convs=32,
    parity_px=160,
    swin={"groups": 6, "blocks": 6, "heads": 6, "channels": 180},
    rounds=5,
    round_seconds=0.4,
    clip_frames=300,
    video=(1920, 1080),
    video_frames=900,
    trackers=("yolov8n", "yolov8x"),
    matrix=8192,
)
SMALL = Sizes(
    torch.device("cpu"),
    32,
    24,
    blocks=1,
    small_blocks=1,
    convs=2,
    parity_px=16,
    swin={"groups": 1, "blocks": 2, "heads": 2, "channels": 24},
    rounds=1,
    round_seconds=0.0,
    clip_frames=5,
    video=(320, 192),
    video_frames=6,
    trackers=("yolov8n",),
    matrix=256,
)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(work: Callable[[], object], sizes: Sizes) -> float:
    """Median over `rounds` of the mean time of a call, in rounds of `round_seconds` at least; two
    calls beforehand."""
    for _ in range(2):
        work()
    synchronize(sizes.device)
    started = time.perf_counter()
    work()
    synchronize(sizes.device)
    calls = max(1, round(sizes.round_seconds / max(1e-6, time.perf_counter() - started)))
    found: list[float] = []
    for _ in range(sizes.rounds):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(sizes.device)
        found.append((time.perf_counter() - started) / calls)
    return median(found)
