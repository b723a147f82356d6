"""Similarity transforms between an image and an aligned square face, on the device.

A transform is a (2, 3) matrix from pixel coordinates to pixel coordinates, 0 being the centre of
the first pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Matrix = NDArray[np.float64]


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix:
    """Rotation, uniform scale and shift that bring `source` points (N, 2) closest to `target`
    points (Umeyama 1991, without mirroring)."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    u, spread, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = u @ flip @ vt
    scale = float(np.sum(spread * np.diag(flip)) / np.sum(a**2))
    linear = scale * rotation
    return _matrix(linear, target_mean - linear @ source_mean)


def invert(matrix: Matrix) -> Matrix:
    """The transform back."""
    linear = np.linalg.inv(matrix[:, :2])
    return _matrix(linear, -(linear @ matrix[:, 2]))


def enlarged(matrix: Matrix, factor_x: float, factor_y: float) -> Matrix:
    """The same transform for an image whose pixels are `factor` times as many: (x + 0.5) * factor
    - 0.5 is where x went."""
    back = np.array(
        [
            [1 / factor_x, 0, 0.5 / factor_x - 0.5],
            [0, 1 / factor_y, 0.5 / factor_y - 0.5],
            [0, 0, 1],
        ]
    )
    return matrix @ back


def zoom(matrix: Matrix) -> float:
    """How many pixels one pixel becomes along an edge."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def sample(
    image: Tensor,
    to_image: Matrix,
    left: int,
    top: int,
    width: int,
    height: int,
    border: str = "border",
) -> Tensor:
    """The window (left, top, width, height) of a target whose pixels lie at `to_image` in the
    image.

    Args:
        image: float [C, H, W]. Averaged first where the window has far fewer pixels than what it
            shows.
        border: "border" repeats the outermost pixels, "zeros" is black outside.

    Returns:
        float [C, height, width], bicubic; at a full-pixel shift exactly the image's own pixels.
    """
    shrink = max(1, round(zoom(to_image)))
    if shrink > 1:
        image = functional.avg_pool2d(image[None], shrink, ceil_mode=True, count_include_pad=False)[
            0
        ]
        to_image = enlarged_target(to_image, 1 / shrink)
    size = torch.tensor([image.shape[2], image.shape[1]], dtype=torch.float32, device=image.device)
    matrix = torch.tensor(to_image, dtype=torch.float32, device=image.device)
    xs = torch.arange(left, left + width, dtype=torch.float32, device=image.device)
    ys = torch.arange(top, top + height, dtype=torch.float32, device=image.device)
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    places = torch.stack([grid_x, grid_y, torch.ones_like(grid_x)], dim=-1) @ matrix.T
    normal = (2 * places + 1) / size - 1
    return functional.grid_sample(
        image[None], normal[None], "bicubic", border, align_corners=False
    )[0]


def enlarged_target(matrix: Matrix, factor: float) -> Matrix:
    """The same transform into an image whose pixels are `factor` times as many."""
    return np.array([[factor, 0], [0, factor]]) @ matrix + np.array([[0, 0, 0.5 * factor - 0.5]])


def window(matrix: Matrix, edge: int, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the part of an image that a square of `edge` pixels covers
    after `matrix`."""
    corners = np.array(
        [[-0.5, -0.5, 1], [edge - 0.5, -0.5, 1], [-0.5, edge - 0.5, 1], [edge - 0.5, edge - 0.5, 1]]
    )
    places = corners @ matrix.T
    left, top = np.maximum(np.floor(places.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(places.max(axis=0)) + 1, [width, height]).astype(int)
    return int(left), int(top), max(0, int(right - left)), max(0, int(bottom - top))


def _matrix(linear: NDArray[Any], shift: NDArray[Any]) -> Matrix:
    matrix = np.empty((2, 3))
    matrix[:, :2], matrix[:, 2] = linear, shift
    return matrix
