"""What the tests of auto_crop's planning share: people on straight or swaying ways in an image of
1280x720 at 25 frames/s, and the plan that comes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_processors.auto_crop.candidates import SubjectTrack
from gpu_worker_processors.auto_crop.path import ShotTimeline
from gpu_worker_processors.auto_crop.plan import CropPlan, plan_crop

FRAME = (1280, 720)
FPS = 25


def track(
    track_id: int,
    x: float | NDArray[np.float64],
    frames: range | NDArray[np.int64],
    *,
    name: str = "person",
    size: tuple[float, float] = (60, 150),
    y: float = 400,
    score: float = 0.9,
) -> SubjectTrack:
    middle = np.broadcast_to(np.asarray(x, float), (len(frames),))
    boxes = np.stack([middle - size[0] / 2, np.full(len(frames), y - size[1] / 2)], 1)
    boxes = np.concatenate([boxes, boxes + size], 1).astype(np.float32)
    return SubjectTrack(
        track_id, name, np.array(frames), boxes, np.full(len(frames), score, np.float32)
    )


def timeline(frames: int, *cuts: int) -> ShotTimeline:
    return ShotTimeline(np.arange(frames) / FPS, np.array([0, *cuts], np.int64))


def plan(tracks: list[SubjectTrack], frames: int, *cuts: int, **params: object) -> CropPlan:
    return plan_crop(tracks, timeline(frames, *cuts), FRAME, AutoCropParams(**params))  # type: ignore[arg-type]


def layouts(found: CropPlan) -> tuple[str, ...]:
    return tuple(segment.layout for segment in found.segments)


def inside(found: CropPlan, one: SubjectTrack, frames: slice = slice(None)) -> NDArray[np.bool_]:
    windows = found.path.windows[one.frames][frames]
    boxes = one.boxes[frames]
    return (boxes[:, 0] >= windows[:, 0] - 0.01) & (
        boxes[:, 2] <= windows[:, 0] + windows[:, 2] + 0.01
    )


def swaying(center: float, width: float, period: float, frames: range) -> NDArray[np.float64]:
    return center + width * np.sin(2 * np.pi * np.array(frames) / FPS / period)
