"""How the camera moved between two frames: a shift, turn and zoom found by sparse optical flow on
small grey images.

Accepts grey images of any size and shrinks them to `MAX_PIXELS` at most. Corners are sought outside
the boxes that were detected, so that a crowd does not pass for the camera. Answers None where the
image has too little texture or the corners do not agree: then tracks are predicted without it. The
last image and its corners are the whole state.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.track.association.boxes import Floats, to_centre, to_corners
from gpu_worker_processors.track.association.state_json import floats, integers

Gray = NDArray[np.uint8]

MAX_PIXELS = 40_000
"""Pixels of the image that is compared: 266x150 of a 16:9 video. Keeps the exported state small: at
most 54 KB of base64, half in practice."""
MAX_CORNERS = 150
MIN_CORNERS = 12
MIN_SHARE = 0.5
"""Of the corners found again, the share that must agree on one motion."""
MAX_ZOOM = 1.25
"""A larger zoom between two frames is a wrong fit."""


@dataclass(frozen=True)
class Warp:
    """A similarity of the source frame: x' = a x - b y + dx, y' = b x + a y + dy in pixels of the
    source."""

    a: float
    b: float
    dx: float
    dy: float


def warped(boxes: Floats, warp: Warp) -> Floats:
    """Corner boxes (n, 4) after the camera's motion: centres go along, sizes zoom, boxes stay
    upright."""
    centre_size = to_centre(boxes)
    turn = np.array([[warp.a, warp.b], [-warp.b, warp.a]])
    centre = centre_size[:, :2] @ turn + (warp.dx, warp.dy)
    return to_corners(
        np.concatenate([centre, centre_size[:, 2:] * np.hypot(warp.a, warp.b)], axis=1)
    )


class Camera:
    """Follows the camera from frame to frame."""

    def __init__(self) -> None:
        self._gray: Gray | None = None
        self._corners: NDArray[np.float32] = np.zeros((0, 1, 2), np.float32)

    def forget(self) -> None:
        """The next image has nothing to do with the last one."""
        self._gray = None

    def follow(self, gray: Gray, scale: float) -> Warp | None:
        """The motion since the last image: `gray`, uint8 of shape (height, width), has `scale`
        source pixels per pixel."""
        small, scale = _reduced(gray, scale)
        last, self._gray = self._gray, small
        if last is None or last.shape != small.shape or len(self._corners) < MIN_CORNERS:
            return None
        found, state, _ = cv2.calcOpticalFlowPyrLK(
            last, small, self._corners, np.empty_like(self._corners)
        )
        good = state.ravel() == 1
        before, after = self._corners[good], found[good]
        if len(before) < MIN_CORNERS:
            return None
        fit: tuple[Any, Any] = cv2.estimateAffinePartial2D(before, after, ransacReprojThreshold=1.0)
        matrix, inliers = fit
        if matrix is None or int(inliers.sum()) < max(MIN_CORNERS, MIN_SHARE * len(before)):
            return None
        zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        if not 1 / MAX_ZOOM < zoom < MAX_ZOOM:
            return None
        # Pixel centres: the middle of gray pixel 0 lies at (scale - 1) / 2 in the source; boxes
        # count from its corner.
        a, b = float(matrix[0, 0]), float(matrix[1, 0])
        dx, dy = float(matrix[0, 2]) * scale, float(matrix[1, 2]) * scale
        half = scale / 2
        return Warp(a, b, dx + half * (1 - a + b), dy + half * (1 - a - b))

    def seek_corners(self, scale: float, size: tuple[int, int], boxes: Floats) -> None:
        """Choose the corners to follow into the next image, outside the detected corner boxes (n,
        4).

        `size` is the (height, width) of the image that `follow` was given, `scale` its source
        pixels per pixel.
        """
        small = self._gray
        if small is None:
            return
        factor = small.shape[1] / (size[1] * scale)
        mask = np.full(small.shape, 255, np.uint8)
        for x1, y1, x2, y2 in (
            np.clip(np.round(boxes * factor), 0, max(small.shape)).astype(int).tolist()
        ):
            mask[y1:y2, x1:x2] = 0
        corners: Any = cv2.goodFeaturesToTrack(small, MAX_CORNERS, 0.01, 5, mask=mask, blockSize=3)
        self._corners = (
            np.zeros((0, 1, 2), np.float32) if corners is None else np.asarray(corners, np.float32)
        )

    def to_json(self) -> dict[str, Any] | None:
        """The last image, packed, and its corners."""
        if self._gray is None:
            return None
        packed = zlib.compress(np.diff(self._gray, axis=1, prepend=np.uint8(0)).tobytes(), 9)
        return {
            "shape": list(self._gray.shape),
            "gray": base64.b64encode(packed).decode(),
            "corners": self._corners.reshape(-1, 2).tolist(),
        }

    @classmethod
    def from_json(cls, data: Any) -> Camera:
        """What `to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        camera = cls()
        if data is None:
            return camera
        height, width = integers(data["shape"], (2,), 1, MAX_PIXELS).tolist()
        if height * width > MAX_PIXELS:
            raise ValueError("a picture too large")
        text = data["gray"]
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(base64.b64decode(text, validate=True), height * width)
        except zlib.error as error:
            raise ValueError("a broken picture") from error
        rows = np.frombuffer(raw, np.uint8).reshape(height, width)
        camera._gray = np.cumsum(rows, axis=1, dtype=np.uint8)
        corners = floats(data["corners"], (None, 2)) if data["corners"] else np.zeros((0, 2))
        camera._corners = corners.astype(np.float32).reshape(-1, 1, 2)[:MAX_CORNERS]
        return camera


def _reduced(gray: Gray, scale: float) -> tuple[Gray, float]:
    """The image at `MAX_PIXELS` at most, and its scale."""
    height, width = gray.shape
    factor = max(1.0, float(np.sqrt(height * width / MAX_PIXELS)))
    if factor == 1.0:
        return gray.copy(), scale
    size = max(1, int(width / factor)), max(1, int(height / factor))
    small: Any = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return small, scale * width / size[0]
