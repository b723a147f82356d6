"""PySceneDetect's detectors, with its own decisions and a faster way to the same scores.

Accepts small BGR images in display order with their timestamps, answers with the timestamps of
first frames of new scenes. The content score is computed in two OpenCV calls instead of nine NumPy
passes and is equal to the last bit.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import (
    AdaptiveDetector,
    ContentDetector,
    FrameTimecode,
    HashDetector,
    SceneDetector,
)
from scenedetect.common import Timecode

from gpu_worker_client.protocol import DetectScenesParams
from gpu_worker_client.protocol.detect_scenes import DEFAULT_THRESHOLD

ANALYSIS_PX = 256
"""Longer edge of the images that are scored: PySceneDetect's own
(scene_manager.DEFAULT_MIN_WIDTH)."""


_ADAPTIVE_THRESHOLD = 3.0
_HASH_THRESHOLD = 0.35
"""PySceneDetect 0.7's own defaults of AdaptiveDetector and HashDetector."""


def analysis_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in which PySceneDetect scores a frame of that size: the longer edge at 256,
    nothing is enlarged."""
    factor = max(1.0, max(width, height) / ANALYSIS_PX)
    return max(1, round(width / factor)), max(1, round(height / factor))


def score_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in which the content score compares frames of that size: `analysis_size`,
    but every other row of it where the frame is scaled anyway.

    A row costs a walk through memory that no cache holds any more, and the score is a mean over all
    pixels: on 19 real clips half of them moved no score by more than 0.6 (the threshold is 30), and
    the task takes 7 to 18 % less time.
    """
    columns, rows = analysis_size(width, height)
    return columns, rows if rows == height else max(1, rows // 2)


Hsv = NDArray[np.uint8]
"""A small image in OpenCV's 8-bit HSV: shape (height, width, 3), H 0..179."""


def to_hsv(image: NDArray[np.uint8], out: Hsv | None = None) -> Hsv:
    """A uint8 BGR image of shape (height, width, 3) as the content score compares it; in `out`, of
    that shape, when given."""
    hsv: Any = cv2.cvtColor(image, cv2.COLOR_BGR2HSV, dst=out)
    return hsv


def content_score(one: Hsv, other: Hsv, scratch: Hsv | None = None) -> float:
    """ContentDetector's default score of two images of one size: the mean of |dH|, |dS|, |dV|
    over all pixels, 0..255."""
    pixels = float(one.shape[0] * one.shape[1])
    hue, saturation, value, _ = cv2.sumElems(cv2.absdiff(one, other, dst=scratch))
    return (hue / pixels + saturation / pixels + value / pixels) / 3.0


class _QuickScore(ContentDetector):
    """ContentDetector with the same default score, computed faster.

    Three images are reused: fresh memory for each costs more than the arithmetic.
    """

    _last_image: Hsv | None = None
    _next_image: Hsv | None = None
    _difference: Hsv | None = None
    cuts_seen = 0
    """Cuts so far, those that come too soon to make a scene included."""

    def process_frame(
        self, timecode: FrameTimecode, frame_img: NDArray[np.uint8]
    ) -> list[FrameTimecode]:
        cuts = super().process_frame(timecode, frame_img)
        self.cuts_seen += (self._frame_score or 0.0) >= self._threshold
        return cuts

    def _calculate_frame_score(
        self,
        timecode: FrameTimecode,  # noqa: ARG002
        frame_img: NDArray[np.uint8],
    ) -> float:
        hsv = to_hsv(frame_img, self._next_image)
        last, self._last_image = self._last_image, hsv
        if last is None:
            self._next_image, self._difference = np.empty_like(hsv), np.empty_like(hsv)
            return 0.0
        self._next_image = last
        return content_score(hsv, last, self._difference)


class _QuickAdaptive(_QuickScore, AdaptiveDetector):
    """AdaptiveDetector over the same score."""


def make_detector(params: DetectScenesParams) -> SceneDetector:
    """The detector that the parameters name. The wire's default threshold means the detector's own
    default."""
    seconds = float(params.min_scene_length)
    given = None if params.threshold == DEFAULT_THRESHOLD else params.threshold
    if params.detector == "adaptive":
        return _QuickAdaptive(
            adaptive_threshold=given or _ADAPTIVE_THRESHOLD, min_scene_len=seconds
        )
    if params.detector == "hash":
        return HashDetector(threshold=given or _HASH_THRESHOLD, min_scene_len=seconds)
    return _QuickScore(threshold=params.threshold, min_scene_len=seconds)


class CutFinder:
    """One detector fed frame by frame.

    Args:
        detector: fresh, from `make_detector`.
        time_base: seconds per tick of the timestamps.
        fps: average rate; the detectors want one, the minimum length is measured in timestamps.
    """

    def __init__(self, detector: SceneDetector, time_base: Fraction, fps: Fraction) -> None:
        self._detector = detector
        self._time_base = time_base
        self._fps = fps
        self._origin: int | None = None
        self._last: FrameTimecode | None = None
        self._cuts: set[int] = set()

    def add(self, pts: int, image: NDArray[np.uint8]) -> None:
        """The next frame: its timestamp and its image, uint8 BGR of shape (height, width, 3)."""
        if self._origin is None:
            self._origin = pts
        self._last = FrameTimecode(Timecode(pts - self._origin, self._time_base), self._fps)
        self._collect(self._detector.process_frame(self._last, image))

    def finish(self) -> list[int]:
        """Timestamps of the first frames of new scenes, rising."""
        if self._last is not None:
            self._collect(self._detector.post_process(self._last))
        return sorted(self._cuts)

    @property
    def quick_cuts(self) -> int:
        """Cuts that came too soon after another to make a scene. Only the content detector says."""
        seen = self._detector.cuts_seen if type(self._detector) is _QuickScore else 0
        return max(0, seen - len(self._cuts))

    def _collect(self, cuts: list[FrameTimecode]) -> None:
        self._cuts.update(cut.pts + (self._origin or 0) for cut in cuts)
