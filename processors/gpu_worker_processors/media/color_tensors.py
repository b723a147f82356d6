"""YUV to RGB and back as arithmetic on the device, by the tags of `color`.

Chroma is taken as co-sited with the left luma sample of its pair and centred between rows, the
default of MPEG-2, H.264, HEVC and AV1, on both legs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpu_worker_processors.media.color import LUMA_WEIGHTS, ColorTags, levels


class ToRgb:
    """Planes of one frame -> float32 RGB on the device.

    Args:
        tags: what the planes mean. Planes of an RGB source are taken as full range.
        device: where the arithmetic runs.
    """

    def __init__(self, tags: ColorTags, device: torch.device) -> None:
        self._tags = tags
        self._device = device
        self._taps: dict[tuple[int, int, bool], tuple[Tensor, Tensor]] = {}

    def __call__(self, planes: Sequence[Tensor], bits: int, *, is_rgb: bool = False) -> Tensor:
        """
        Args:
            planes: Y, Cb, Cr; or only Y; or R, G, B: integers of shape (height, width), chroma
                subsampled by any factor.
            bits: depth of the code values, 8 to 16.

        Returns:
            float32 of shape (3, height, width), 0..1.
        """
        loaded = [plane.to(self._device, non_blocking=True).float() for plane in planes]
        if is_rgb:
            return torch.stack(loaded).div_(float((1 << bits) - 1)).clamp_(0, 1)
        black, luma_span, middle, chroma_span = levels(bits, self._tags.full_range)
        y = loaded[0].sub_(black).div_(luma_span)
        if len(loaded) == 1:
            return y.clamp_(0, 1).expand(3, -1, -1).contiguous()
        cb, cr = (
            self._upsampled(plane.sub_(middle).div_(chroma_span), y.shape) for plane in loaded[1:3]
        )
        kr, kb = LUMA_WEIGHTS[self._tags.matrix]
        red = y + (2 - 2 * kr) * cr
        blue = y + (2 - 2 * kb) * cb
        green = (y - kr * red - kb * blue) / (1 - kr - kb)
        return torch.stack([red, green, blue]).clamp_(0, 1)

    def _upsampled(self, plane: Tensor, shape: torch.Size) -> Tensor:
        height, width = shape
        if plane.shape[0] != height:
            plane = self._stretch(plane, height, 0)
        return plane if plane.shape[1] == width else self._stretch(plane, width, 1)

    def _stretch(self, plane: Tensor, size: int, dim: int) -> Tensor:
        """Cubic interpolation of one axis: rows are centred between luma rows, columns co-sited
        with the left luma column."""
        key = (plane.shape[dim], size, dim == 0)
        if key not in self._taps:
            self._taps[key] = _cubic_taps(
                plane.shape[dim], size, centred=dim == 0, device=self._device
            )
        indices, weights = self._taps[key]
        shape = (-1, 1) if dim == 0 else (1, -1)
        parts = [
            plane.index_select(dim, indices[tap]) * weights[tap].view(shape) for tap in range(4)
        ]
        return parts[0].add_(parts[1]).add_(parts[2]).add_(parts[3])


def _cubic_taps(
    source: int, size: int, *, centred: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(indices, weights), both of shape (4, size): Catmull-Rom interpolation, two or four samples
    for one, edges repeated."""
    ratio = 2 if size <= 2 * source else 4
    offset = (ratio - 1) / 2 if centred else 0.0
    position = (torch.arange(size, dtype=torch.float64) - offset) / ratio
    first = position.floor()
    t = position - first
    weights = torch.stack(
        [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]
    )
    indices = torch.stack([(first + step).clamp(0, source - 1) for step in (-1, 0, 1, 2)]).long()
    return indices.to(device), weights.float().to(device)


class FromRgb:
    """float32 RGB on the device -> integer Y, Cb, Cr planes on the device, ready for an encoder.

    Args:
        tags: what the planes shall mean.
        bits: 8, or more.
        half_height: 4:2:0 when true, 4:2:2 otherwise.
    """

    def __init__(self, tags: ColorTags, *, bits: int, half_height: bool) -> None:
        self._tags = tags
        self._bits = bits
        self._half_height = half_height

    def __call__(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            rgb: float32 of shape (n, 3, height, width), 0..1, even width (and even height for
                4:2:0).

        Returns:
            Three tensors, (n, height, width) and twice (n, height / 2 or height, width / 2); uint8,
                or int16 above 8 bit.
        """
        kr, kb = LUMA_WEIGHTS[self._tags.matrix]
        black, luma_span, middle, chroma_span = levels(self._bits, self._tags.full_range)
        y = _luma(rgb, kr, kb)
        small = _halved(rgb, self._half_height)
        small_y = _luma(small, kr, kb)
        cb = small[:, 2].sub(small_y).mul_(chroma_span / (2 - 2 * kb))
        cr = small[:, 0].sub(small_y).mul_(chroma_span / (2 - 2 * kr))
        return (
            self._coded(y.mul_(luma_span), black),
            self._coded(cb, middle),
            self._coded(cr, middle),
        )

    def _coded(self, values: Tensor, base: float) -> Tensor:
        """Adds `base` and rounds to the nearest code value."""
        coded = values.add_(base + 0.5).clamp_(0, (1 << self._bits) - 1 + 0.5)
        return coded.to(torch.uint8 if self._bits == 8 else torch.int16)


def _luma(rgb: Tensor, kr: float, kb: float) -> Tensor:
    return rgb[:, 1].mul(1 - kr - kb).add_(rgb[:, 0], alpha=kr).add_(rgb[:, 2], alpha=kb)


def _halved(rgb: Tensor, half_height: bool) -> Tensor:
    """Every second column, filtered (1 2 1)/4 around it; rows averaged in pairs for 4:2:0. Sums of
    slices: ten times as fast as torch's pooling on the CPU."""
    if half_height:
        rgb = rgb[..., 0::2, :] + rgb[..., 1::2, :]
    even, odd = rgb[..., 0::2], rgb[..., 1::2]
    result = torch.add(even, odd, alpha=0.5)
    result[..., 1:].add_(odd[..., :-1], alpha=0.5)
    result[..., :1].add_(even[..., :1], alpha=0.5)
    return result.mul_(0.25 if half_height else 0.5)
