"""From frames to times: each beat moved onto the attack that it means, and how sure that is.

Also finds all attacks, and drops beats that lie in silence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.beat.spectrum import Floats

Doubles = NDArray[np.float64]

_PEAK_SECONDS = -0.0084
"""Where the envelope's peak lies from a click's first sample: before it, for it rises as soon as
the window of 46 ms touches the click. The same to 0.1 ms on click tracks of 60 to 200 bpm."""
_AUDIBLE_SECONDS = 0.008
"""People notice, and tap to, a note a little after it physically starts (its perceptual attack):
annotated music is best met with this much, clicks stay exact to a hundredth of a second."""
LATE_SECONDS = _PEAK_SECONDS - _AUDIBLE_SECONDS
"""Taken off every time that is read from the envelope."""
_BEFORE_SECONDS = 0.03
"""How far from the first sample the path of beats may put a beat of that sample: `_PEAK_SECONDS`,
two frames of the search (12 ms each) and rounding."""
_REACH_SECONDS, _REACH_SHARE = 0.05, 0.15
"""An attack this near, and within this share of the interval, is the beat's own."""
_NEAR_SECONDS = 0.04
"""Width of the preference for the nearer of two attacks."""
_ATTACK_SHARE = 0.25
"""What is weaker than this share of a typical beat's attack is none: the beat stays where its
neighbours put it."""
_EQUAL_SHARE, _EQUAL_PRESENCE = 0.95, 0.9
"""Halfway between beats of music in straight or swung eighths, attacks were never both this strong
and this regular in 36 pieces of known tempo unless the tempo was half the true one."""
_BAR_BEATS = 8
"""Beats in a row that are measured together: a beat 9 ms late changes their tempo by 0.2 %."""
FEWEST_ATTACKS = 3
"""One or two make no pulse."""
_FAINTEST = 0.05
"""Attacks of music, smoothed as here, are 0.06 at the very least and 0.3 to 1.5 as a rule; a steady
tone ripples by 0.002."""
_EDGE_SECONDS = 0.07
"""How far before the first and after the last attack a beat may lie: the usual tolerance of a
correct beat."""
_SILENCE = 1e-3
"""60 dB below the loud passages nothing is audible beside them."""


def smoothed(envelope: Floats, frames: float) -> Doubles:
    """Convolved with a Gaussian of that standard deviation and height 1."""
    reach = int(4 * frames) + 1
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / frames))
    return np.convolve(envelope.astype(np.float64), kernel, "full")[reach : reach + len(envelope)]


def attacks(envelope: Doubles, rate: float) -> Doubles:
    """Times of all attacks, seconds: peaks of the smoothed envelope that are the largest within 30
    ms and rise above half a second's mean."""
    if not len(envelope) or envelope.max() <= 0:
        return np.zeros(0)
    reach, around = round(0.03 * rate), round(0.25 * rate)
    views = np.lib.stride_tricks.sliding_window_view(
        np.pad(envelope, reach, constant_values=-1), 2 * reach + 1
    )
    sums = np.cumsum(np.pad(envelope, (around + 1, around)))
    mean = (sums[2 * around + 1 :] - sums[: -2 * around - 1]) / (2 * around + 1)
    peak = (envelope >= views.max(axis=1)) & (envelope > 1.5 * mean) & (envelope > _FAINTEST)
    typical = np.percentile(envelope[peak], 90) if peak.any() else 0.0
    found = np.flatnonzero(peak & (envelope > 0.15 * typical))
    found = found[np.diff(found, prepend=-reach) > 1]
    return _times(envelope, found, rate)


def _times(envelope: Doubles, frames: NDArray[np.int64], rate: float) -> Doubles:
    """Peaks between frames, by a parabola through three values; lateness taken off. A peak in the
    first frame is that of a recording that starts at once."""
    if len(envelope) < 3:
        return np.maximum(0, frames / rate - LATE_SECONDS)
    at = np.clip(frames, 1, len(envelope) - 2)
    before, here, after = envelope[at - 1], envelope[at], envelope[at + 1]
    curve = before - 2 * here + after
    part = np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, -1), 0)
    times = np.maximum(0, (frames + np.clip(part, -0.5, 0.5)) / rate - LATE_SECONDS)
    return np.where(frames == 0, _AUDIBLE_SECONDS, times)


def reach_seconds(interval: float) -> float:
    """How far from a beat its own attack may lie."""
    return min(_REACH_SECONDS, _REACH_SHARE * interval)


def from_the_start(beats: Doubles) -> Doubles:
    """The beats of a path, with one more where the audio may start on a beat: the peak of its
    attack lies before the first frame, where no path can put one."""
    if len(beats) < 2:
        return beats
    first = 2 * beats[0] - beats[1]
    return np.concatenate([[first], beats]) if abs(first) <= _BEFORE_SECONDS else beats


