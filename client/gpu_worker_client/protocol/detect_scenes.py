"""detect_scenes: where one shot ends and the next begins, with times from the stream's own timestamps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpu_worker_client.protocol.envelope import InputTask, Stats, TaskResult
from gpu_worker_client.protocol.models import AnsweredBy, Reply, Wire


class DetectScenesParams(Wire):
    threshold: float = Field(default=30, gt=0, le=255)
    """Content difference that makes a cut, lower gives more scenes. With `adaptive` the ratio threshold and with `hash` the
    Hamming distance keep the detector's own defaults unless `threshold` is given."""
    min_scene_length: float = Field(default=1.0, ge=0, le=3600)
    """Seconds. A shorter scene is merged into its neighbour."""
    detector: Literal["content", "adaptive", "hash"] = "content"
    """PySceneDetect's detector of that name."""


class Scene(Reply):
    start_frame: int
    """0-based, display order."""
    end_frame: int
    """Last frame of the scene, inclusive."""
    start_time: float
    """Seconds from the first frame, from its timestamp."""
    end_time: float
    """Time of the last frame, seconds."""


class DetectScenesStats(Stats):
    total_scenes: int
    """Length of `scenes`."""
    avg_scene_length: float
    """Seconds, counting each scene to the start of the next."""
    total_frames: int = 0
    """Frames decoded."""
    duration: float = 0.0
    """Seconds, from the first frame to the end of the last."""
    is_vfr: bool = False
    """The frames are not evenly spaced in time."""


class DetectScenesResult(TaskResult):
    task: Literal["detect_scenes"] = "detect_scenes"
    scenes: list[Scene] = []
    """In order, without gaps. Left out, with `scenes_count` in its place, of an answer over the inline limit: the whole result
    is then at `result_url`."""
    """In order, without gaps: the first starts at frame 0, the last ends at the last frame."""
    stats: DetectScenesStats


class DetectScenesTask(InputTask, AnsweredBy[DetectScenesResult]):
    task: Literal["detect_scenes"] = "detect_scenes"
    params: DetectScenesParams = DetectScenesParams()
