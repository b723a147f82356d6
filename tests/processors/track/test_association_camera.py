"""The camera's motion on textures that were warped by a known amount."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gpu_worker_processors.track.association.camera import Camera, Warp, warped

Gray = NDArray[np.uint8]
SCALE = 8.0
HEIGHT, WIDTH = 150, 266
"""Within what is looked at, so that nothing is reduced."""
NOBODY = np.zeros((0, 4))


def _texture(seed: int, contrast: float = 1.0) -> Gray:
    """Noise with detail at three sizes, as real pictures have, 0..255."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)), (0, 0), sigma)
        for sigma in (1.5, 5.0, 15.0)
    ]
    return np.clip(
        128 + contrast * 30 * sum(layer / layer.std() for layer in layers), 0, 255
    ).astype(np.uint8)


def _warped_picture(gray: Gray, warp: Warp) -> Gray:
    """What the picture shows after a motion given in source pixels. Coordinates count from the
    corner of a pixel."""
    matrix = np.array([[warp.a, -warp.b, warp.dx / SCALE], [warp.b, warp.a, warp.dy / SCALE]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return np.asarray(
        cv2.warpAffine(
            gray, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        ),
        np.uint8,
    )


def _followed(before: Gray, after: Gray, boxes: NDArray[np.float64] = NOBODY) -> Warp | None:
    camera = Camera()
    assert camera.follow(before, SCALE) is None
    camera.seek_corners(SCALE, before.shape, boxes)
    return camera.follow(after, SCALE)


@pytest.mark.parametrize(
    ("turn_degrees", "zoom", "dx", "dy"),
    [
        (0, 1, 0, 0),
        (0, 1, 33, -12),
        (0, 1, 150, 0),
        (1, 1, 0, 0),
        (0, 1.03, 0, 0),
        (0.5, 0.98, 40, 8),
    ],
)
def test_a_known_motion_is_found_to_an_eighth_of_a_pixel_of_the_picture(
    turn_degrees: float, zoom: float, dx: float, dy: float
) -> None:
    turn = math.radians(turn_degrees)
    truth = Warp(zoom * math.cos(turn), zoom * math.sin(turn), dx, dy)
    picture = _texture(1)
    found = _followed(picture, _warped_picture(picture, truth))
    assert found is not None
    boxes = np.array(
        [[0, 0, 80, 160], [1000, 600, 1080, 760], [2000, 1000, 2080, 1160]], np.float64
    )
    assert np.abs(warped(boxes, found) - warped(boxes, truth)).max() < SCALE / 8


def test_a_crowd_does_not_pass_for_the_camera() -> None:
    # Strong texture in two thirds of the picture moves right; the faint background moves left.
    crowd, background = _texture(2), _texture(3, contrast=0.2)
    before, after = background.copy(), np.roll(background, -2, axis=1)
    before[:, 60:240], after[:, 63:243] = crowd[:, 60:240], crowd[:, 60:240]
    box = np.array([[60, 0, 243, HEIGHT]], np.float64) * SCALE
    found = _followed(before, after, box)
    assert found is not None
    assert (round(found.dx), round(found.dy)) == (-16, 0)


def test_pictures_of_two_places_are_no_motion() -> None:
    assert _followed(_texture(4), _texture(5)) is None
    assert _followed(np.zeros((HEIGHT, WIDTH), np.uint8), _texture(5)) is None


def test_a_picture_of_another_size_starts_anew() -> None:
    camera = Camera()
    camera.follow(_texture(1), SCALE)
    camera.seek_corners(SCALE, (HEIGHT, WIDTH), NOBODY)
    assert camera.follow(_texture(1)[:100], SCALE) is None


def test_a_large_picture_is_looked_at_small_and_measured_the_same() -> None:
    small = _texture(1)
    moved = _warped_picture(small, Warp(1.0, 0.0, 40.0, 0.0))
    large = [
        cv2.resize(one, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC) for one in (small, moved)
    ]
    camera = Camera()
    camera.follow(np.asarray(large[0], np.uint8), SCALE / 3)
    camera.seek_corners(SCALE / 3, (3 * HEIGHT, 3 * WIDTH), NOBODY)
    found = camera.follow(np.asarray(large[1], np.uint8), SCALE / 3)
    assert found is not None
    assert abs(found.dx - 40) < 0.5
