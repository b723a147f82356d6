"""Where the crop window stands along one axis, frame by frame: the camera operator's hand.

Accepts what has to be seen, in pixels and seconds, for all shots of a video, and returns the
window's offset. It guarantees: the window stays in the frame; what must be seen is inside, with
padding, wherever it fits and does not leap; the path starts anew at every cut; a subject that is
lost is waited for or bridged to, never jumped to; a window that need not move stands perfectly
still. Hours cost linear time and bounded memory: the path is solved in overlapping windows of time.

One unit of length is the window's size and one of time a second, so that a setting means the same
at any resolution and frame rate. `smoothing` s sets three things (see `_prices`): how long a motion
must last to be followed, s / (1 - s) seconds, which is 4 at the default of 0.8; how much of the
room inside the window the subject may use before the window follows, s cubed; and the prices of
acceleration and jerk beside that of speed, at 0.8 those of Grundmann's 10 : 1 : 100 for differences
at 30 frames/s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.l1 import Corridor, Floats, Weights, stillest_line

_SPEED_PRICE = 10.0
_REFERENCE = 4.0
"""Seconds; the patience at which the prices are Grundmann's."""
_PATIENCE = (0.02, 100.0)
"""Seconds at smoothing 0 and 1."""
ROOM = 0.06
"""Least room of the subject in the window: 24 px of 405, four standard deviations of 3 px to either
side. Without it a subject as wide as the window would pass the detector's noise on to it."""
MOMENT_SECONDS = 0.75
"""Before and after what shows up for a moment the subject keeps no padding: so long the window may
take to make room and come back, as it may for the longest leap (below)."""
_HAIR = 1e-5
"""Width of a corridor that stands for one position; 0.01 px of a window of 1000."""
LEAP = (0.01, 1.0)
"""Windows, and windows per second: a subject that leaves even the far side of the window by more
than this in one step did not run there. It is a wrong match or a change of subject."""
_LEAP_SECONDS = (0.25, 0.4, 0.75)
"""On either side of a leap the subject need not be inside, so that the window can swing over: so
long for the shortest leap, so much longer for each window of way, so long at most."""
SHORT_SHOT_SECONDS = 0.4
"""A shorter shot keeps the window of the shot before."""
_HOLD_SECONDS = 1.5
"""Without a subject the window waits this long before it turns to the middle."""
_BRIDGE_SECONDS = 4.0
"""A subject that is back within this time is waited for."""
_CHUNK_FRAMES = 4096
"""Solved at once, besides what follows. Twice as many gain no speed and cost memory, 1 KB a frame
(measured)."""
_AHEAD_SECONDS = 10.0
"""What follows within this time is solved with a chunk, then solved again with the next. Over ten
minutes of running the path then costs 0.001 % more than one solved whole; with 2 seconds 0.1 %
more, with none 0.2 % (measured)."""
_STILL = 2e-5
"""Windows per frame: less is the solver's last digit."""
_STILL_RANGE = 1e-4
"""A run of such steps is levelled when it spans no more than this; slower pans are left as they
are."""


Lengths = NDArray[np.int64] | Floats


@dataclass(frozen=True)
class PathSettings:
    """The task's parameters of the same names."""

    smoothing: float = 0.8
    padding: float = 0.2
    anticipation: float = 0.5


@dataclass(frozen=True)
class ShotTimeline:
    """The frames of a video."""

    times: Floats
    """Shape (n,), float64: seconds from the first frame, rising."""
    shot_starts: NDArray[np.int64]
    """First frame of each shot, rising; the first is 0."""

    def starts(self) -> NDArray[np.bool_]:
        """Shape (n,): True where a shot begins."""
        flags = np.zeros(len(self.times), bool)
        flags[self.shot_starts] = True
        return flags

    def shot_of(self) -> NDArray[np.int64]:
        """Shape (n,): which shot a frame is in, from 0."""
        return np.cumsum(self.starts()) - 1

    def in_short_shots(self) -> NDArray[np.bool_]:
        """Shape (n,): True in shots too short for the eye to follow a window of their own, unless
        all are."""
        short = (np.round(self.seconds_of_shots(), 6) < SHORT_SHOT_SECONDS)[
            self.shot_of()
        ]  # 10 frames of 25 are none
        return short & (not short.all())

    def seconds_of_shots(self) -> Floats:
        """Shape (shots,): from first frame to first frame; of the last shot to its last frame."""
        ends = np.append(self.times[self.shot_starts[1:]], self.times[-1])
        return ends - self.times[self.shot_starts]


