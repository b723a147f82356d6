"""The samples of a plane at any places between them: moved by a hundredth of a pixel, larger, or
smaller without aliasing.

Pure arithmetic on one plane. Each axis is a Lanczos filter (three lobes; stretched where the result
is coarser than the source, so that nothing finer than it can show gets through) written as small
dense matrices along its band: exact for every offset, where a table of filter phases would move a
slow pan in steps. At the edge of the image the filter's weights that fall outside go to those
inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOBES = 3
"""Four taps (cubic) sharpen and soften visibly while a window moves over half pixels; six hardly
do."""
_BLOCK = 32
"""Results computed by one matrix: at scale 1 it has 38 inputs, small enough for the cache, large
enough for BLAS."""
_ONE_THREAD = 1 << 18
"""Multiplications of one product. Up to here OpenBLAS wakes no threads (65536 *
GEMM_MULTITHREAD_THRESHOLD of 4, in its interface/gemm.c); they would fight with decoder and encoder
for the cores: 4 to 60 ms a plane on two busy ones, against 1.3."""
_EXACT = 1e-6
"""Samples. Closer to a whole sample than this is on it."""

Floats = NDArray[np.float32]
Samples = NDArray[Any]
"""Numbers of one plane, shape (height, width), uint8, uint16 or float32."""


@dataclass(frozen=True)
class Axis:
    """Where the samples of a plane lie along one axis of the image, in its pixels: number k at
    `first + k * step`.

    A pixel's middle is at .5, so luma has first = .5, step = 1.
    """

    count: int
    first: float
    step: float

    def flipped(self, length_px: float) -> Axis:
        """The same samples, counted from the other end of an image of that length."""
        return Axis(self.count, length_px - self.first - (self.count - 1) * self.step, self.step)

    def part(self, start_px: int, stop_px: int) -> Axis:
        """The samples from one pixel to before another; both whole multiples of `step`."""
        skipped = round(start_px / self.step)
        return Axis(
            round(stop_px / self.step) - skipped, self.first + skipped * self.step, self.step
        )

    def mapped(self, start: float, scale: float) -> Axis:
        """The places of the samples in another image, whose place `start + scale * p` is this
        one's p."""
        return Axis(self.count, start + scale * self.first, scale * self.step)


@dataclass(frozen=True)
class Band:
    """The filter of one axis."""

    start: int
    """First sample of the source that is needed."""
    stop: int
    """One after the last one."""
    blocks: tuple[tuple[int, int, Floats], ...] | None
    """(first sample, one after the last, matrix of shape (results, samples)), sample numbers
    counted from `start`; results in order. None: the samples as they are."""
    count: int
    """Results."""


@lru_cache(maxsize=32)
def band(source: Axis, wanted: Axis) -> Band:
    """The filter that finds the values at the places `wanted` between the samples of `source`."""
    ratio = wanted.step / source.step
    offset = (wanted.first - source.first) / source.step
    if abs(ratio - 1) < _EXACT / wanted.count and abs(offset - round(offset)) < _EXACT:
        first = round(offset)
        if first >= 0 and first + wanted.count <= source.count:
            return Band(first, first + wanted.count, None, wanted.count)
    first, weights = _taps(offset + ratio * np.arange(wanted.count), max(1.0, ratio), source.count)
    taps = weights.shape[1]
    start, stop = int(first[0]), int(first[-1]) + taps
    blocks: list[tuple[int, int, Floats]] = []
    for row in range(0, wanted.count, _BLOCK):
        rows = slice(row, min(row + _BLOCK, wanted.count))
        low, high = int(first[rows][0]), int(first[rows][-1]) + taps
        matrix = np.zeros((rows.stop - rows.start, high - low), np.float32)
        np.put_along_axis(
            matrix,
            first[rows, None] - low + np.arange(taps),
            weights[rows].astype(np.float32),
            axis=1,
        )
        blocks.append((low - start, high - start, matrix))
    return Band(start, stop, tuple(blocks), wanted.count)


def _taps(
    positions: NDArray[np.floating[Any]], stretch: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
    """For each place, shape (n,), rising, in samples: the first tap's sample and the weights of the
    taps, shape (n, taps). All taps are samples from 0 to before `count`."""
    positions = np.clip(positions, -0.5 * stretch, count - 1 + 0.5 * stretch)
    reach = LOBES * stretch
    taps = min(int(np.ceil(2 * reach)) + 1, count)
    first = np.clip(np.ceil(positions - reach).astype(np.int64), 0, count - taps)
    distance = (first[:, None] + np.arange(taps) - positions[:, None]) / stretch
    weights = np.where(np.abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0.0)
    return first, weights / weights.sum(1, keepdims=True)


def resampled(
    plane: Samples, rows: Axis, columns: Axis, wanted_rows: Axis, wanted_columns: Axis
) -> Samples:
    """The values of a plane at other places.

    Args:
        plane: its samples lie at `rows` and `columns`.
        wanted_rows: where values are wanted, in the same pixels.

    Returns:
        Shape (wanted_rows.count, wanted_columns.count): float32, not rounded and perhaps a little
            beyond the source's range; or
        a view of the source's own samples where they lie just there.
    """
    down, across = band(rows, wanted_rows), band(columns, wanted_columns)
    part = plane[down.start : down.stop, across.start : across.stop]
    if across.blocks is None and down.blocks is None:
        return part
    values: Floats = np.ascontiguousarray(part, np.float32)
    if across.blocks is not None:
        values = _filtered(values.T, across).T
    return values if down.blocks is None else _filtered(values, down)


def _filtered(values: Floats, one: Band) -> Floats:
    """The filter along the first axis: shape (samples, columns) -> (results, columns), in the
    memory order it came in."""
    rows_first = values.flags.c_contiguous
    results = np.empty((one.count, values.shape[1]), np.float32, order="C" if rows_first else "F")
    done = 0
    for low, high, matrix in one.blocks or ():
        until = done + len(matrix)
        width = max(1, _ONE_THREAD // matrix.size)
        for column in range(0, values.shape[1], width):
            columns = slice(column, column + width)
            if rows_first:
                np.matmul(matrix, values[low:high, columns], out=results[done:until, columns])
            else:  # the same product, seen from the side: both are then rows in memory
                np.matmul(values.T[columns, low:high], matrix.T, out=results.T[columns, done:until])
        done = until
    return results
