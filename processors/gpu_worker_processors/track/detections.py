"""The seam between detectors and trackers: what was seen in one frame, as three arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """What a detector found in one frame, strongest first."""

    boxes: NDArray[np.float32]
    """Shape (n, 4): x1, y1, x2, y2 in pixels of the upright source frame."""
    scores: NDArray[np.float32]
    """Shape (n,), 0..1, falling."""
    classes: NDArray[np.int32]
    """Shape (n,): index into the detector's `class_names`."""

    def __post_init__(self) -> None:
        count = len(self.scores)
        assert self.boxes.shape == (count, 4), self.boxes.shape
        assert self.classes.shape == (count,), self.classes.shape

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, mask: NDArray[np.bool_]) -> Detections:
        """Those where `mask`, bool of shape (n,), is true."""
        return Detections(self.boxes[mask], self.scores[mask], self.classes[mask])

    @classmethod
    def none(cls) -> Detections:
        """A frame in which nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