@dataclass(frozen=True)
class Wanted:
    """What is to be seen along one axis. All arrays have shape (n,), float64, pixels; NaN where
    there is nothing."""

    low: Floats
    """Near edge of what must be inside."""
    high: Floats
    """Far edge."""
    center: Floats
    """Where the window's middle is wanted."""
    pinned: Floats
    """The window's offset where it is given, exactly."""
    exact: NDArray[np.bool_]
    """What must be inside is so only for a moment: it may take all the room there is, and around
    that time the window comes so far that it does."""

    @classmethod
    def of(cls, low: Floats, high: Floats, center: Floats) -> Wanted:
        """Something to follow, nowhere pinned, nowhere exact."""
        return cls(low, high, center, np.full(len(low), np.nan), np.zeros(len(low), bool))

    @classmethod
    def nothing(cls, frames: int) -> Wanted:
        return cls.of(*(np.full(frames, np.nan) for _ in range(3)))


def plan_axis(
    wanted: Wanted,
    timeline: ShotTimeline,
    frame_px: float | Lengths,
    window_px: float | Lengths,
    settings: PathSettings,
    short: NDArray[np.bool_] | None = None,
) -> Floats:
    """The window's offset in pixels, within 0..frame_px - window_px: shape (n,), float64.

    Args:
        frame_px, window_px: the sizes of the image and of the window, or those of each frame's,
            shape (n,); they change only where a shot of `timeline` begins.
        short: shape (n,): frames of shots too short for a window of their own; by default those of
            `timeline`.
    """
    window_px = np.broadcast_to(np.asarray(window_px, np.float64), len(timeline.times))
    end = frame_px / window_px - 1
    if (end < _HAIR).all():
        return np.zeros(len(timeline.times))
    # A window as large as the image has one place only; the solver is given room for its inside
    # all the same.
    short = timeline.in_short_shots() if short is None else short
    weights, corridor = _corridor(
        wanted, timeline, window_px, np.maximum(end, 2 * _HAIR), settings, short
    )
    line = np.clip(_in_chunks(corridor, weights), 0, end)
    middle = _inherited((_levelled(line, corridor) + 0.5) * window_px, short)
    pinned = np.isfinite(wanted.pinned)
    offsets = np.where(pinned, wanted.pinned, middle - window_px / 2)
    return np.clip(offsets, 0, frame_px - window_px)


def _prices(smoothing: float) -> tuple[Weights, float, float]:
    """Prices of the derivatives; price of distance; the share of the room in the window that costs
    nothing.

    Of all paths between two levels, one that leaves and comes back pays twice the speed's price for
    each unit, and staying away from where it is wanted pays `pull` for each unit and second:
    motions that last less than 2 * speed / pull are not followed.
    """
    patience = float(np.clip(smoothing / max(1 - smoothing, 1e-9), *_PATIENCE))
    scale = min(patience / _REFERENCE, 2.0)
    weights = Weights(_SPEED_PRICE, _SPEED_PRICE / 300 * scale, _SPEED_PRICE / 90 * scale**2)
    return weights, 2 * _SPEED_PRICE / patience, smoothing**3


