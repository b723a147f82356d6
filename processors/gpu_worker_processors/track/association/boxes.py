"""Arithmetic of boxes: overlap, growth, centres. Pure functions over float64 corner boxes, x1, y1,
x2, y2 in pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def iou(one: Floats, other: Floats) -> Floats:
    """(n, 4) and (m, 4) boxes to the (n, m) intersection over union, 0..1."""
    x1 = np.maximum(one[:, None, 0], other[None, :, 0])
    y1 = np.maximum(one[:, None, 1], other[None, :, 1])
    x2 = np.minimum(one[:, None, 2], other[None, :, 2])
    y2 = np.minimum(one[:, None, 3], other[None, :, 3])
    shared = np.maximum(x2 - x1, 0.0) * np.maximum(y2 - y1, 0.0)
    total = area(one)[:, None] + area(other)[None] - shared
    return shared / np.maximum(total, 1e-9)


def height_overlap(one: Floats, other: Floats) -> Floats:
    """(n, 4) and (m, 4) boxes to the (n, m) intersection over union of their vertical extents,
    0..1."""
    shared = np.minimum(one[:, None, 3], other[None, :, 3]) - np.maximum(
        one[:, None, 1], other[None, :, 1]
    )
    total = np.maximum(one[:, None, 3], other[None, :, 3]) - np.minimum(
        one[:, None, 1], other[None, :, 1]
    )
    return np.maximum(shared, 0.0) / np.maximum(total, 1e-9)


def area(boxes: Floats) -> Floats:
    """(n, 4) boxes to their (n,) areas."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def grown(boxes: Floats, share: float) -> Floats:
    """Every box (n, 4) with `share` of its width and height added on each side."""
    margin = share * np.concatenate([boxes[:, 2:] - boxes[:, :2]] * 2, axis=1)
    margin[:, :2] *= -1
    return boxes + margin


def to_centre(boxes: Floats) -> Floats:
    """Corner boxes (n, 4) to centre x, centre y, width, height; no side under 1e-3 px."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, size], axis=1)


def to_corners(centred: Floats) -> Floats:
    """Centre x, centre y, width, height (n, 4) to corner boxes."""
    half = np.maximum(centred[:, 2:], 1e-3) / 2
    return np.concatenate([centred[:, :2] - half, centred[:, :2] + half], axis=1)
