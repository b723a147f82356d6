"""The metric code against published figures of the TUD sequences and against cases small enough to
compute by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mot_metrics import Boxes, score

# py-motmetrics' Readme: the same two files scored by its authors.
PUBLISHED = {
    "TUD-Campus": {
        "idf1": 0.558,
        "mota": 0.526,
        "motp": 0.277,
        "false_positives": 13,
        "misses": 150,
        "switches": 7,
    },
    "TUD-Stadtmitte": {
        "idf1": 0.645,
        "mota": 0.564,
        "motp": 0.346,
        "false_positives": 45,
        "misses": 452,
        "switches": 7,
    },
}


@pytest.mark.parametrize("clip", PUBLISHED)
def test_published_figures(media: Path, clip: str) -> None:
    folder = media / "tracking" / "tud" / clip
    scores = score(Boxes.read(folder / "gt.txt"), Boxes.read(folder / "test.txt"))
    found = {name: round(float(getattr(scores, name)), 3) for name in PUBLISHED[clip]}
    assert found == PUBLISHED[clip]


def _line(identities: list[int]) -> Boxes:
    """One thing that stands still, under the given identity in each frame."""
    return Boxes.of(
        (frame, identity, (0.0, 0.0, 10.0, 10.0)) for frame, identity in enumerate(identities)
    )


def test_a_perfect_result() -> None:
    scores = score(_line([1] * 4), _line([9] * 4))
    assert (scores.mota, scores.motp, scores.idf1, scores.hota, scores.switches) == (
        1.0,
        0.0,
        1.0,
        1.0,
        0,
    )


def test_one_switch_in_the_middle() -> None:
    scores = score(_line([1] * 4), _line([1, 1, 2, 2]))
    # One of four is a switch; the best identity covers two of four boxes; each hit has TPA 2, FNA
    # 2, FPA 0: A = 2/4.
    assert (scores.switches, scores.mota, scores.idf1) == (1, 0.75, 0.5)
    assert (scores.deta, scores.assa) == (1.0, 0.5)
    assert scores.hota == pytest.approx(0.5**0.5)


def test_half_overlap_counts_at_half_of_the_thresholds() -> None:
    truth = Boxes.of([(0, 1, (0.0, 0.0, 10.0, 10.0))])
    result = Boxes.of([(0, 1, (0.0, 0.0, 10.0, 5.0))])
    # IoU 0.5 passes 0.05, 0.10 .. 0.50: ten of nineteen.
    assert score(truth, result).hota == pytest.approx(10 / 19)


def test_nothing_found_and_nothing_there() -> None:
    empty = Boxes.of([])
    assert score(_line([1, 1]), empty).mota == 0.0
    assert score(empty, _line([1, 1])).idf1 == 0.0
