"""Denoising before the network, for networks that have no weights for it: non-local means on the
device.

Buades, Coll, Morel (2005): every pixel becomes the average of the pixels around it whose patches
are like its own. Edges and texture stay because only like patches are averaged. No frame takes part
in the next one's result, so motion cannot smear.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SEARCH_RADIUS_PX = 3
PATCH_RADIUS_PX = 2
MAX_SIGMA = 16 / 255
"""Standard deviation of the noise that strength 1 removes; visible, heavy grain. Strength s assumes
s times that."""


def denoise(rgb: Tensor, strength: float) -> Tensor:
    """
    Args:
        rgb: float32 (n, 3, height, width), 0..1.
        strength: 0..1; 0 returns the input.

    Returns:
        Same shape and range.
    """
    if strength <= 0:
        return rgb
    sigma = strength * MAX_SIGMA
    # Two noisy patches of the same frame differ by 2 sigma^2 on average; h = sigma is the usual
    # choice at this patch size.
    floor, scale = 2 * sigma**2, -1 / (sigma**2)
    reach = SEARCH_RADIUS_PX
    height, width = rgb.shape[-2:]
    padded = functional.pad(rgb, (reach,) * 4, mode="replicate")
    total = torch.zeros_like(rgb)
    weights = torch.zeros_like(rgb[:, :1])
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            other = padded[..., down : down + height, right : right + width]
            weight = _distance(rgb, other).sub_(floor).clamp_(min=0).mul_(scale).exp_()
            total.addcmul_(other, weight)
            weights.add_(weight)
    return total.div_(weights)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of the patches around each pixel, shape (n, 1, height, width)."""
    squared = (a - b).square_().mean(1, keepdim=True)
    side = 2 * PATCH_RADIUS_PX + 1
    return functional.avg_pool2d(
        squared, side, stride=1, padding=PATCH_RADIUS_PX, count_include_pad=False
    )
