"""OpenCV's person detector: histograms of oriented gradients and a linear SVM (Dalal and Triggs,
CVPR 2005). Needs no weights.

Finds upright people of at least 96 px in the image, far less reliably than a network. Runs on the
CPU, whatever the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors.base import SCORE_FLOOR, RgbImage
from gpu_worker_processors.track.detectors.candidates import detections, suppressed
from gpu_worker_processors.track.detectors.classes import chosen_classes
from gpu_worker_processors.track.detectors.letterbox import FrameScaler, Letterbox

EDGE_PX = 960
"""Longer edge of the image that is searched; small frames are enlarged. Of the people of PETS2009
S2L1 at 480x360, 45 px high, none was found at 480 px, 51 of 55 at 960 and 50 at 1280. A frame of
960x540 takes 0.18 s."""
_WINDOW = (64, 128)
"""Of the SVM that OpenCV ships, width and height in pixels."""
_PERSON = (16, 16, 48, 112)
"""The person inside the window: it was trained on people of 96 px with 16 px around them."""
_STRIDE = (8, 8)
_SCALE = 1.05
"""Between two sizes of the search: OpenCV's default."""


class HogDetector:
    """See `base.Detector`. `dtype` is that of OpenCV's arithmetic."""

    device = "cpu"
    dtype = "float32"
    batch = 1

    def __init__(self, classes: Sequence[str], iou_threshold: float) -> None:
        chosen_classes(classes, ("person",), "hog")
        self.class_names: tuple[str, ...] = ("person",)
        self._iou_threshold = iou_threshold
        if not hasattr(cv2, "HOGDescriptor"):
            raise TaskError(
                ErrorCode.unsupported_task,
                f"hog needs OpenCV 4, and {cv2.__version__} is installed, most likely by another"
                " package than this one: pip install --force-reinstall --no-deps"
                ' "opencv-python-headless<5"',
            )
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())  # pyright: ignore
        self._box: Letterbox | None = None

    def scaler(self, video: VideoInfo) -> FrameScaler:
        """See `base.Detector`."""
        self._box = Letterbox.borderless(video.width, video.height, EDGE_PX)
        return FrameScaler(video, self._box)

    def __call__(self, images: Sequence[RgbImage]) -> list[Detections]:
        """See `base.Detector`."""
        assert self._box is not None, "`scaler` comes first"
        return [self._detect(image, self._box) for image in images]

    def _detect(self, image: RgbImage, box: Letterbox) -> Detections:
        if image.shape[1] < _WINDOW[0] or image.shape[0] < _WINDOW[1]:
            return Detections.none()
        found, weights = self._windows(image)
        scores = hog_scores(weights)
        sure = scores > SCORE_FLOOR
        boxes, scores = torch.from_numpy(found[sure]), torch.from_numpy(scores[sure])
        classes = torch.zeros(len(scores), dtype=torch.long)
        keep = suppressed(boxes, scores, classes, self._iou_threshold)
        return detections(boxes[keep], scores[keep], classes[keep], box)

    def _windows(self, image: RgbImage) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, 4) boxes around the persons in the windows that the SVM accepts, (n,) distances from
        its plane."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        windows, weights = self._hog.detectMultiScale(bgr, 0.0, _STRIDE, (0, 0), _SCALE, 0.0)
        if not len(windows):
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        found = np.asarray(windows, np.float32)
        corner, size = found[:, None, :2], found[:, None, 2:]
        inner = np.array(_PERSON, np.float32).reshape(1, 2, 2) / np.array(_WINDOW, np.float32)
        boxes = (corner + inner * size).reshape(-1, 4).astype(np.float32)
        return boxes, np.asarray(weights, np.float32).ravel()


def hog_scores(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances from the SVM's plane, 0 and more, as scores of 0..1: 1 - exp(-weight). Rising
    without bound towards 1, 0 on the plane itself; a distance of 0.7 becomes 0.5. It orders boxes
    and is no probability."""
    return -np.expm1(-weights)
