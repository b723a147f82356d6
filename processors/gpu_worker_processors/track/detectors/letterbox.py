"""From a decoded frame to the small upright image that a network sees, and from boxes in it back
to the frame.

Pixels are made exactly as the networks' authors make them (OpenCV's VideoCapture, then
INTER_LINEAR): scores near a threshold depend on single code values. So a frame is converted to RGB
first, by its own matrix and range, and an untagged one as BT.601, libswscale's default. Scaling the
planes and converting the small image saves 0.2 ms of the 1.6 ms of a 1080p frame, but lost 2 % of
the boxes of a 1080p street scene; letting libswscale scale lost 4 to 6 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.track.detectors.base import RgbImage

PADDING = 114
"""Code value of the border: the grey with which the YOLO family has been trained since YOLOv5."""
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Letterbox:
    """Where the upright frame lies in the image. All in pixels."""

    width: int
    """Of the upright source frame."""
    height: int
    image_width: int
    image_height: int
    content_width: int
    """Of the scaled frame inside the image."""
    content_height: int
    left: int
    """Of the scaled frame's first column in the image."""
    top: int

    @classmethod
    def rectangle(cls, width: int, height: int, edge: int = 640, stride: int = 32) -> Letterbox:
        """The longer edge becomes `edge`, the other is padded on both sides to a multiple of
        `stride`: 1920x1080 -> 640x384."""
        content = _fitted(width, height, edge)
        image = tuple(-(-length // stride) * stride for length in content)
        # With an odd border the larger half is on the right and below.
        left, top = ((whole - inner) // 2 for whole, inner in zip(image, content, strict=True))
        return cls(width, height, image[0], image[1], *content, left, top)

    @classmethod
    def corner(cls, width: int, height: int, edge: int) -> Letterbox:
        """A square of `edge` with the frame in its upper left corner, truncated sizes: the way of
        YOLOX."""
        scale = min(edge / width, edge / height)
        content = max(1, int(width * scale)), max(1, int(height * scale))
        return cls(width, height, edge, edge, *content, 0, 0)

    @classmethod
    def borderless(cls, width: int, height: int, edge: int) -> Letterbox:
        """The frame without a border, its longer edge scaled to `edge`."""
        content = _fitted(width, height, edge)
        return cls(width, height, *content, *content, 0, 0)

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes of the image, float32 (n, 4) x1, y1, x2, y2, in pixels of the upright source
        frame and clipped to it."""
        scale = np.array(
            [self.width / self.content_width, self.height / self.content_height] * 2, np.float32
        )
        shift = np.array([self.left, self.top] * 2, np.float32)
        limit = np.array([self.width, self.height] * 2, np.float32)
        return np.clip((boxes - shift) * scale, 0, limit)


def _fitted(width: int, height: int, edge: int) -> tuple[int, int]:
    scale = min(edge / width, edge / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


class FrameScaler:
    """Makes the letterboxed image of every frame of one video. See `base.Scaler`.

    Args:
        video: rotation of the frames to come.
        box: where the upright frame goes.
    """

    def __init__(self, video: VideoInfo, box: Letterbox) -> None:
        self._box = box
        self._turn = _TURNS.get(video.rotation)
        self._mirrored = video.mirrored
        size = box.content_width, box.content_height
        self._size = size[::-1] if video.rotation in (90, 270) else size
        """Of the scaled frame before it is turned: the large frame never is."""
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> RgbImage:
        rgb = cv2.resize(self._rgb(frame), self._size, interpolation=cv2.INTER_LINEAR)
        if self._turn is not None:
            rgb = cv2.rotate(rgb, self._turn)
        if self._mirrored:
            rgb = cv2.flip(rgb, 1)
        return self._padded(cast("NDArray[np.uint8]", rgb))

    def _rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 (height, width, 3), a view into libswscale's output."""
        plane = self._reformatter.reformat(
            frame, frame.width, frame.height, "rgb24", threads=1
        ).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
        return rows[:, : 3 * plane.width].reshape(plane.height, plane.width, 3)

    def _padded(self, rgb: NDArray[np.uint8]) -> RgbImage:
        box = self._box
        image = np.full((box.image_height, box.image_width, 3), PADDING, np.uint8)
        image[box.top : box.top + box.content_height, box.left : box.left + box.content_width] = rgb
        return image
