"""From a decoded frame to the small upright picture that a network sees, and from boxes in it back to the frame.

The planes of the frame are scaled as the decoder left them, each once, and only the small result is converted to RGB: no RGB
picture of the full size ever exists. Scaling is linear between the four nearest samples without a filter before it, which is
how the networks' authors scale (OpenCV's INTER_LINEAR): a smoother picture would be nicer to look at and score differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.media.color import LUMA_WEIGHTS, levels, resolve_tags
from gpu_worker_processors.media.picture import PictureReader
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.track.detectors.base import Picture

PADDING = 114
"""Code value of the border: the grey with which the YOLO family has been trained since YOLOv5."""
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Letterbox:
    """Where the upright frame lies in the picture. All in pixels."""

    width: int
    """Of the upright source frame."""
    height: int
    picture_width: int
    picture_height: int
    content_width: int
    """Of the scaled frame inside the picture."""
    content_height: int
    left: int
    """Of the scaled frame's first column in the picture."""
    top: int

    @classmethod
    def rectangle(cls, width: int, height: int, edge: int = 640, stride: int = 32) -> Letterbox:
        """The longer edge becomes `edge`, the other is padded on both sides to a multiple of `stride`: 1920x1080 -> 640x384."""
        content = _fitted(width, height, edge)
        picture = tuple(-(-length // stride) * stride for length in content)
        # With an odd border the larger half is on the right and below.
        left, top = ((whole - inner) // 2 for whole, inner in zip(picture, content, strict=True))
        return cls(width, height, picture[0], picture[1], *content, left, top)

    @classmethod
    def corner(cls, width: int, height: int, edge: int) -> Letterbox:
        """A square of `edge` with the frame in its upper left corner, truncated sizes: the way of YOLOX."""
        scale = min(edge / width, edge / height)
        content = max(1, int(width * scale)), max(1, int(height * scale))
        return cls(width, height, edge, edge, *content, 0, 0)

    @classmethod
    def within(cls, width: int, height: int, edge: int) -> Letterbox:
        """No border: the frame as it is, or shrunk until its longer edge is `edge`."""
        content = _fitted(width, height, min(edge, max(width, height)))
        return cls(width, height, *content, *content, 0, 0)

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes of the picture, float32 (n, 4) x1, y1, x2, y2, in pixels of the upright source frame and clipped to it."""
        scale = np.array([self.width / self.content_width, self.height / self.content_height] * 2, np.float32)
        shift = np.array([self.left, self.top] * 2, np.float32)
        limit = np.array([self.width, self.height] * 2, np.float32)
        return np.clip((boxes - shift) * scale, 0, limit)


def _fitted(width: int, height: int, edge: int) -> tuple[int, int]:
    scale = min(edge / width, edge / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


class FrameScaler:
    """Makes the letterboxed picture of every frame of one video. See `base.Scaler`.

    Args:
        video: size, rotation and colour tags of the frames to come.
        box: where the frame goes.
    """

    def __init__(self, video: VideoInfo, box: Letterbox) -> None:
        self._box = box
        self._turn = _TURNS.get(video.rotation)
        self._mirrored = video.mirrored
        size = box.content_width, box.content_height
        self._size = size[::-1] if video.rotation in (90, 270) else size
        self._read = PictureReader()
        tags = resolve_tags(
            video.colorspace,
            video.primaries,
            video.transfer,
            video.color_range,
            height=video.height,
            pix_fmt=video.pix_fmt,
        )
        self._matrix, self._full_range = tags.matrix, tags.full_range
        self._maps: dict[tuple[int, int], NDArray[np.float32]] = {}

    def __call__(self, frame: av.VideoFrame) -> Picture:
        source = self._read(frame)
        planes = [cv2.resize(plane, self._size, interpolation=cv2.INTER_LINEAR) for plane in source.planes]
        samples = planes[0] if len(planes) == 1 else cv2.merge(planes)
        rgb = _to_bytes(cv2.transform(samples, self._map(len(planes), source.bits, source.is_rgb)))
        if self._turn is not None:
            rgb = cv2.rotate(rgb, self._turn)
        if self._mirrored:
            rgb = cv2.flip(rgb, 1)
        return self._padded(rgb)

    def _padded(self, rgb: NDArray[np.uint8]) -> Picture:
        box = self._box
        picture = np.full((box.picture_height, box.picture_width, 3), PADDING, np.uint8)
        picture[box.top : box.top + box.content_height, box.left : box.left + box.content_width] = rgb
        return picture

    def _map(self, planes: int, bits: int, is_rgb: bool) -> NDArray[np.float32]:
        key = (0 if is_rgb else planes, bits)
        if key not in self._maps:
            self._maps[key] = _rgb_map(planes, bits, is_rgb, self._matrix, self._full_range)
        return self._maps[key]


def _rgb_map(planes: int, bits: int, is_rgb: bool, matrix: int, full_range: bool) -> NDArray[np.float32]:
    """Affine map, shape (3, planes + 1), from code values of `bits` to R, G, B of 0..255."""
    if is_rgb:
        return np.hstack([np.eye(3) * (255 / ((1 << bits) - 1)), np.zeros((3, 1))]).astype(np.float32)
    black, luma_span, middle, chroma_span = levels(bits, full_range)
    if planes == 1:
        return np.array([[255 / luma_span, -black * 255 / luma_span]] * 3, np.float32)
    kr, kb = LUMA_WEIGHTS[matrix]
    red, blue = 2 - 2 * kr, 2 - 2 * kb
    rows = np.array([[1, 0, red], [1, -kb * blue / (1 - kr - kb), -kr * red / (1 - kr - kb)], [1, blue, 0]])
    scaled = rows * (255 / np.array([luma_span, chroma_span, chroma_span]))
    offset = -scaled @ np.array([black, middle, middle])
    return np.hstack([scaled, offset[:, None]]).astype(np.float32)


def _to_bytes(samples: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
    """Saturated at 255; below 0 was saturated by OpenCV."""
    return samples if samples.dtype == np.uint8 else np.minimum(samples, 255).astype(np.uint8)