def _corridor(
    wanted: Wanted,
    timeline: ShotTimeline,
    window_px: Floats,
    end: Floats,
    settings: PathSettings,
    short: NDArray[np.bool_],
) -> tuple[Weights, Corridor]:
    weights, price, dead_zone = _prices(settings.smoothing)
    low, high, center = _bounds(wanted, timeline, window_px, end, settings.padding)
    seen = np.isfinite(center)
    pinned = np.isfinite(wanted.pinned)
    fixed = np.where(pinned, np.clip(wanted.pinned / window_px, 0, end), np.nan)
    low, high = np.where(pinned, fixed - _HAIR, low), np.where(pinned, fixed + _HAIR, high)
    low, high = np.clip(low, 0, end - _HAIR), np.clip(high, _HAIR, end)
    loose = _loose(low, high, timeline) & ~pinned
    held, middle = _while_lost(seen | pinned, timeline)
    low, high = low[held], high[held]
    free = short | loose[held] | ~(seen | pinned)[held]
    low, high = np.where(free, 0, low), np.where(free, end, high)
    aim = _anticipated(np.where(free | pinned, np.nan, center), timeline, settings.anticipation)
    aims = seen & ~free & ~pinned
    middle &= ~short
    aim = np.clip(np.where(aims, aim, end / 2), low, high)
    pull = np.where(aims | middle, price, 0)
    zone = np.where(middle, 0, dead_zone)
    corridor = Corridor(
        timeline.times,
        low,
        high,
        aim - zone * (aim - low),
        aim + zone * (high - aim),
        pull,
        timeline.starts(),
    )
    return weights, corridor


def _bounds(
    wanted: Wanted, timeline: ShotTimeline, window_px: Floats, end: Floats, padding: float
) -> tuple[Floats, Floats, Floats]:
    """Least and greatest offset that shows everything, and the wanted one, in windows; NaN where
    there is nothing."""
    extra = padding * (wanted.high - wanted.low)
    far = np.minimum(wanted.high + extra, (end + 1) * window_px) / window_px
    near = np.maximum(wanted.low - extra, 0) / window_px
    low, high = far - 1, near
    middle = (wanted.high + wanted.low) / 2 / window_px - 0.5
    _, since, _, until = _when_seen(wanted.exact, timeline)
    tight = (high - low < ROOM) | (np.minimum(since, until) <= MOMENT_SECONDS)
    # Too wide with its padding: without; too wide without: its middle in the window's middle, but
    # for noise.
    bare_low, bare_high = (
        np.minimum(wanted.high / window_px, end + 1) - 1,
        np.maximum(wanted.low / window_px, 0),
    )
    fits = bare_high - bare_low >= np.where(wanted.exact, 0, ROOM)
    half = np.where(fits, (bare_high - bare_low) / 2, ROOM / 2)
    base = np.where(fits, (bare_high + bare_low) / 2, middle)
    # Towards the image's edge less, and none at it: the noise of what goes no farther moves
    # nothing.
    at_end, at_start = (
        np.where(fits, 0, np.maximum(beyond + ROOM / 2, 0)) for beyond in (middle - end, -middle)
    )
    return (
        np.where(tight, base - half + at_end, low),
        np.where(tight, base + half - at_start, high),
        np.clip(wanted.center / window_px - 0.5, 0, end),
    )


def _loose(low: Floats, high: Floats, timeline: ShotTimeline) -> NDArray[np.bool_]:
    """Frames so near to a leap of what must be seen that it need not be."""
    loose = np.zeros(len(low), bool)
    seen = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    times, shot = timeline.times, timeline.shot_of()
    before, after = seen[:-1], seen[1:]
    way = np.maximum(low[after] - high[before], low[before] - high[after])
    leaps = (way > LEAP[0] + LEAP[1] * (times[after] - times[before])) & (
        shot[before] == shot[after]
    )
    least, per_window, most = _LEAP_SECONDS
    swing = np.minimum(least + per_window * way, most)
    for first, last, span in zip(before[leaps], after[leaps], swing[leaps], strict=True):
        start, stop = np.searchsorted(times, (times[first] - span, times[last] + span))
        loose[start:stop] |= shot[start:stop] == shot[first]
    return loose


