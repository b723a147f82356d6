"""How clear a pulse is, as a whole: whether its beats stand out of what lies between them, and
whether what happens from one beat to the next happens again.

The search always finds the best path through an envelope, also through one of noise. These two
numbers show what such a path is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.beat.refine import LATE_SECONDS

Doubles = NDArray[np.float64]

_PARTS = 24
"""Values per beat: straight, triplet and swung divisions fall on one each."""
_BEATS_AHEAD = (1, 2, 3, 4)
"""A pattern may take a bar to come again."""
_NO_CONTRAST, _FULL_CONTRAST = 1.2, 2.2
"""Noise of any colour gives 1.0 to 1.3, annotated and other music 2.6 and more."""
_NO_REPEATS, _FULL_REPEATS = 0.1, 0.5
"""Noise gives 0.05 to 0.2, speech up to 0.4, annotated music about 0.5, a click track 1."""
_NOISE_CONTRAST, _NOISE_REPEATS = 1.5, 0.3
"""Below both there is no beat: in six seconds of noise the second is 0.2 at most."""


@dataclass(frozen=True)
class Clarity:
    contrast: float
    """Envelope at a beat over the envelope's median."""
    repeats: float
    """Correlation of the onset strength between beats with that one to four beats later."""

    @property
    def is_noise(self) -> bool:
        return self.contrast < _NOISE_CONTRAST and self.repeats < _NOISE_REPEATS

    @property
    def factor(self) -> float:
        """0 to 1, for the confidence of every beat."""
        stands_out = _share(self.contrast, _NO_CONTRAST, _FULL_CONTRAST)
        return stands_out * _share(self.repeats, _NO_REPEATS, _FULL_REPEATS)


NO_PULSE = Clarity(_FULL_CONTRAST, _FULL_REPEATS)
"""One or two beats: nothing to compare."""


def clarity(
    times: Doubles, attacks: Doubles, attack_rate: float, strength: Doubles, rate: float
) -> Clarity:
    """Of beats in seconds, rising.

    Args:
        attacks: smoothed attack envelope, `attack_rate` values a second.
        strength: onset strength in units of its surroundings', `rate` values a second.
    """
    beats = times + LATE_SECONDS
    struck = np.interp(beats * attack_rate, np.arange(len(attacks)), attacks)
    # What is silent between the beats stands out as far as can be.
    contrast = float(np.median(struck) / max(np.median(attacks), 1e-3 * struck.max(), 1e-9))
    if len(times) < _BEATS_AHEAD[0] + 3:  # too few to repeat anything: the attacks alone decide
        return Clarity(contrast, _FULL_REPEATS)
    at = np.interp(np.arange((len(beats) - 1) * _PARTS) / _PARTS, np.arange(len(beats)), beats)
    rows = np.interp(at * rate, np.arange(len(strength)), strength).reshape(-1, _PARTS)
    rows = rows - rows.mean()
    power = float(np.square(rows).mean()) + 1e-9
    ahead = [count for count in _BEATS_AHEAD if len(rows) > count + 1]
    repeats = np.mean([(rows[:-count] * rows[count:]).mean() / power for count in ahead])
    return Clarity(contrast, float(repeats))


def _share(value: float, none: float, full: float) -> float:
    return min(1.0, max(0.0, (value - none) / (full - none)))
