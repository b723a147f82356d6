"""Boxes, ids and trails drawn onto the planes of a frame.

Drawing happens on the decoder's own Y, Cb and Cr, so there is no trip through RGB; a track keeps
its colour for life.
"""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np

from gpu_worker_processors.media.color import LUMA_WEIGHTS, ColorTags, levels
from gpu_worker_processors.media.frame import Plane

TRAIL_SECONDS = 1.0
"""How far back the path of a track is shown."""
_GOLDEN_ANGLE = 0.381966
"""Of a full turn: neighbouring ids get hues far from one another, whatever their number."""


class Box(Protocol):
    """What is drawn."""

    @property
    def track_id(self) -> int: ...
    @property
    def class_name(self) -> str: ...
    @property
    def bbox(self) -> Sequence[float]:
        """x1, y1, x2, y2 in pixels of the upright source frame."""
        ...

    @property
    def interpolated(self) -> bool: ...


@dataclass
class _Trail:
    points: deque[tuple[float, int, int]] = field(default_factory=deque[tuple[float, int, int]])
    """(seconds, x, y) of the middle of the box's lower edge, where a person stands."""


class Annotator:
    """Draws the boxes of one frame after the other onto the planes of that frame.

    Args:
        tags: what the planes' numbers mean.
        bits: depth of the code values.
        height: of the frame; line width and letters grow with it.
        scale: (x, y) drawn pixels per source pixel.
    """

    def __init__(
        self, tags: ColorTags, bits: int, height: int, scale: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        self._tags = tags
        self._bits = bits
        self._scale = scale
        self._thickness = max(2, 2 * round(height / 720))
        self._font_scale = max(0.4, height / 1440)
        self._trails: dict[int, _Trail] = {}

    def __call__(self, planes: Sequence[Plane], boxes: Iterable[Box], seconds: float) -> None:
        """Draws into `planes`.

        Args:
            planes: Y, Cb, Cr of 4:2:0, writable and contiguous.
            boxes: of this frame.
            seconds: time of this frame.
        """
        for box in boxes:
            x1, y1, x2, y2 = (round(v * s) for v, s in zip(box.bbox, self._scale * 2, strict=True))
            color = track_color(box.track_id, self._tags, self._bits)
            thickness = self._thickness // 2 if box.interpolated else self._thickness
            for plane, value, half in _parts(planes, color):
                corners = (x1 >> half, y1 >> half), (x2 >> half, y2 >> half)
                cv2.rectangle(plane, *corners, value, max(1, thickness >> half))
            self._label(planes, f"{box.track_id} {box.class_name}", x1, y1, color)
            trail = self._trails.setdefault(box.track_id, _Trail())
            trail.points.append((seconds, (x1 + x2) // 2, y2))
        self._draw_trails(planes, seconds)

    def forget(self) -> None:
        """A new shot: no trail goes on."""
        self._trails.clear()

    def _draw_trails(self, planes: Sequence[Plane], seconds: float) -> None:
        for track_id, trail in list(self._trails.items()):
            while trail.points and trail.points[0][0] < seconds - TRAIL_SECONDS:
                trail.points.popleft()
            if not trail.points:
                del self._trails[track_id]
                continue
            path = np.array([point[1:] for point in trail.points], np.int32)
            for plane, value, half in _parts(planes, track_color(track_id, self._tags, self._bits)):
                cv2.polylines(plane, [path >> half], False, value, max(1, self._thickness >> half))  # noqa: FBT003

    def _label(
        self, planes: Sequence[Plane], text: str, x: int, y: int, color: tuple[int, int, int]
    ) -> None:
        font, line = cv2.FONT_HERSHEY_SIMPLEX, max(1, self._thickness // 2)
        (width, height), below = cv2.getTextSize(text, font, self._font_scale, line)
        bottom = max(y, height + below)
        top = bottom - height - below
        for plane, value, half in _parts(planes, color):
            cv2.rectangle(
                plane,
                (x >> half, top >> half),
                ((x + width) >> half, bottom >> half),
                value,
                cv2.FILLED,
            )
        ink = self._ink(color[0])
        cv2.putText(
            planes[0], text, (x, bottom - below), font, self._font_scale, ink, line, cv2.LINE_AA
        )

    def _ink(self, luma: int) -> int:
        """Black on a light label, white on a dark one."""
        black, span, _, _ = levels(self._bits, self._tags.full_range)
        return round(black) if luma > black + span / 2 else round(black + span)


def track_color(track_id: int, tags: ColorTags, bits: int) -> tuple[int, int, int]:
    """The colour of a track as Y, Cb, Cr code values; the same id always has the same."""
    r, g, b = colorsys.hsv_to_rgb(track_id * _GOLDEN_ANGLE % 1, 0.75, 1.0)
    kr, kb = LUMA_WEIGHTS[tags.matrix]
    y = kr * r + (1 - kr - kb) * g + kb * b
    black, luma_span, middle, chroma_span = levels(bits, tags.full_range)
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    return (
        round(black + luma_span * y),
        round(middle + chroma_span * cb),
        round(middle + chroma_span * cr),
    )


def _parts(planes: Sequence[Plane], color: tuple[int, int, int]) -> Iterator[tuple[Any, int, int]]:
    """(plane, code value, how often to halve a coordinate) of the three planes."""
    return zip(planes, color, (0, 1, 1), strict=True)