def on_attacks(beats: Doubles, envelope: Doubles, rate: float) -> tuple[Doubles, Doubles]:
    """Beats in seconds moved onto their attacks, and the strength of each, 0 where there is none.

    Args:
        beats: seconds as the envelope's frames have it, lateness included; float64 of shape
            (beats,).
        envelope: smoothed attack envelope, float64.
        rate: its frames per second.
    """
    interval = float(np.median(np.diff(beats))) if len(beats) > 1 else 1.0
    reach = reach_seconds(interval) * rate
    peaks, strengths = np.zeros(len(beats), np.int64), np.zeros(len(beats))
    silence_first = np.append(0.0, envelope)
    for index, centre in enumerate(beats * rate):
        near = np.arange(
            max(0, int(np.ceil(centre - reach))), min(len(envelope) - 1, int(centre + reach) + 1)
        )
        near = near[(envelope[near] >= silence_first[near]) & (envelope[near] > envelope[near + 1])]
        if len(near):
            nearness = np.exp(-0.5 * np.square((near - centre) / (_NEAR_SECONDS * rate)))
            peaks[index] = near[int((envelope[near] * nearness).argmax())]
            strengths[index] = envelope[peaks[index]]
    typical = np.median(strengths[strengths > 0]) if (strengths > 0).any() else 0.0
    strengths[strengths < _ATTACK_SHARE * typical] = 0
    times = np.where(strengths > 0, _times(envelope, peaks, rate), np.nan)
    return _between_neighbours(times, beats - LATE_SECONDS), strengths


def doubled(
    times: Doubles, strengths: Doubles, envelope: Doubles, rate: float
) -> tuple[Doubles, Doubles]:
    """The beats and those halfway between them, where the added ones are as strong: then a listener
    counts them all. Otherwise the beats as they are."""
    if len(times) < 3:
        return times, strengths
    middles = (times[1:] + times[:-1]) / 2
    moved, between = on_attacks(middles + LATE_SECONDS, envelope, rate)
    typical = np.median(strengths)
    if (
        np.median(between) < _EQUAL_SHARE * typical
        or np.mean(between > 0.6 * typical) < _EQUAL_PRESENCE
    ):
        return times, strengths
    order = np.argsort(np.concatenate([times, moved]), kind="stable")
    return np.concatenate([times, moved])[order], np.concatenate([strengths, between])[order]


def _between_neighbours(times: Doubles, rough: Doubles) -> Doubles:
    """Beats without an attack: moved like the beats around them were."""
    known = ~np.isnan(times)
    if not known.any():
        return np.maximum(0, rough)
    index = np.arange(len(times))
    shift = np.interp(index, index[known], (times - rough)[known])
    return np.maximum(0, np.where(known, times, rough + shift))


def sounding(
    beats: Doubles, onsets: Doubles, rms: Doubles, rms_rate: float, loud_rms: float
) -> NDArray[np.bool_]:
    """Which beats lie in the music: between its first and its last attack, and not in a silence of
    a beat's length.

    Args:
        beats: seconds, rising.
        onsets: seconds, rising.
        rms: loudness over time, `rms_rate` values a second.
        loud_rms: of the loud passages.
    """
    if len(onsets) < FEWEST_ATTACKS:
        return np.zeros(len(beats), np.bool_)
    inside = (beats >= onsets[0] - _EDGE_SECONDS) & (beats <= onsets[-1] + _EDGE_SECONDS)
    half = float(np.median(np.diff(beats))) / 2 if len(beats) > 1 else 0.5
    for index, time in enumerate(beats):
        around = rms[max(0, int((time - half) * rms_rate)) : int((time + half) * rms_rate) + 1]
        inside[index] &= bool(len(around)) and float(around.max()) > _SILENCE * loud_rms
    return inside


def confidence(times: Doubles, strengths: Doubles) -> Doubles:
    """0 to 1 per beat: the geometric mean of how strong its attack is beside a typical one, and how
    well its distance to its neighbours fits the interval there."""
    if len(times) < 3:
        return np.where(strengths > 0, 0.5, 0.0)
    typical = np.median(strengths[strengths > 0]) if (strengths > 0).any() else 1.0
    relative = np.minimum(1, strengths / typical)
    steps = np.diff(times)
    expected = np.array([np.median(steps[max(0, i - 4) : i + 5]) for i in range(len(steps))])
    fit = np.exp(-0.5 * np.square((steps / expected - 1) / 0.1))
    fits = np.minimum(np.append(fit, fit[-1]), np.append(fit[0], fit))
    return np.sqrt(np.maximum(relative, 0.05) * fits)


def tempo_of(times: Doubles) -> float:
    """Beats per minute: of the median length of `_BAR_BEATS` intervals in a row that are within a
    tenth of the median one, so that one beat that is late, as the first of a file may be, counts
    for nothing; 0 with fewer than two beats."""
    if len(times) < 2:
        return 0.0
    steps = np.diff(times)
    middle = np.percentile(
        steps, 50, method="lower"
    )  # one of them: between two that differ lies none
    regular = np.abs(steps / middle - 1) <= 0.1
    count = max(1, min(_BAR_BEATS, len(steps) // 2))
    in_a_row = np.convolve(regular, np.ones(count), "valid") > count - 0.5
    if not in_a_row.any():
        return float(60 / steps[regular].mean())
    return float(60 * count / np.median((times[count:] - times[:-count])[in_a_row]))
