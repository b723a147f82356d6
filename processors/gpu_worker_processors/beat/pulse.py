"""Two trains of beats of different instruments, and which of them is the beat.

Where everybody plays together, any choice is the same one. Where a bass runs ahead of a ride
cymbal, one of the two keeps time and listeners follow it: the one that moves more evenly from beat
to beat, even where it is much the fainter. (The evenly spaced tactus is the fourth rule of metrical
well-formedness of Lerdahl and Jackendoff, A Generative Theory of Tonal Music, 1983.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.beat import refine

Doubles = NDArray[np.float64]

_SAME_TEMPO = 0.1
"""Tempos that differ by more than this share are of two levels, and the choice of the level is not
made here."""
_OFF_BEAT = 0.3
"""Nearer than this share of the interval lies no off-beat: the nearest are those of triplets and
swung eighths, a third away. From 0.29 to 0.45 the annotated pieces are the same."""
_AUDIBLE_SHARE = 0.4
"""How strong the attacks of hats are beside those of all when they lie 60 dB below a bass: what is
fainter is not audible."""


@dataclass(frozen=True)
class Pulse:
    """Beats and how strongly each is struck, 0 where nothing is: float64 of shape (beats,); the
    times are seconds, rising."""

    times: Doubles
    strengths: Doubles


def steadier(whole: Pulse, part: Pulse) -> Pulse:
    """`part`, the beats of some instruments, where it is the same pulse as `whole`, audibly shifted
    against it and steadier; else `whole`.

    The same pulse: of one tempo, and nearer than any off-beat, so that hats between kicks never
    win. Shifted: farther than a beat's own attack is sought.
    """
    if min(len(whole.times), len(part.times)) < 3:
        return whole
    interval = float(np.median(np.diff(whole.times)))
    same = abs(refine.tempo_of(part.times) / refine.tempo_of(whole.times) - 1) <= _SAME_TEMPO
    shifted = (
        refine.reach_seconds(interval) < _distance(whole.times, part.times) < _OFF_BEAT * interval
    )
    audible = np.median(part.strengths) >= _AUDIBLE_SHARE * np.median(whole.strengths)
    return (
        part
        if same and shifted and audible and unsteadiness(part.times) < unsteadiness(whole.times)
        else whole
    )


def unsteadiness(times: Doubles) -> float:
    """Root mean square of the change from one interval to the next, in intervals; 0 is a
    metronome."""
    steps = np.diff(times)
    return float(np.sqrt(np.square(np.diff(steps)).mean()) / np.median(steps))


def _distance(times: Doubles, reference: Doubles) -> float:
    """Median seconds from each of `times` to the nearest of `reference`."""
    after = np.clip(np.searchsorted(reference, times), 1, len(reference) - 1)
    return float(
        np.median(
            np.minimum(np.abs(times - reference[after - 1]), np.abs(times - reference[after]))
        )
    )
