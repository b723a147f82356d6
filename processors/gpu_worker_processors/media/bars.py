"""Bars: the flat margins around an image that was put into a frame of another shape (pillarbox,
letterbox, or both).

Takes the frames of a video as they are decoded, inspects five a second, and answers the part of the
upright frame that each shot fills. A bar is left out only when it is certain: flat in the whole
shot, about as thick as the bar opposite, and ended by a straight edge. A dark scene is not: a bar
that is missed costs less than a part of a scene that is lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.media.decode import DecodedFrame, FrameReader
from gpu_worker_processors.media.frame import PlaneReader

_EVERY_SECONDS = 0.2
"""A shot of 0.4 s, the shortest that auto_crop gives a window of its own, is seen twice."""
_GROUP_PX = 8
"""Pixels along a bar that are averaged: analogue noise of 3 code values comes down to 1."""
_FLAT = 8
"""8-bit code values: no group of a bar is farther from the bar's level. x264 leaves 4 at crf 40
beside an image full of noise (measured)."""
_STEP = 16
"""8-bit code values: an image that differs less from its bar has no edge there."""
_EDGE_PX = 6
"""The edge is complete within so many lines: scalers and codecs soften it."""
_EDGE_SHARE = 0.5
"""Of the image's side, this much has an edge in one frame of the shot at least."""
_PAIR_SHARE = 0.02
"""Two bars that belong together differ by this share of the frame at most."""
_LEAST_SHARE = 0.25
"""The image's least share of the frame: 9:16 in 16:9 has 0.32."""
_LEAST_PX = 2
"""A thinner bar is nobody's intent."""
_INSET_PX = 2
"""Cut off beside a bar: the samples of 4:2:0 chroma, and of cubic sampling, mix so far."""

Margins = tuple[int, int, int, int]
"""Left, top, right, bottom; pixels of the upright frame."""
NO_BARS: Margins = (0, 0, 0, 0)
_ACROSS, _DOWN = 0, 1
"""Axes: every second of `Margins` from here is a side of it."""
_FIELDS = 3
"""Of each side of a frame: depth that is flat, line at which the edge is complete, length of the
edge; pixels."""


class BarFinder:
    """The bars of one video."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader
        self._video = reader.video
        self._planes = PlaneReader()
        self._frames = array("q")
        """Frames that were inspected."""
        self._sides = array("i")
        """`_FIELDS` of four sides for each of them."""
        self._next_seconds = 0.0

    def __iter__(self) -> Iterator[DecodedFrame]:
        """The reader's frames; some of them are inspected."""
        for item in self._reader:
            if item.time_seconds >= self._next_seconds:
                self._next_seconds = item.time_seconds + _EVERY_SECONDS
                self._inspect(item)
            yield item

    def _inspect(self, item: DecodedFrame) -> None:
        source = self._planes(item.frame)
        plane: NDArray[Any] = source.planes[1 if source.is_rgb else 0]
        plane = np.rot90(plane, -(self._video.rotation // 90))
        plane = np.ascontiguousarray(plane[:, ::-1] if self._video.mirrored else plane)
        rows, columns = plane.shape
        bits = source.bits - 8
        across: Any = cv2.resize(
            plane, (columns, -(-rows // _GROUP_PX)), None, 0, 0, cv2.INTER_AREA
        )
        down: Any = cv2.resize(plane, (-(-columns // _GROUP_PX), rows), None, 0, 0, cv2.INTER_AREA)
        left, right = (_side(lines, rows, bits) for lines in (across.T, across.T[::-1]))
        top, bottom = (_side(lines, columns, bits) for lines in (down, down[::-1]))
        self._frames.append(item.index)
        self._sides.extend((*left, *top, *right, *bottom))

    def margins(self, shot_starts: Sequence[int]) -> list[Margins]:
        """The bars of each shot. A shot too short to have been inspected has those of the shot
        before; one whose own frames show no edge (a night scene, a fade) has bars that are certain
        in other shots, where it is flat as well.

        Args:
            shot_starts: first frame of each shot, rising; the first is 0.
        """
        sides = np.array(self._sides, np.int64).reshape(-1, 4, _FIELDS)
        bounds = np.searchsorted(np.array(self._frames), shot_starts)
        shots = np.split(sides, bounds[1:])
        frame = self._video.width, self._video.height
        certain = [_certain(shot, frame) for shot in shots]
        known = sorted({one for one in certain if one}, key=lambda one: -certain.count(one))
        found = list[Margins]()
        for shot, own in zip(shots, certain, strict=True):
            if not len(shot):
                found.append(found[-1] if found else NO_BARS)
                continue
            flat = shot[:, :, 0].min(0)
            shared = (
                one for one in known if (flat >= np.subtract(one, _EDGE_PX + _INSET_PX)).all()
            )
            found.append(own or next(shared, NO_BARS))
        return found


def _side(lines: NDArray[Any], length: int, extra_bits: int) -> tuple[int, int, int]:
    """`_FIELDS` of one side.

    Args:
        lines: shape (n, groups), the outermost line first.
        length: of a line, pixels.
        extra_bits: of the code values, over 8.
    """
    level = np.median(lines[0])
    off = np.abs(lines.astype(np.float32) - level) / (1 << extra_bits)
    flat = off.max(1) <= _FLAT
    depth = len(flat) if flat.all() else int(flat.argmin())
    stepped = (off[depth : depth + _EDGE_PX] > _STEP).sum(1)
    if not stepped.any():
        return depth, depth, 0
    complete = int((stepped >= 0.9 * stepped.max()).argmax())
    return depth, depth + complete, round(int(stepped.max()) * length / lines.shape[1])


def _certain(shot: NDArray[np.int64], frame: tuple[int, int]) -> Margins | None:
    """The bars that a shot's own frames, shape (k, 4, `_FIELDS`), prove: on all four sides, else on
    two."""
    if not len(shot):
        return None
    flat = shot[:, :, 0].min(0)
    # A dark part of the image beside its bar seems to be more of the bar: that frame says nothing.
    edges = np.where(shot[:, :, 0] <= flat + _EDGE_PX, shot[:, :, 2], 0)
    starts, lengths = shot[edges.argmax(0), range(4), 1], edges.max(0)
    for axes in ((_ACROSS, _DOWN), (_ACROSS,), (_DOWN,)):
        margins = np.zeros(4, np.int64)
        for axis in axes:
            margins[axis::2] = starts[axis::2] + _INSET_PX
        image = np.subtract(frame, margins[:2] + margins[2:])
        if image.min() <= 0 or image.prod() < _LEAST_SHARE * np.prod(frame):
            continue
        if all(
            flat[axis::2].min() >= _LEAST_PX
            and np.ptp(starts[axis::2]) <= max(_INSET_PX, _PAIR_SHARE * frame[axis])
            and lengths[axis::2].min() >= _EDGE_SHARE * image[1 - axis]
            for axis in axes
        ):
            left, top, right, bottom = margins.tolist()
            return left, top, right, bottom
    return None
