"""The last layers of an RRDB network, computed a band of rows at a time: the same numbers from a
fraction of the memory.

Nearly all memory of an RRDB network is its tail's, three tensors of 64 channels at 16 times the
pixels, though the tail is 8 % of its arithmetic. It reads less than two input pixels to each side,
so it can run on bands of rows that overlap by so much; the trunk, whose receptive field is some 350
px, still sees the whole frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BAND_PIXELS = 32_768
"""Input pixels of a band: half a million at 4x, enough to fill any GPU, and 64 channels of them are
67 MB in half precision."""
HALO_ROWS = 2
"""Input rows that a band sees of its neighbours. A x4 tail reaches 1/2 + 1/4 + 1/4 + 1/4 of an
input row; a x1 tail, the widest, 2."""
_TRUNK_LAYERS = 2
"""The trunk is this many layers of spandrel's sequence: the first convolution and the residual of
all blocks. The tail follows."""


class BandedTail(nn.Module):
    """A chain of 3x3 convolutions with zero padding and nearest-neighbour enlargements, run band by
    band.

    Args:
        tail: features [N, C, H, W] -> [N, c, H * scale, W * scale].
        scale: of the tail.
    """

    def __init__(self, tail: nn.Module, scale: int) -> None:
        super().__init__()
        self.tail = tail
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        count, _, height, width = features.shape
        rows = max(1, BAND_PIXELS // (count * width))
        if rows >= height:
            return self.tail(features)
        bands = [
            self._band(features, top, min(top + rows, height)) for top in range(0, height, rows)
        ]
        return torch.cat(bands, dim=2)

    def _band(self, features: Tensor, top: int, bottom: int) -> Tensor:
        """Rows `top` to `bottom` of the input, enlarged."""
        first, last = max(0, top - HALO_ROWS), min(features.shape[2], bottom + HALO_ROWS)
        band = self.tail(features[:, :, first:last])
        return band[:, :, (top - first) * self.scale : (bottom - first) * self.scale]


def band_tail(net: nn.Module) -> None:
    """Changes spandrel's RRDBNet itself to run its tail in bands."""
    model: Any = net.model
    scale: Any = net.scale
    net.model = nn.Sequential(*model[:_TRUNK_LAYERS], BandedTail(model[_TRUNK_LAYERS:], int(scale)))
