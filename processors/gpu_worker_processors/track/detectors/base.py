"""What a detector is: small images in, boxes in pixels of the source frame out.

A detector is made for one video and dropped with it; the network behind it stays warm. Its weak
boxes, down to `SCORE_FLOOR`, come out too: a tracker's second pass lives on them, and the caller's
confidence threshold belongs behind the tracker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.track.detections import Detections

if TYPE_CHECKING:
    import av

    from gpu_worker_processors.media.probe import VideoInfo

RgbImage = NDArray[np.uint8]
"""Shape (height, width, 3), uint8 RGB, 0..255, upright: one frame at the detector's size."""

SCORE_FLOOR = 0.1
"""Weakest score that comes out: the lower bound of the second association of ByteTrack (arXiv
2110.06864, its code's `low`)."""
MAX_BOXES = 300
"""Most boxes of one frame, the strongest first: what the end-to-end heads answer and what
ultralytics keeps after NMS."""


class Scaler(Protocol):
    """Makes the image of one frame for the detector. Keeps buffers between frames: one thread at a
    time."""

    def __call__(self, frame: av.VideoFrame) -> RgbImage:
        """The image of a decoded frame, a new array each time."""
        ...


class Detector(Protocol):
    """Finds objects of some classes in the frames of one video."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that were asked for, in that order; `Detections.classes` counts through
        them."""
        ...

    @property
    def batch(self) -> int:
        """Images worth handing over at once. The network always sees a full batch (the last is
        padded), so no result depends on how many images came together. Falls when memory runs
        out."""
        ...

    @property
    def device(self) -> str:
        """Where the network runs: "cpu", "cuda:0"."""
        ...

    @property
    def dtype(self) -> str:
        """Number format of the network: "float32", "bfloat16", "float16"."""
        ...

    def scaler(self, video: VideoInfo) -> Scaler:
        """Fixes the video whose frames follow and answers what makes their images. To be called
        before the first detection, once for each thread that makes images; the detector itself
        may run in another."""
        ...

    def __call__(self, images: Sequence[RgbImage]) -> list[Detections]:
        """What is in each image, in order; boxes in pixels of the upright source frame, inside
        it.

        Raises:
            TaskError: `gpu_oom` / `resource_exhausted` when a single image does not fit,
                `nan_output` when the network answers NaN in float32 too.
        """
        ...
