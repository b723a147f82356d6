"""Clips with bars and clips of dark scenes, of which every pixel is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from support import clips

SIZE = (320, 180)
BLACK = (0, 0, 0)

Rgb = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels."""


@cache
def scenery(width: int, height: int, seed: int = 0) -> Rgb:
    """Noise of a natural spectrum around a medium grey."""
    dice = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / max(width, height))
    image = np.fft.ifft2(np.fft.fft2(dice.normal(size=(height, width))) * falling).real
    gray = np.clip(120 + 45 * image / image.std(), 5, 250).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def barred(
    *shots: Box,
    every: int = 10,
    color: tuple[int, int, int] = BLACK,
    noise: float = 0.0,
    light: Callable[[int], float] = lambda _: 1.0,
) -> clips.Painter:
    """A scene in a part of the frame, another part and scene every so many frames; the rest is of
    one colour, with noise of that deviation over all. `light` dims whole frames."""

    def paint(index: int, width: int, height: int) -> Rgb:
        x1, y1, x2, y2 = shots[index // every % len(shots)]
        image = np.full((height, width, 3), color, np.float32)
        scene = scenery(width, height, index // every)
        image[y1:y2, x1:x2] = np.roll(scene, 2 * index, axis=1)[y1:y2, x1:x2]
        return noisy(image * light(index), noise, index)

    return paint


def noisy(image: NDArray[np.float32], deviation: float, seed: int) -> Rgb:
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape) if deviation else 0
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def dark(
    lit: Callable[[int], Sequence[tuple[float, float, float, float]]],
    noise: float = 0.0,
    floor: int = 2,
) -> clips.Painter:
    """A night: ellipses of light (x, y, and both radii, as shares of the frame's height), each
    brightest in its middle."""

    def paint(index: int, width: int, height: int) -> Rgb:
        rows, columns = (np.mgrid[0:height, 0:width] + 0.5) / height
        gray = np.full((height, width), float(floor), np.float32)
        for x, y, across, down in lit(index):
            far = np.hypot((columns - x) / across, (rows - y) / down)
            gray += 180 * np.clip(1 - far, 0, 1).astype(np.float32)
        return noisy(np.repeat(gray[:, :, None], 3, axis=2), noise, index)

    return paint


def rectangle(
    position: Callable[[int], Box], background: int, brightness: int = 200
) -> clips.Painter:
    """Something flat on something flat."""

    def paint(index: int, width: int, height: int) -> Rgb:
        image = np.full((height, width, 3), background, np.uint8)
        x1, y1, x2, y2 = position(index)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), (brightness,) * 3, -1)
        return image

    return paint
