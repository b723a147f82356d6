"""Where one shot ends and the next begins, found while the frames go by: nothing may be followed
across a cut.

The score and its threshold are those of detect_scenes. Here every cut counts, however short the
shot; what does not count is a flash: a few bright frames after which the shot goes on as before. To
know a flash from a cut takes the frames that follow, so items leave a few frames after they came
in, and only those few are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol.detect_scenes import DEFAULT_THRESHOLD
from gpu_worker_processors.detect_scenes.detectors import Hsv, content_score, to_hsv

FLASH_FRAMES = 3
"""Longest flash. A photographer's lights one frame, or parts of two with a rolling shutter."""

T = TypeVar("T")


@dataclass
class _Waiting(Generic[T]):
    item: T
    hsv: Hsv
    is_cut: bool


def marked_cuts(
    frames: Iterable[tuple[T, NDArray[np.uint8]]], *, threshold: float = DEFAULT_THRESHOLD
) -> Iterator[tuple[T, bool]]:
    """Every item with whether a new shot begins with it.

    Args:
        frames: items, each with its small image: uint8 BGR of shape (height, width, 3), the same
            shape for all.
        threshold: of `content_score`, 0..255.
    """
    waiting: deque[_Waiting[T]] = deque()
    shown: Hsv | None = None  # the last image that left
    last: Hsv | None = None
    for item, image in frames:
        hsv = to_hsv(image)
        is_cut = last is not None and content_score(hsv, last) >= threshold
        if is_cut and shown is not None and content_score(hsv, shown) < threshold:
            # Again what it was before the first frame that waits: what waits was a flash.
            is_cut = False
            for entry in waiting:
                entry.is_cut = False
        waiting.append(_Waiting(item, hsv, is_cut))
        last = hsv
        while waiting and (
            len(waiting) > FLASH_FRAMES or not any(entry.is_cut for entry in waiting)
        ):
            first = waiting.popleft()
            shown = first.hsv
            yield first.item, first.is_cut
    for entry in waiting:
        yield entry.item, entry.is_cut
