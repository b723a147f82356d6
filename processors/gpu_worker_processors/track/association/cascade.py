"""Which detection continues which track: ByteTrack's two passes and a third one for fast motion, as
one pure function.

The order decides. Strong detections first, by overlap, score and height; weak ones then, only for
tracks seen in the last frame; then what is left over among strong detections and tracks, by the
overlap of grown boxes; tentative tracks; and at last what stands where a track was last seen, for a
prediction that ran away. A pair never joins two classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.track.association.assignment import IMPOSSIBLE, assign
from gpu_worker_processors.track.association.boxes import Floats, grown, height_overlap, iou
from gpu_worker_processors.track.association.tracks import LIVE, TENTATIVE, Tracks


@dataclass(frozen=True)
class Rules:
    """The constants of the cascade. Those without a source were chosen on SportsMOT ground truth
    and PETS S2L1."""

    strong_score: float = 0.25
    """From here on a detection takes part in the first pass (ultralytics' `track_high_thresh`)."""
    weak_score: float = 0.1
    """Below it a detection is ignored (`track_low_thresh`)."""
    birth_score: float = 0.25
    """From here on an unmatched detection starts a track (`new_track_thresh`)."""
    strong_limit: float = 0.8
    """Largest cost of the first pass (`match_thresh`)."""
    height_power: float = 2.0
    """Power of the overlap of heights by which the overlap of strong pairs is multiplied: head and
    feet distinguish two people who overlap (after Hybrid-SORT, Yang et al. 2024). Against no such
    factor: SportsMOT HOTA +1.3, PETS IDF1 +0.06."""
    weak_limit: float = 0.5
    """Largest 1 - overlap of a weak pair (ByteTrack)."""
    tentative_limit: float = 0.7
    """Largest cost that confirms a tentative track (ByteTrack)."""
    growth: float = 0.3
    """Share of their size by which boxes are grown on each side for what was left over (C-BIoU,
    Yang et al. 2023)."""
    lost_seconds: float = 2.0
    """How long a track that is not seen can be found again. Against ByteTrack's one second:
    SportsMOT HOTA +1.3, PETS equal."""


@dataclass(frozen=True)
class Frame:
    """The detections of one frame as the cascade wants them; m of them."""

    boxes: Floats
    """Shape (m, 4): x1, y1, x2, y2 in pixels."""
    scores: Floats
    """Shape (m,): 0..1."""
    classes: NDArray[np.int32]
    """Shape (m,)."""


def continued(tracks: Tracks, frame: Frame, rules: Rules) -> NDArray[np.intp]:
    """For each of the m detections the row of the track it continues, or -1."""
    matching = _Matching(tracks, frame, rules)
    strong = frame.scores >= rules.strong_score
    weak = ~strong & (frame.scores >= rules.weak_score)
    trusted = tracks.status != TENTATIVE
    predicted, last = tracks.motion.boxes(), tracks.last
    matching.round(trusted, strong, predicted, rules.strong_limit, by_score=True)
    matching.round(tracks.status == LIVE, weak, predicted, rules.weak_limit, by_height=False)
    matching.round(trusted, strong, predicted, rules.strong_limit, rules.growth, by_score=True)
    matching.round(trusted, strong, predicted, rules.strong_limit, rules.growth, by_height=False)
    matching.round(~trusted, strong, predicted, rules.tentative_limit, by_score=True)
    matching.round(trusted, strong, last, rules.strong_limit, rules.growth, by_height=False)
    return matching.track_of


class _Matching:
    """What has been paired so far."""

    def __init__(self, tracks: Tracks, frame: Frame, rules: Rules) -> None:
        self._classes, self._frame, self._rules = tracks.classes, frame, rules
        self._free = np.ones(len(tracks), np.bool_)
        self.track_of = np.full(len(frame.scores), -1, np.intp)

    def round(
        self,
        tracks: NDArray[np.bool_],
        found: NDArray[np.bool_],
        positions: Floats,
        limit: float,
        growth: float = 0.0,
        by_score: bool = False,
        by_height: bool = True,
    ) -> None:
        """Pair the free ones among `tracks` (n,), thought to be at the corner boxes `positions` (n,
        4), and among `found` (m,).

        The cost is 1 - overlap; `by_score` and `by_height` shrink the overlap of weak detections
        and of unlike heights.
        """
        rows, columns = (
            np.nonzero(tracks & self._free)[0],
            np.nonzero(found & (self.track_of < 0))[0],
        )
        if len(rows) == 0 or len(columns) == 0:
            return
        one, other = positions[rows], self._frame.boxes[columns]
        overlap = iou(grown(one, growth), grown(other, growth)) if growth else iou(one, other)
        if by_height:
            overlap *= height_overlap(one, other) ** self._rules.height_power
        cost = 1 - overlap * self._frame.scores[columns] if by_score else 1 - overlap
        cost[self._classes[rows][:, None] != self._frame.classes[columns]] = IMPOSSIBLE
        chosen_rows, chosen_columns = assign(cost, limit)
        self.track_of[columns[chosen_columns]] = rows[chosen_rows]
        self._free[rows[chosen_rows]] = False
