"""YOLOX (arXiv 2107.08430, Apache-2.0) from a self-contained ONNX file with the raw head output,
run by OpenCV on the CPU.

Decoding is written from the paper: the anchor-free head answers, for each cell of three grids, an
offset from the cell's corner and the logarithm of a size, both in cells, and logits of being an
object and of each class. What a file wants to see and how it lays out its output differ between
exports; `ARCHES` names those that are read. OpenCV's engine is already a dependency; onnxruntime
took a sixth less time for the nano model on two cores, not enough to ask for another package.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.models.tensors import reject
from gpu_worker_processors.models.weights import WeightFile
from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors.base import SCORE_FLOOR, RgbImage
from gpu_worker_processors.track.detectors.candidates import detections, suppressed
from gpu_worker_processors.track.detectors.classes import COCO_NAMES, chosen_classes
from gpu_worker_processors.track.detectors.letterbox import FrameScaler, Letterbox

EDGE_PX = 640
"""Of the square image the file was exported for."""
ARCHES = ("yolox_nano_640",)
"""Values of `arch` in the manifest. "yolox_nano_640": input RGB normalised like ImageNet, as YOLOX
was trained before 0.1.1; output declared [1, 8400, 85] but laid out level by level as [85, height,
width]."""
STRIDES = (8, 16, 32)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
_SPREAD = np.array([0.229, 0.224, 0.225], np.float32) * 255
"""Of ImageNet's red, green and blue, in code values."""
_ANCHORS = sum((EDGE_PX // stride) ** 2 for stride in STRIDES)
_BOX = 4
_VALUES = _BOX + 1 + len(COCO_NAMES)

_warm: dict[str, cv2.dnn.Net] = {}
"""By digest of the file: one network of a few megabytes."""


class YoloxDetector:
    """See `base.Detector`. The exported file has a batch of one."""

    device = "cpu"
    dtype = "float32"
    batch = 1

    def __init__(self, file: WeightFile, classes: Sequence[str], iou_threshold: float) -> None:
        self._wanted = np.array(chosen_classes(classes, COCO_NAMES, file.spec.name))
        self.class_names = tuple(COCO_NAMES[number] for number in self._wanted)
        self._iou_threshold = iou_threshold
        self._file = file
        self._net = _network(file)
        self._grid = _grid()
        self._box: Letterbox | None = None

    def scaler(self, video: VideoInfo) -> FrameScaler:
        """See `base.Detector`."""
        self._box = Letterbox.corner(video.width, video.height, EDGE_PX)
        return FrameScaler(video, self._box)

    def __call__(self, images: Sequence[RgbImage]) -> list[Detections]:
        """See `base.Detector`."""
        assert self._box is not None, "`scaler` comes first"
        return [self._detect(self._raw(image), self._box) for image in images]

    def _raw(self, image: RgbImage) -> NDArray[np.float32]:
        """The head's output, float32 (anchors, 85)."""
        blob = np.ascontiguousarray(((image - _MEAN) / _SPREAD).transpose(2, 0, 1)[None])
        self._net.setInput(blob)
        raw = np.asarray(self._net.forward(), np.float32)
        if raw.shape != (1, _ANCHORS, _VALUES):
            raise reject(
                self._file, "state_dict_mismatch", f"does not answer {_ANCHORS} x {_VALUES} values"
            )
        if not np.isfinite(raw).all():
            raise TaskError(
                ErrorCode.nan_output,
                "the detector answered NaN or infinity; its weights are damaged",
            )
        return by_anchor(raw)

    def _detect(self, raw: NDArray[np.float32], box: Letterbox) -> Detections:
        best = raw[:, _BOX + 1 :].argmax(1)
        number_of = np.full(len(COCO_NAMES), -1)
        number_of[self._wanted] = np.arange(len(self._wanted))
        # An anchor stands only for its best class; when that is not wanted, it is no candidate.
        logits = raw[np.arange(len(raw)), _BOX + 1 + best]
        scores = _sigmoid(raw[:, _BOX]) * _sigmoid(logits)
        chosen = (scores > SCORE_FLOOR) & (number_of[best] >= 0)
        boxes = torch.from_numpy(decoded(raw[chosen, :_BOX], self._grid[chosen]))
        scores, classes = (
            torch.from_numpy(scores[chosen]),
            torch.from_numpy(number_of[best[chosen]]),
        )
        keep = suppressed(boxes, scores, classes, self._iou_threshold)
        return detections(boxes[keep], scores[keep], classes[keep], box)


def load_yolox(file: WeightFile, classes: Sequence[str], iou_threshold: float) -> YoloxDetector:
    """A detector around the warm network of a verified file."""
    return YoloxDetector(file, classes, iou_threshold)


def by_anchor(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """The levels of the output, each float32 [85, height, width], as rows of 85 values for every
    anchor."""
    ends = np.cumsum([_VALUES * (EDGE_PX // stride) ** 2 for stride in STRIDES])
    return np.concatenate(
        [level.reshape(_VALUES, -1).T for level in np.split(raw.ravel(), ends[:-1])]
    )


def decoded(raw: NDArray[np.float32], cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Offsets and logarithms of sizes, float32 (n, 4), of cells (n, 3: x, y, stride) as corners in
    pixels of the image."""
    centre = (raw[:, :2] + cells[:, :2]) * cells[:, 2:]
    half = np.exp(raw[:, 2:]) * cells[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1, dtype=np.float32)


def _grid() -> NDArray[np.float32]:
    """(anchors, 3): column, row and stride of every cell, in the order of the head's output."""
    levels: list[NDArray[np.float32]] = []
    for stride in STRIDES:
        cells = EDGE_PX // stride
        rows, columns = np.indices((cells, cells), np.float32)
        levels.append(
            np.stack([columns.ravel(), rows.ravel(), np.full(cells * cells, stride, np.float32)], 1)
        )
    return np.concatenate(levels)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)


def _network(file: WeightFile) -> cv2.dnn.Net:
    if file.spec.arch not in ARCHES:
        raise reject(
            file,
            "state_dict_mismatch",
            f"needs one of these in the manifest's `arch`: {', '.join(ARCHES)}",
        )
    digest = file.spec.sha256
    if digest not in _warm:
        try:
            net = cv2.dnn.readNetFromONNX(str(file.path))
        except cv2.error:
            raise reject(
                file, "state_dict_mismatch", "is no ONNX network that OpenCV can read"
            ) from None
        _warm.clear()
        _warm[digest] = net
    return _warm[digest]
