"""detect_scenes: where one shot ends and the next begins, with times from the stream's own
timestamps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from gpu_worker_client.protocol.base import AnsweredBy, Many, ResponseModel
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import InputTask, OnDamage, RequestModel

DEFAULT_THRESHOLD = 30.0
"""One below the best single setting of ContentDetector over three public test sets, as
PySceneDetect's benchmark has it."""


class DetectScenesParams(RequestModel):
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0, le=255)
    """What makes a cut; lower gives more scenes. `content`: mean difference of hue, saturation and
    value between neighbouring frames, 0 to 255; 30 suits most material, 25 finds more in dark or
    low-contrast video. `adaptive`: how many times larger than around it that difference must be.
    `hash`: share of differing bits of a perceptual hash, 0 to 1. With `adaptive` and `hash` the
    default stands for the detector's own default, 3.0 and 0.35."""
    min_scene_length: float = Field(default=1.0, ge=0, le=3600)
    """Seconds. With `content`, a cut that comes sooner than this after any cut before it, or after
    the start, makes no scene of its own: a run of quick cuts is one scene, and a trailer with a cut
    every 0.8 s a single one, with the warning `quick_cuts`. With `adaptive` and `hash` it is
    counted from the last cut that made a scene. Only the last scene can be shorter. 0 keeps every
    cut."""
    detector: Literal["content", "adaptive", "hash"] = "content"
    """PySceneDetect's detector of that name. `content` finds hard cuts; `adaptive` compares with
    the neighbourhood, so a fast pan or a shaking camera makes fewer false cuts; `hash` compares
    structure and disregards changes of colour and light."""
    on_damage: OnDamage = "fail"

    def _problems(self) -> Iterator[str]:
        if self.detector == "hash" and 1 < self.threshold != DEFAULT_THRESHOLD:
            share = "the share of differing hash bits: between 0 and 1"
            yield f"with detector hash, threshold is {share}"


class Scene(ResponseModel):
    start_frame: int
    """0-based, display order."""
    end_frame: int
    """Last frame of the scene, inclusive."""
    start_time: float
    """Seconds from the first frame, from its timestamp."""
    end_time: float
    """Time of the last frame, seconds: one frame before the next scene's `start_time`."""


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
    scenes: Many[Scene] = []
    """In order, without gaps: the first starts at frame 0, the last ends at the last frame. An
    answer over the inline limit has `scenes_count` instead, and its whole result is at
    `result_url`."""
    stats: DetectScenesStats


class DetectScenesTask(InputTask, AnsweredBy[DetectScenesResult]):
    task: Literal["detect_scenes"] = "detect_scenes"
    params: DetectScenesParams = DetectScenesParams.model_construct()
