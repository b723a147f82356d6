"""Boxes of one track in memory: arrays of whole steps of 0.1 px and of 0.001 of confidence.

Accepts boxes whose frames rise and whose numbers are finite and in range; the rest is a
`ValueError`. Standard library only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

MAX_FRAME = 2**30
PX = 10
"""Steps of a coordinate in a pixel."""
MAX_PX = 1_000_000
"""Largest coordinate, to either side of 0."""
CONFIDENCE = 1000
"""Steps of a confidence from 0 to 1."""

BBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


class BoxColumns:
    """Boxes of one track as arrays, 23 bytes a box.

    `frames`: int32, shape (n,), rising. `corners`: int32, shape (n * 4,), x1, y1, x2, y2 of each
    box in tenths of a pixel. `confidences`: uint16, shape (n,), thousandths. `flags`: uint8, shape
    (n,), 1 where the box is interpolated.
    """

    __slots__ = ("confidences", "corners", "flags", "frames")

    def __init__(self) -> None:
        self.frames: array[int] = array("i")
        self.corners: array[int] = array("i")
        self.confidences: array[int] = array("H")
        self.flags: array[int] = array("B")

    def __len__(self) -> int:
        return len(self.frames)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoxColumns) and self._arrays() == other._arrays()

    __hash__ = None  # type: ignore[assignment] # it grows

    def _arrays(self) -> tuple[array[int], ...]:
        return self.frames, self.corners, self.confidences, self.flags

    def put(
        self, frame: int, bbox: Sequence[float], confidence: float, interpolated: bool = False
    ) -> None:
        """Adds a box, rounded.

        Raises:
            ValueError: a number that is not finite or out of range, or a frame that is not after
                the one before.
        """
        x1, y1, x2, y2 = bbox
        try:
            corners = (round(x1 * PX), round(y1 * PX), round(x2 * PX), round(y2 * PX))
            thousandths = round(confidence * CONFIDENCE)
        except OverflowError:
            raise ValueError("a number of a box is not finite") from None
        if max(corners) > MAX_PX * PX or min(corners) < -MAX_PX * PX:
            raise ValueError(f"a coordinate is beyond {MAX_PX} px")
        if not 0 <= thousandths <= CONFIDENCE:
            raise ValueError("a confidence is not between 0 and 1")
        if not (self.frames[-1] if self.frames else -1) < frame < MAX_FRAME:
            raise ValueError(f"the frames of a track must rise, from 0 to {MAX_FRAME - 1}")
        self.frames.append(frame)
        self.corners.extend(corners)
        self.confidences.append(thousandths)
        self.flags.append(interpolated)

    def rows(self) -> Iterator[tuple[int, BBox, float, bool]]:
        """Each box as `put` takes it."""
        corner = iter([steps / PX for steps in self.corners])
        bboxes = zip(corner, corner, corner, corner, strict=True)
        confidences = [steps / CONFIDENCE for steps in self.confidences]
        return zip(self.frames, bboxes, confidences, map(bool, self.flags), strict=True)

    def part(self, start: int, stop: int) -> BoxColumns:
        """A copy of some boxes in a row."""
        copy = BoxColumns()
        copy.frames = self.frames[start:stop]
        copy.corners = self.corners[start * 4 : stop * 4]
        copy.confidences = self.confidences[start:stop]
        copy.flags = self.flags[start:stop]
        return copy

    def extend(self, other: BoxColumns) -> None:
        """Adds another's boxes behind these."""
        for mine, more in zip(self._arrays(), other._arrays(), strict=True):
            mine.extend(more)
