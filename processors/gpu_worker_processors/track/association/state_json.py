"""Reads arrays out of foreign JSON: a tracker's state comes back from whoever stored it, so nothing
in it is taken on trust."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e12
"""No coordinate, speed, variance or time of a real video is beyond it."""


def floats(data: Any, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """`data` as finite float64 of `shape`, where None is any length. An empty list stands for any
    empty shape."""
    array = np.asarray(data, np.float64)
    if array.size == 0 and 0 in shape:
        return np.zeros([size or 0 for size in shape])
    if array.ndim != len(shape) or any(
        want not in (None, have) for have, want in zip(array.shape, shape, strict=True)
    ):
        raise ValueError(f"an array of shape {array.shape} where {shape} is due")
    if not np.all(np.abs(array) < LARGEST):
        raise ValueError("a number out of range")
    return array


def integers(data: Any, shape: tuple[int | None, ...], low: int, high: int) -> NDArray[np.int64]:
    """`data` as int64 of `shape`, each low..high."""
    array = floats(data, shape)
    if array.size and not (
        np.all(array == np.floor(array)) and array.min() >= low and array.max() <= high
    ):
        raise ValueError(f"an integer outside {low}..{high}")
    return array.astype(np.int64)


def sequence(data: Any, count: int) -> list[Any]:
    """`data` as a list of `count` items."""
    if not isinstance(data, list | tuple) or len(data) != count:
        raise ValueError(f"a list of {count} is due")
    return list(data)
