"""The three families of tracking figures, from boxes with identities: CLEAR MOT, IDF1 and HOTA.

Accepts two tables (truth, result) of `Boxes`; pairs are judged by IoU frame by frame. Definitions:
Bernardin and Stiefelhagen 2008 (CLEAR), Ristani et al. 2016 (identity), Luiten et al. 2021 (HOTA).
`test_mot_metrics.py` holds CLEAR and identity against published figures, and HOTA against cases
computed by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

HOTA_ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The 19 localisation thresholds that HOTA averages over (Luiten et al., section 5)."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of a whole clip, in any order."""

    frames: NDArray[np.int64]
    """Shape (n,)."""
    ids: NDArray[np.int64]
    """Shape (n,)."""
    boxes: NDArray[np.float64]
    """Shape (n, 4): x1, y1, x2, y2 in pixels."""

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, tuple[float, float, float, float]]]) -> Boxes:
        """From rows of frame, identity, (x1, y1, x2, y2)."""
        rows = list(rows)
        boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
        return cls(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            boxes,
        )

    @classmethod
    def read(cls, path: Path) -> Boxes:
        """A MOTChallenge text file: frame, id, x, y, width, height, ..."""
        table = np.loadtxt(path, delimiter=",", ndmin=2, usecols=range(6))
        boxes = table[:, 2:6].copy()
        boxes[:, 2:] += boxes[:, :2]
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), boxes)

    def between(self, first: int, last: int) -> Boxes:
        """Only the frames first..last, both included."""
        inside = (self.frames >= first) & (self.frames <= last)
        return Boxes(self.frames[inside], self.ids[inside], self.boxes[inside])


@dataclass(frozen=True)
class Scores:
    """All figures of one clip. Shares are 0..1."""

    mota: float
    motp: float
    """Mean 1 - IoU of the matched pairs: smaller is better, as py-motmetrics prints it."""
    idf1: float
    hota: float
    deta: float
    assa: float
    false_positives: int
    misses: int
    switches: int
    idtp: int
    truths: int
    results: int


def iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4) and (m, 4) corner boxes to the (n, m) intersection over union, 0..1."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area = (
        np.prod(one[:, 2:] - one[:, :2], axis=1)[:, None]
        + np.prod(other[:, 2:] - other[:, :2], axis=1)[None]
    )
    return shared / np.maximum(area - shared, 1e-12)


@dataclass(frozen=True)
class _Frame:
    truth: NDArray[np.int64]
    result: NDArray[np.int64]
    overlap: NDArray[np.float64]


def _frames(truth: Boxes, result: Boxes) -> tuple[list[_Frame], int, int]:
    """Per frame the identities as 0-based ranks and the IoU of all pairs; how many identities there
    are in truth and result."""
    truth_names, truth_ids = np.unique(truth.ids, return_inverse=True)
    result_names, result_ids = np.unique(result.ids, return_inverse=True)
    frames: list[_Frame] = []
    for frame in np.unique(np.concatenate([truth.frames, result.frames])):
        here, there = truth.frames == frame, result.frames == frame
        overlap = iou(truth.boxes[here], result.boxes[there])
        frames.append(_Frame(truth_ids[here], result_ids[there], overlap))
    return frames, len(truth_names), len(result_names)


def _clear(frames: list[_Frame], least: float) -> tuple[int, int, int, float, int]:
    """False positives, misses, switches, summed distance and number of matches."""
    last: dict[int, int] = {}
    false, missed, switched, distance, matched = 0, 0, 0, 0.0, 0
    for frame in frames:
        pairs = _lasting_pairs(frame, last, least)
        free_truth = [i for i in range(len(frame.truth)) if i not in pairs]
        free_result = [j for j in range(len(frame.result)) if j not in set(pairs.values())]
        cost = 1 - frame.overlap[np.ix_(free_truth, free_result)]
        cost[cost > 1 - least] = 1e6
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < 1e6:
                pairs[free_truth[i]] = free_result[j]
        for i, j in pairs.items():
            before = last.get(int(frame.truth[i]))
            switched += int(before is not None and before != frame.result[j])
            last[int(frame.truth[i])] = int(frame.result[j])
            distance += float(1 - frame.overlap[i, j])
        matched += len(pairs)
        missed += len(frame.truth) - len(pairs)
        false += len(frame.result) - len(pairs)
    return false, missed, switched, distance, matched


