"""Decoding times for frames whose showing times are given: what every container wants, made anew
when segments are moved."""

from __future__ import annotations

from collections.abc import Sequence


def reorder_delay(order: Sequence[int]) -> int:
    """By how many frames decoding must run ahead of showing.

    Args:
        order: number in order of showing of each frame, in the order of the file.
    """
    return max((position - number for position, number in enumerate(order)), default=0)


def decode_times(shown: Sequence[int], delay: int, position: int) -> int:
    """Decoding time of the frame at a position in the file, in ticks.

    It is the showing time of the frame `delay` positions earlier: strictly rising because showing
    times are, and never after the frame's own showing time because no frame is shown more than
    `delay` positions before its own.

    Args:
        shown: showing times in ticks, strictly rising, at least one.
        delay: of `reorder_delay`, for the whole file.
        position: 0 to len(shown) - 1.
    """
    if position >= delay:
        return shown[position - delay]
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    return shown[0] - (delay - position) * step
