"""Frames as images inside the report: read by index, enlarged the plain way for comparison,
inlined as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JPEG_QUALITY = 90
"""High enough that its own artefacts do not hide a network's; a 1024x576 frame takes about 150
kB."""


def read_video(path: Path) -> tuple[int, int, int, float]:
    """Width and height as displayed, number of frames, and average frames/s. Frames are counted by
    demuxing, not decoding."""
    from gpu_worker_processors.base import Limits
    from gpu_worker_processors.media.probe import probe, require_video

    video = require_video(probe(path, Limits()))
    return video.width, video.height, _count(path, video.index), float(video.fps)


def frames_at(path: Path, indices: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """The frames with these display-order indices, upright: index -> uint8 BGR of shape (height,
    width, 3)."""
    from gpu_worker_processors.base import Limits
    from gpu_worker_processors.media.decode import FrameReader
    from gpu_worker_processors.media.probe import probe

    wanted, found = set(indices), dict[int, Any]()
    for decoded in FrameReader(path, probe(path, Limits())):
        if decoded.index in wanted:
            found[decoded.index] = decoded.frame.to_ndarray(format="bgr24")
        if len(found) == len(wanted):
            break
    return found


def enlarge(
    image: NDArray[np.uint8], width: int, height: int, *, smooth: bool
) -> NDArray[np.uint8]:
    """The image at another size by bicubic interpolation, or by repeating pixels."""
    import cv2

    how = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=how)  # pyright: ignore[reportReturnType] - cv2's stubs


def crop(
    image: NDArray[np.uint8], x: float, y: float, width: int, height: int
) -> NDArray[np.uint8]:
    """A part of the image, its centre at the fractions x and y as far as the edges allow."""
    left = min(max(0, round(x * image.shape[1] - width / 2)), max(0, image.shape[1] - width))
    top = min(max(0, round(y * image.shape[0] - height / 2)), max(0, image.shape[0] - height))
    return image[top : top + height, left : left + width]


def thumbnail(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The image averaged down to this width; one that is narrower stays as it is."""
    import cv2

    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as a JPEG inside a `data:` URI."""
    import cv2

    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _count(path: Path, stream_index: int) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(container.streams[stream_index]) if packet.size)
