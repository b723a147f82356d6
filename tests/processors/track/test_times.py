"""A few pairs stand for the times of all frames: the frame nearest to a time read off them is
always the right one."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker_client.protocol import TrackVideo
from gpu_worker_processors.track import times as times_module
from gpu_worker_processors.track.times import time_pairs


def read_off(pairs: list[tuple[int, float]], frames: int) -> list[float]:
    video = TrackVideo(width=1, height=1, fps=30, is_vfr=True, times=pairs)
    return [video.seconds_of(frame) for frame in range(frames)]


def nearest(times: list[float], seconds: float) -> int:
    right = bisect_left(times, seconds)
    return min(
        (n for n in (right - 1, right) if 0 <= n < len(times)),
        key=lambda n: abs(times[n] - seconds),
    )


@given(st.lists(st.floats(0.001, 2), min_size=1, max_size=80))
def test_any_gaps(gaps: list[float]) -> None:
    times = list(accumulate(gaps, initial=0.0))
    pairs = time_pairs(times)
    assert (pairs[0][0], pairs[-1]) == (0, (len(times) - 1, times[-1]))
    assert all(times[frame] == seconds for frame, seconds in pairs)
    for frame, seconds in enumerate(read_off(pairs, len(times))):
        assert nearest(times, seconds) == frame


def test_even_frames_need_two_pairs_and_a_change_of_rate_one_more() -> None:
    even = [frame / 30 for frame in range(1000)]
    assert time_pairs(even) == [(0, 0.0), (999, even[-1])]
    doubled = even + [even[-1] + frame / 60 for frame in range(1, 1000)]
    assert len(time_pairs(doubled)) == 3
    assert time_pairs([0.0]) == [(0, 0.0)] and time_pairs([]) == []


def test_a_phones_jitter_costs_little() -> None:
    """Timestamps in milliseconds around a steady clock, as recorders write them."""
    times = [frame / 30 + (frame * 7919 % 5 - 2) / 1000 for frame in range(9000)]
    pairs = time_pairs(times)
    assert len(pairs) < 90
    off = max(abs(a - b) for a, b in zip(read_off(pairs, len(times)), times, strict=True))
    assert off <= 0.25 / 30


def test_what_would_take_too_many_is_told_more_roughly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times_module, "MAX_PAIRS", 20)
    times = list(accumulate((1 + frame * 7919 % 7 for frame in range(200)), initial=0.0))
    assert len(time_pairs(times)) <= 20
