"""Tile plans: cover every pixel, one shape, weights that add up to 1."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker_processors.models.sr.tiles import Plan, min_tile, plan, plan_for_pixels, ramps

LENGTHS = st.integers(1, 5000)
TILES = st.integers(0, 1200)
OVERLAPS = st.sampled_from([16, 32, 48])


@settings(deadline=None)
@given(LENGTHS, LENGTHS, TILES, OVERLAPS)
def test_tiles_cover_the_frame_and_stay_inside(
    height: int, width: int, tile: int, overlap: int
) -> None:
    made = plan(height, width, tile, overlap)
    for length, edge, starts in ((height, made.height, made.tops), (width, made.width, made.lefts)):
        assert starts[0] == 0
        assert starts[-1] + edge == length
        assert all(
            0 < after - before <= edge - overlap
            for before, after in zip(starts, starts[1:], strict=False)
        )
        if tile >= min_tile(overlap):
            assert edge <= max(tile, 1) or edge == length <= tile
    assert made.count == len(made.boxes())


@settings(deadline=None)
@given(st.integers(64, 2000), st.integers(64, 400), OVERLAPS, st.sampled_from([1, 2, 4]))
def test_blend_weights_add_up_to_one(length: int, tile: int, overlap: int, scale: int) -> None:
    made = plan(length, length, tile, overlap)
    weights = ramps(
        tuple(s * scale for s in made.tops), made.height * scale, length * scale, overlap * scale
    )
    total = [0.0] * (length * scale)
    for start, row in zip(made.tops, weights, strict=True):
        assert min(row) >= 0
        for i, weight in enumerate(row):
            total[start * scale + i] += weight
    assert total == pytest.approx([1.0] * len(total))


def test_the_outermost_pixels_of_a_seam_weigh_nothing_and_the_frame_border_weighs_all() -> None:
    made = plan(300, 300, 128, 32)
    first, *_, last = ramps(made.tops, made.height, 300, 32)
    assert first[0] == 1.0 and first[-1] == 0.0
    assert last[0] == 0.0 and last[-1] == 1.0


@pytest.mark.parametrize(
    ("height", "width", "tile", "expected"),
    [
        (144, 176, 0, Plan(144, 176, (0,), (0,))),
        (144, 176, 176, Plan(144, 176, (0,), (0,))),
        (100, 300, 150, Plan(100, 122, (0,), (0, 89, 178))),
    ],
)
def test_known_plans(height: int, width: int, tile: int, expected: Plan) -> None:
    assert plan(height, width, tile, 32) == expected


@settings(deadline=None)
@given(LENGTHS, LENGTHS, st.integers(1, 10_000_000), OVERLAPS)
def test_a_pixel_budget_is_kept_down_to_the_smallest_tile(
    height: int, width: int, pixels: int, overlap: int
) -> None:
    made = plan_for_pixels(height, width, pixels, overlap)
    smallest = plan(height, width, min_tile(overlap), overlap)
    assert made.pixels <= max(pixels, smallest.pixels)
    if height * width <= pixels:
        assert made.count == 1
