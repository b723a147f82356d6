"""Which detection continues which track: ByteTrack's two passes and a third one for fast motion, as one pure function.

The order decides. Strong detections first, by overlap and score; weak ones then, only for tracks seen in the last frame; then
what is left over among strong detections and tracks, by the overlap of grown boxes; tentative tracks last. A pair never joins
two classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.track.association.assignment import IMPOSSIBLE, assign
from gpu_worker_processors.track.association.boxes import Floats, grown, iou
from gpu_worker_processors.track.association.tracks import LIVE, TENTATIVE, Tracks


@dataclass(frozen=True)
class Rules:
    """The constants of the cascade."""

    strong_score: float = 0.25
    """From here on a detection takes part in the first pass (ultralytics' `track_high_thresh`)."""
    weak_score: float = 0.1
    """Below it a detection is ignored (`track_low_thresh`)."""
    birth_score: float = 0.25
    """From here on an unmatched detection begins a track (`new_track_thresh`)."""
    strong_limit: float = 0.8
    """Largest 1 - overlap x score of the first pass (`match_thresh`)."""
    weak_limit: float = 0.5
    """Largest 1 - overlap of a weak pair (ByteTrack)."""
    tentative_limit: float = 0.7
    """Largest 1 - overlap x score that confirms a tentative track (ByteTrack)."""
    first_growth: float = 0.0
    """Share of their size by which boxes are grown on each side in the first pass."""
    later_growths: tuple[float, ...] = (0.3,)
    """And in each of the passes for what is left (after C-BIoU, Yang et al. 2023)."""
    lost_seconds: float = 1.0
    """How long a track that is not seen can be found again (ByteTrack: 30 frames of a 30 frames/s video)."""


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
    matching = _Matching(tracks, frame)
    strong = frame.scores >= rules.strong_score
    weak = ~strong & (frame.scores >= rules.weak_score)
    trusted = tracks.status != TENTATIVE
    matching.round(trusted, strong, rules.first_growth, rules.strong_limit)
    matching.round(tracks.status == LIVE, weak, 0.0, rules.weak_limit, fused=False)
    for growth in rules.later_growths:
        matching.round(trusted, strong, growth, rules.strong_limit)
    matching.round(~trusted, strong, rules.first_growth, rules.tentative_limit)
    return matching.track_of


class _Matching:
    """What has been paired so far."""

    def __init__(self, tracks: Tracks, frame: Frame) -> None:
        self._predicted, self._classes, self._frame = tracks.motion.boxes(), tracks.classes, frame
        self._free = np.ones(len(tracks), np.bool_)
        self.track_of = np.full(len(frame.scores), -1, np.intp)

    def round(
        self, tracks: NDArray[np.bool_], found: NDArray[np.bool_], growth: float, limit: float, fused: bool = True
    ) -> None:
        """Pair the free ones among `tracks` (n,) and `found` (m,), at a cost of at most `limit`."""
        rows, columns = np.nonzero(tracks & self._free)[0], np.nonzero(found & (self.track_of < 0))[0]
        if len(rows) == 0 or len(columns) == 0:
            return
        one, other = self._predicted[rows], self._frame.boxes[columns]
        overlap = iou(one, other) if growth == 0 else iou(grown(one, growth), grown(other, growth))
        cost = 1 - overlap * self._frame.scores[columns] if fused else 1 - overlap
        cost[self._classes[rows][:, None] != self._frame.classes[columns]] = IMPOSSIBLE
        chosen_rows, chosen_columns = assign(cost, limit)
        self.track_of[columns[chosen_columns]] = rows[chosen_rows]
        self._free[rows[chosen_rows]] = False
