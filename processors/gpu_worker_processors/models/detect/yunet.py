"""Faces of one frame with five landmarks each, found by YuNet through OpenCV's `FaceDetectorYN`.

Runs on the CPU in a few milliseconds at `MAX_EDGE_PX`. Larger frames are searched at that size, so
a face of up to the whole frame stays within what YuNet was trained for (10 to 300 px); smaller
frames are searched as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.weights import FACE_DETECTOR, WeightFile, WeightStore

MAX_EDGE_PX = 640
"""Longest edge that is searched: the largest size YuNet's authors evaluate (WIDER Face), and 300 of
it is a large face."""
MIN_SCORE = 0.7
"""opencv_zoo's demo asks for 0.9; a face once found is followed, so the first sight may be a little
less sure."""
_NMS_IOU = 0.3
_MOST_FACES = 32
"""The best scored; each costs a whole restoration."""


@dataclass(frozen=True)
class Face:
    """One face of one frame."""

    box: tuple[float, float, float, float]
    """(x1, y1, x2, y2) in pixels of the frame, may reach over its border."""
    landmarks: NDArray[np.float64]
    """Shape (5, 2), x and y in pixels, 0 is the centre of the first pixel: the eyes, the nose's
    tip, the corners of the mouth; of each pair the one further left in the frame first."""
    score: float
    """0..1."""


class FaceDetector(Protocol):
    """What finds faces."""

    def detect(self, rgb: NDArray[np.uint8]) -> list[Face]:
        """Faces of a frame of shape (height, width, 3), best first."""
        ...


class YuNet:
    """The detector of `face_detection_yunet_2023mar.onnx`.

    Raises:
        TaskError: `weights_rejected` when OpenCV cannot read the file.
    """

    def __init__(self, file: WeightFile) -> None:
        try:
            self._net = cv2.FaceDetectorYN.create(
                str(file.path), "", (MAX_EDGE_PX, MAX_EDGE_PX), MIN_SCORE, _NMS_IOU, 5000
            )
        except cv2.error:
            raise TaskError(
                ErrorCode.weights_rejected,
                f"{file.spec.file} is no face detector that OpenCV can read",
                name=file.spec.name,
                reason="state_dict_mismatch",
            ) from None

    @classmethod
    def load(cls, store: WeightStore) -> YuNet:
        """The detector with the weights that the manifest pins."""
        return cls(store.resolve(FACE_DETECTOR))

    def detect(self, rgb: NDArray[np.uint8]) -> list[Face]:
        """See `FaceDetector`."""
        height, width = rgb.shape[:2]
        shrink = min(1.0, MAX_EDGE_PX / max(height, width))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if shrink < 1 else rgb
        self._net.setInputSize(size)
        # None when there is no face, whatever OpenCV's stubs say.
        rows: NDArray[np.float32] | None = cast(
            Any, self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        )
        if rows is None:
            return []
        factors = np.array([width / size[0], height / size[1]])
        return [_face(row.astype(np.float64), factors) for row in rows[:_MOST_FACES]]


def _face(row: NDArray[np.float64], factors: NDArray[np.float64]) -> Face:
    """A row of FaceDetectorYN (x, y, w, h, five landmarks, score) in pixels of the full frame."""
    x1, y1, x2, y2 = (np.array([row[:2], row[:2] + row[2:4]]) * factors).ravel()
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * factors - 0.5
    return Face((float(x1), float(y1), float(x2), float(y2)), landmarks, float(row[14]))
