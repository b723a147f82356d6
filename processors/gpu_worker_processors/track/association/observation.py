"""What a tracker says about one frame: a box with an identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Observation:
    """One box of one track in one frame."""

    track_id: int
    """From 1 in every `Tracker`; never used twice."""
    class_name: str
    """The class of the whole track, for example "person"."""
    frame: int
    """0-based index of the source frame in display order."""
    bbox: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright source frame: the detection's own box, never a
    filter's estimate."""
    confidence: float
    """The detection's score, 0..1. An interpolated box has the lower score of the two boxes it lies
    between."""
    interpolated: bool = False
    """True where nothing was detected and the box lies on the line between its neighbours in
    time."""