def _anticipated(center: Floats, timeline: ShotTimeline, seconds: float) -> Floats:
    """The mean of the wanted position over the next `seconds`, within the shot. What is unseen
    counts as the last position seen."""
    valid = np.isfinite(center)
    if seconds <= 0 or not valid.any():
        return center
    times, shot = timeline.times, timeline.shot_of()
    last = np.maximum.accumulate(np.where(valid, np.arange(len(center)), 0))
    filled = np.where(np.isfinite(center[last]), center[last], 0.0)
    area = np.concatenate([[0], np.cumsum(filled[:-1] * np.diff(times))])
    ends = times[np.append(timeline.shot_starts[1:] - 1, len(times) - 1)][shot]
    until = np.minimum(times + seconds, ends)
    span = until - times
    mean = (np.interp(until, times, area) - area) / np.where(span > 0, span, 1)
    return np.where(span > 0, mean, center)


def _when_seen(
    seen: NDArray[np.bool_], timeline: ShotTimeline
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], Floats]:
    """The last frame that is marked, its own or before, and the seconds since; the next one, and
    the seconds until. Shape (n,) each; the seconds are infinite where there is none in the shot,
    and the frame means nothing then."""
    times, n, shot = timeline.times, len(timeline.times), timeline.shot_of()
    index = np.arange(n)
    before = np.maximum.accumulate(np.where(seen, index, -1))
    after = np.minimum.accumulate(np.where(seen, index, n)[::-1])[::-1]
    was = before >= timeline.shot_starts[shot]
    will = after < np.append(timeline.shot_starts[1:], n)[shot]
    since = np.where(was, times - times[np.maximum(before, 0)], np.inf)
    until = np.where(will, times[np.minimum(after, n - 1)] - times, np.inf)
    return before, since, after, until


def _while_lost(
    seen: NDArray[np.bool_], timeline: ShotTimeline
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What to do where nothing is seen: the frame whose bounds hold at each frame, its own but
    while waiting; and whether nothing has been seen for so long, and nothing soon will be, that the
    window turns to the middle."""
    before, since, after, until = _when_seen(seen, timeline)
    given_up = (
        ~seen & (since + until > _BRIDGE_SECONDS) & (np.isfinite(since) | ~np.isfinite(until))
    )
    held = np.where(given_up & (since <= _HOLD_SECONDS), before, np.arange(len(seen)))
    held = np.where(given_up & (until <= _HOLD_SECONDS), after, held)
    return held, given_up & (since > _HOLD_SECONDS) & (until > _HOLD_SECONDS)


def _in_chunks(corridor: Corridor, weights: Weights) -> Floats:
    """`stillest_line` of a corridor of any length. Each chunk goes on from the last three values of
    the one before."""
    n, line, done = len(corridor.times), np.zeros(0), 0
    while done < n:
        stop = min(done + _CHUNK_FRAMES, n)
        ahead = (
            int(np.searchsorted(corridor.times, corridor.times[stop - 1] + _AHEAD_SECONDS))
            if stop < n
            else n
        )
        if ahead - stop < _CHUNK_FRAMES // 4 and ahead == n:
            stop = n
        known = min(done, 3)
        part = corridor.part(done - known, max(ahead, stop))
        if known:
            part.low[:known], part.high[:known] = line[-known:] - _HAIR, line[-known:] + _HAIR
        line = np.concatenate([line, stillest_line(part, weights)[known : known + stop - done]])
        done = stop
    return line


def _levelled(line: Floats, corridor: Corridor) -> Floats:
    """The line with its still stretches perfectly so."""
    moves = np.append(True, (np.abs(np.diff(line)) > _STILL) | corridor.starts[1:])
    begins = np.flatnonzero(moves)
    least, most = np.minimum.reduceat(line, begins), np.maximum.reduceat(line, begins)
    low, high = (
        np.maximum.reduceat(corridor.low, begins),
        np.minimum.reduceat(corridor.high, begins),
    )
    level = np.clip((least + most) / 2, low, np.maximum(low, high))
    run = np.cumsum(moves) - 1
    return np.where((most - least <= _STILL_RANGE)[run], level[run], line)


def _inherited(middle: Floats, short: NDArray[np.bool_]) -> Floats:
    """The window's middles with short shots held where the shot before ended, or where the first
    long one begins."""
    if not short.any():
        return middle
    index = np.arange(len(middle))
    source = np.maximum.accumulate(np.where(short, -1, index))
    return middle[np.where(source < 0, int(np.argmin(short)), source)]
