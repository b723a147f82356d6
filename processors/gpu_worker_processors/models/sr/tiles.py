"""Tiles of one fixed shape that cover a frame: pure planning, no tensors' contents.

Every tile of a plan has the same shape, so one compiled kernel or one batch serves them all; tiles
lie evenly spread and inside the frame, neighbours share at least `overlap` pixels, and the blend
weights along one axis add up to exactly 1 everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Where the tiles of one frame lie, in input pixels."""

    height: int
    """The height of every tile."""
    width: int
    tops: tuple[int, ...]
    """First row of each row of tiles, rising."""
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        """Tiles per frame; 1 is the whole frame at once."""
        return len(self.tops) * len(self.lefts)

    @property
    def pixels(self) -> int:
        """Input pixels of one tile."""
        return self.height * self.width

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(row of tiles, column of tiles, top, left) of each tile."""
        return [
            (i, j, top, left)
            for i, top in enumerate(self.tops)
            for j, left in enumerate(self.lefts)
        ]


def plan(height: int, width: int, tile: int, overlap: int) -> Plan:
    """Covers a frame of `height` x `width` with tiles whose edges are at most `tile`; 0 is the
    whole frame.

    Tiles shrink to the smallest even edge that still needs no more of them, so little is computed
    twice.
    """
    tile_height, tops = _axis(height, tile, overlap)
    tile_width, lefts = _axis(width, tile, overlap)
    return Plan(tile_height, tile_width, tops, lefts)


def plan_for_pixels(height: int, width: int, pixels: int, overlap: int, longest: int = 0) -> Plan:
    """The plan with the fewest tiles of at most `pixels` input pixels each (and edges of at most
    `longest` unless 0).

    A budget below the smallest useful tile gives that tile: the caller sees from `Plan.pixels` that
    it did not fit.
    """
    smallest = min_tile(overlap)
    edge = min(longest, max(height, width)) if longest else max(height, width)
    candidate = plan(height, width, edge, overlap)
    while candidate.pixels > pixels and edge > smallest:
        edge = max(smallest, edge * 7 // 8)
        candidate = plan(height, width, edge, overlap)
    return candidate


def min_tile(overlap: int) -> int:
    """Shortest useful edge: half of a tile is its own, the rest shared with neighbours."""
    return max(32, 2 * overlap)


def ramps(starts: tuple[int, ...], tile: int, length: int, overlap: int) -> list[list[float]]:
    """Blend weights of each tile along one axis, `tile` numbers each, which add up to 1 at every
    pixel of the axis.

    The outer quarter of the overlap weighs nothing, as the network saw zero padding there; the
    inner half is a linear ramp. Edges of the frame itself have no ramp.
    """
    margin = overlap // 4
    rise = max(1, overlap - 2 * margin)
    raw: list[list[float]] = []
    for start in starts:
        first, last = start == 0, start + tile >= length
        raw.append(
            [
                _weight(i if not first else tile, tile - 1 - i if not last else tile, margin, rise)
                for i in range(tile)
            ]
        )
    total = [0.0] * length
    for start, weights in zip(starts, raw, strict=True):
        for i, weight in enumerate(weights):
            total[start + i] += weight
    return [
        [weight / total[start + i] for i, weight in enumerate(weights)]
        for start, weights in zip(starts, raw, strict=True)
    ]


def _weight(from_start: int, from_end: int, margin: int, rise: int) -> float:
    return min(1.0, max(0.0, (min(from_start, from_end) - margin + 0.5) / rise))


def _axis(length: int, tile: int, overlap: int) -> tuple[int, tuple[int, ...]]:
    if tile <= 0 or tile >= length:
        return length, (0,)
    tile = min(length, max(tile, min_tile(overlap)))
    if tile == length:
        return length, (0,)
    count = math.ceil((length - overlap) / (tile - overlap))
    tile = min(tile, math.ceil((length + (count - 1) * overlap) / count / 2) * 2)
    return tile, tuple(round(i * (length - tile) / (count - 1)) for i in range(count))
