"""The tracking loop: decode and scale, detect, associate, each in its own thread with bounded
queues between.

Every frame is decoded and compared with the one before, to find cuts; every `stride`-th goes
through the detector, in batches of one fixed shape, and then, in order, through the tracker into
the store. Memory does not depend on the length of the video.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.detect_scenes.detectors import score_size
from gpu_worker_processors.detect_scenes.scenes import FrameTimes
from gpu_worker_processors.media.decode import DecodedFrame, ThumbnailScaler
from gpu_worker_processors.media.frame import PlaneReader
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.media.threads import drained, grouped, mapped, prefetched
from gpu_worker_processors.track.association.camera import MAX_PIXELS
from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors.base import Detector, RgbImage
from gpu_worker_processors.track.shots import marked_cuts

_BATCHES_AHEAD = 3
_BATCHES_BEHIND = 4
_MAX_SCALERS = 8
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

Gray = NDArray[np.uint8]
"""Shape (height, width), uint8: one upright frame, at most `MAX_PIXELS` of it."""


@dataclass(frozen=True)
class ScaledFrame:
    """One decoded frame, scaled for what reads it."""

    index: int
    time_seconds: float
    image: RgbImage | None
    """For the detector; None for a frame between two strides."""
    gray: Gray | None
    """For camera motion; None where nobody asks for it."""


@dataclass
class Step:
    """One frame with what was found in it."""

    frame: ScaledFrame
    is_cut: bool
    """This frame is the first of a new shot."""
    detections: Detections | None = field(default=None)
    """None for a frame between two strides."""


def run_loop(
    frames: Iterable[Step],
    detector: Detector,
    associate: Callable[[Step], object],
    progress: Callable[[int], object],
) -> int:
    """Moves every frame through the detector into `associate`, in order, and answers how many there
    were.

    Args:
        frames: without detections yet.
        associate: takes each frame, in a thread of its own.
        progress: called with the number of frames that are through the detector.
    """
    done = 0
    batch = detector.batch

    def write(steps: list[Step]) -> None:
        for step in steps:
            associate(step)

    with (
        prefetched(grouped(frames, batch), _BATCHES_AHEAD) as groups,
        drained(write, _BATCHES_BEHIND) as put,
    ):
        waiting: list[Step] = []
        images = 0
        for step in chain.from_iterable(groups):
            waiting.append(step)
            images += step.frame.image is not None
            if images == batch:
                done += _detect(waiting, detector, put)
                waiting, images = [], 0
                progress(done)
        done += _detect(waiting, detector, put)
        progress(done)
    return done


def _detect(steps: list[Step], detector: Detector, put: Callable[[list[Step]], object]) -> int:
    seen = [step for step in steps if step.frame.image is not None]
    images = [step.frame.image for step in seen if step.frame.image is not None]
    for step, detections in zip(seen, detector(images) if images else [], strict=True):
        step.detections = detections
    if steps:
        put(steps)
    return len(steps)


def scaler_threads(device: str, cores: int) -> int:
    """Threads that scale decoded frames. One takes 2 to 3 ms for a frame of 1080p, several times
    what a GPU needs to find people in it; a network on the CPU wants the cores for itself."""
    return 1 if device == "cpu" else max(1, min(cores // 2, _MAX_SCALERS))


class FrameSource:
    """Decodes one video: every `stride`-th frame scaled for the detector and for camera motion, and
    the cuts between all frames.

    Args:
        with_gray: the tracker wants to know how the camera moved.
        scalers: threads that scale frames; None is what suits the detector's device.
    """

    def __init__(
        self,
        reader: Iterable[DecodedFrame],
        video: VideoInfo,
        detector: Detector,
        stride: int,
        *,
        with_gray: bool,
        scalers: int | None = None,
    ) -> None:
        self.times = FrameTimes(video.time_base)
        """Of the frames that went by."""
        self._reader = reader
        self._stride = stride
        self._threads = scalers or scaler_threads(detector.device, os.cpu_count() or 1)
        self._scalers: SimpleQueue[_Scalers] = SimpleQueue()
        """One set for each thread: they keep buffers between frames."""
        for _ in range(self._threads):
            self._scalers.put(_Scalers(video, detector, with_gray=with_gray))
        self.gray_scale = GrayScaler(video).scale if with_gray else 1.0
        """Pixels of the source frame per pixel of a grey image."""

    def __iter__(self) -> Iterator[Step]:
        for frame, is_cut in marked_cuts(self._scaled_frames()):
            yield Step(frame, is_cut)

    def _scaled_frames(self) -> Iterator[tuple[ScaledFrame, NDArray[np.uint8]]]:
        """Every frame with the small image that cuts are found in."""
        if self._threads == 1:
            return map(self._scaled, self._timed())
        return mapped(self._timed(), self._scaled, self._threads, ahead=self._threads)

    def _timed(self) -> Iterator[DecodedFrame]:
        for item in self._reader:
            self.times.add(item.pts, item.duration)
            yield item

    def _scaled(self, item: DecodedFrame) -> tuple[ScaledFrame, NDArray[np.uint8]]:
        scalers = self._scalers.get()
        try:
            return scalers.scaled(item, wanted=item.index % self._stride == 0)
        finally:
            self._scalers.put(scalers)


class _Scalers:
    """Makes the images of a frame, for one thread at a time."""

    def __init__(self, video: VideoInfo, detector: Detector, *, with_gray: bool) -> None:
        self._scaler = detector.scaler(video)
        self._small = ThumbnailScaler(*score_size(video.coded_width, video.coded_height))
        self._gray = GrayScaler(video) if with_gray else None

    def scaled(self, item: DecodedFrame, *, wanted: bool) -> tuple[ScaledFrame, NDArray[np.uint8]]:
        image = self._scaler(item.frame) if wanted else None
        gray = self._gray(item) if wanted and self._gray else None
        return ScaledFrame(item.index, item.time_seconds, image, gray), self._small(item.frame)


class GrayScaler:
    """Small upright grey images of decoded frames: the luma plane, averaged down."""

    def __init__(self, video: VideoInfo) -> None:
        factor = max(1.0, math.sqrt(video.coded_width * video.coded_height / MAX_PIXELS))
        width, height = (
            max(1, int(video.coded_width / factor)),
            max(1, int(video.coded_height / factor)),
        )
        self._size = (
            min(width, MAX_PIXELS),
            min(height, MAX_PIXELS),
        )  # a line of pixels is shrunk along its length only
        self._turn = _TURNS.get(video.rotation)
        self._mirrored = video.mirrored
        self._read = PlaneReader()
        upright = self._size[::-1] if video.rotation in (90, 270) else self._size
        self.scale = video.width / upright[0]
        """Pixels of the source frame per pixel of the grey one."""

    def __call__(self, item: DecodedFrame) -> Gray:
        source = self._read(item.frame)
        plane: Any = source.planes[1 if source.is_rgb else 0]
        small: Any = cv2.resize(plane, self._size, interpolation=cv2.INTER_AREA)
        if source.bits > 8:
            small = (small >> (source.bits - 8)).astype(np.uint8)
        if self._turn is not None:
            small = cv2.rotate(small, self._turn)
        return cv2.flip(small, 1) if self._mirrored else small
