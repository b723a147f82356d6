"""Faces followed over the frames of a shot: landmarks without jitter, no face that pops in or out
for a single frame.

Pure: plain numbers in, plain numbers out. A detection belongs to the face it overlaps most; a face
that was missed for a moment keeps its place while it fades.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.models.detect.yunet import Face

MIN_IOU = 0.3
"""Overlap from which on a detection is the same face. Between two frames a face moves by far less
than its size."""
STILL_WEIGHT = 0.3
"""Share of a new position when the face stands still: landmark noise of one pixel becomes a third
of it."""
FULL_MOTION = 0.08
"""Motion in one frame, as a share of the face's size, from which on the new position is taken as it
is."""
FADE = 0.25
"""Change of strength per frame of a face that appears or is missed: four frames from nothing to
all."""


@dataclass
class FollowedFace:
    """A face as it is to be drawn in the current frame."""

    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    """Shape (5, 2), smoothed."""
    strength: float
    """0..1, how much of the restored face replaces the image."""


class FaceTracks:
    """The faces of the current shot. `reset` at every cut."""

    def __init__(self) -> None:
        self._faces: list[FollowedFace] = []
        self._fresh = True

    def reset(self) -> None:
        """Forgets every face: the next frame is the first of a shot and its faces are there at
        once."""
        self._faces = []
        self._fresh = True

    def update(self, found: list[Face]) -> list[FollowedFace]:
        """Takes the detections of the next frame and answers the faces to draw in it."""
        pairs = associate(
            [face.box for face in self._faces], [np.array(face.box) for face in found]
        )
        for old, new in pairs.items():
            _move(self._faces[old], found[new])
        for index, face in enumerate(self._faces):
            face.strength = min(1.0, max(0.0, face.strength + (FADE if index in pairs else -FADE)))
        taken = set(pairs.values())
        first = 1.0 if self._fresh else FADE
        self._faces += [
            FollowedFace(np.array(face.box), face.landmarks.copy(), first)
            for i, face in enumerate(found)
            if i not in taken
        ]
        self._faces = [face for face in self._faces if face.strength > 0]
        self._fresh = False
        return list(self._faces)


def associate(old: list[NDArray[np.float64]], new: list[NDArray[np.float64]]) -> dict[int, int]:
    """Pairs of boxes (index of old -> index of new), each used once, largest overlap first, none
    below `MIN_IOU`."""
    overlaps = sorted(
        ((iou(a, b), i, j) for i, a in enumerate(old) for j, b in enumerate(new)), reverse=True
    )
    pairs: dict[int, int] = {}
    for overlap, i, j in overlaps:
        if overlap >= MIN_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / total if total > 0 else 0.0


def _move(face: FollowedFace, seen: Face) -> None:
    """Follows at once what moves, averages what only trembles."""
    size = float(np.linalg.norm(face.box[2:] - face.box[:2])) or 1.0
    motion = float(np.linalg.norm((seen.landmarks - face.landmarks).mean(axis=0))) / size
    weight = min(1.0, STILL_WEIGHT + (1 - STILL_WEIGHT) * motion / FULL_MOTION)
    face.landmarks = face.landmarks + weight * (seen.landmarks - face.landmarks)
    face.box = face.box + weight * (np.array(seen.box) - face.box)