def _lasting_pairs(frame: _Frame, last: dict[int, int], least: float) -> dict[int, int]:
    """Pairs of before that still overlap enough stay, whatever else would overlap more."""
    pairs: dict[int, int] = {}
    positions = {int(name): j for j, name in enumerate(frame.result)}
    for i, name in enumerate(frame.truth):
        j = positions.get(last.get(int(name), -1))
        if j is not None and j not in pairs.values() and frame.overlap[i, j] >= least:
            pairs[i] = j
    return pairs


def _identity(frames: list[_Frame], truths: int, results: int, least: float) -> int:
    """True positives of the best one-to-one mapping of identities over the whole clip."""
    together = np.zeros((truths, results))
    for frame in frames:
        i, j = np.nonzero(frame.overlap >= least)
        np.add.at(together, (frame.truth[i], frame.result[j]), 1)
    i, j = linear_sum_assignment(-together)
    return int(together[i, j].sum())


def _hota(frames: list[_Frame], truths: int, results: int) -> tuple[float, float, float]:
    """HOTA, DetA and AssA, each the mean over all thresholds."""
    potential, truth_count, result_count = (
        np.zeros((truths, results)),
        np.zeros(truths),
        np.zeros(results),
    )
    for frame in frames:
        total = frame.overlap.sum(0)[None] + frame.overlap.sum(1)[:, None] - frame.overlap
        share = np.divide(frame.overlap, total, out=np.zeros_like(total), where=total > 1e-12)
        potential[np.ix_(frame.truth, frame.result)] += share
        np.add.at(truth_count, frame.truth, 1)
        np.add.at(result_count, frame.result, 1)
    alignment = potential / np.maximum(truth_count[:, None] + result_count[None] - potential, 1e-12)
    matches = np.zeros((len(HOTA_ALPHAS), truths, results))
    for frame in frames:
        i, j = linear_sum_assignment(
            -(alignment[np.ix_(frame.truth, frame.result)] * frame.overlap)
        )
        for k, alpha in enumerate(HOTA_ALPHAS):
            good = frame.overlap[i, j] >= alpha - 1e-9
            np.add.at(matches[k], (frame.truth[i[good]], frame.result[j[good]]), 1)
    hits = matches.sum((1, 2))
    detection = hits / np.maximum(truth_count.sum() + result_count.sum() - hits, 1)
    jaccard = matches / np.maximum(
        truth_count[None, :, None] + result_count[None, None] - matches, 1
    )
    association = (matches * jaccard).sum((1, 2)) / np.maximum(hits, 1)
    return (
        float(np.sqrt(detection * association).mean()),
        float(detection.mean()),
        float(association.mean()),
    )


def score(truth: Boxes, result: Boxes, least_iou: float = 0.5) -> Scores:
    """Compare a tracker's result with the truth. Pairs under `least_iou` never match (HOTA has
    thresholds of its own)."""
    frames, truths, results = _frames(truth, result)
    false, missed, switched, distance, matched = _clear(frames, least_iou)
    idtp = _identity(frames, truths, results, least_iou)
    hota, deta, assa = _hota(frames, truths, results)
    return Scores(
        mota=1 - (false + missed + switched) / max(len(truth.ids), 1),
        motp=distance / max(matched, 1),
        idf1=2 * idtp / max(len(truth.ids) + len(result.ids), 1),
        hota=hota,
        deta=deta,
        assa=assa,
        false_positives=false,
        misses=missed,
        switches=switched,
        idtp=idtp,
        truths=len(truth.ids),
        results=len(result.ids),
    )
