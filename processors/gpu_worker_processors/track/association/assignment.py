"""One-to-one matching of tracks and detections at least total cost, with a limit above which a pair
is not made."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.track.association.boxes import Floats

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Row and column of every pair, both of shape (k,)."""

IMPOSSIBLE = 1e6
"""The cost of a pair that must never be made."""


def assign(cost: Floats, limit: float) -> Pairs:
    """Pairs of the (n, m) costs whose cost is at most `limit`, rows rising."""
    if cost.size == 0 or float(cost.min()) > limit:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    _, columns, _ = lap.lapjv(cost, extend_cost=True, cost_limit=limit)
    rows = np.nonzero(columns >= 0)[0]
    return rows, columns[rows].astype(np.intp)
