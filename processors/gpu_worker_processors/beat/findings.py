"""What an engine finds in a recording: beats, tempo, onsets. The two engines meet here.

`by_onsets` (engine `librosa`): librosa's onset strength gives the tempo as librosa gives it; a
finer envelope and that tempo go into the search for the path of beats, which may follow another
octave or a changing tempo when the audio says so; each beat is then moved onto its attack. The high
bands are also searched by themselves: where their beat is another and steadier, it is the beat.
What is no clearer than the best path through noise is no beat at all.
`by_network` (engine `beat_this`): the network's beats as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol.beat import MAX_BPM, MIN_BPM, BeatParams, TempoCandidate
from gpu_worker_processors.beat import refine
from gpu_worker_processors.beat.beat_this import Network, beats_and_downbeats, logits
from gpu_worker_processors.beat.clarity import NO_PULSE, Clarity, clarity
from gpu_worker_processors.beat.energy import energy
from gpu_worker_processors.beat.onsets import FINE_HOP, attack_envelopes, onset_strength
from gpu_worker_processors.beat.pulse import Pulse, steadier
from gpu_worker_processors.beat.spectrum import Floats
from gpu_worker_processors.beat.tempo import (
    candidates,
    lag_bpm,
    local_salience,
    preference,
    tempo_evidence,
    tempogram_mean,
)
from gpu_worker_processors.beat.tracker import best_path
from gpu_worker_processors.beat.waveform_file import Spool

Doubles = NDArray[np.float64]

_PATH_HOP = 2 * FINE_HOP
"""The path is searched at 86 frames a second: beats are put right afterwards."""
_STRENGTH_WEIGHT, _STIFFNESS = 0.8, 400.0
"""Weights of the search; see `tempo` for where they come from. The second is in frames per squared
octave of change."""
_AROUND_SECONDS = 4.0
"""Onset strength is measured in units of its surroundings' so that quiet passages count like loud
ones."""
_CAP = 5.0
"""One crash counts no more than this many times the usual."""
_KNOWN_OCTAVES = 0.2
"""How far the beats may stray from a tempo that the caller gave."""
_TEMPO_STEP = 0.02
_LEVEL_HZ = 10.0
_SMOOTH_FRAMES = 2.0
"""Standard deviation of the Gaussian over an attack envelope before its peaks are read."""


@dataclass
class Findings:
    """Everything JSON-safe, rounded: times to 0.1 ms, confidence to 0.001."""

    tempo: float = 0.0
    beats: list[float] = field(default_factory=list[float])
    confidence: list[float] = field(default_factory=list[float])
    onsets: list[float] = field(default_factory=list[float])
    candidates: list[TempoCandidate] = field(default_factory=list[TempoCandidate])
    downbeats: list[float] | None = None


@dataclass(frozen=True)
class _Analysed:
    """What both engines need to know of the audio."""

    level: Doubles
    """RMS ten times a second."""
    loud: float
    """RMS of the loud passages; 0 for silence."""
    onsets: Doubles
    """Seconds."""


@dataclass(frozen=True)
class _Tempos:
    """The tempos among which beats are sought; see `best_path`."""

    salience: Doubles
    step: int
    intervals: NDArray[np.int64]
    doubled_up_to: float
    """The fastest tempo, beats a minute, at which beats may be added between those found; 0 for
    none."""


def by_onsets(audio: Spool, params: BeatParams) -> Findings:
    """Beats by onset strength and tempo."""
    analysed, whole, high = _listen(audio)
    if len(analysed.onsets) < refine.FEWEST_ATTACKS:
        return Findings(onsets=_rounded(analysed.onsets))
    rate = audio.rate / _PATH_HOP
    intervals, step = _intervals(params, rate), max(1, int(rate))
    bpm = 60 * rate / intervals
    salience = local_salience(_normalised(_paired(whole), rate), rate, intervals, step)
    salience = salience + preference(bpm, params.bpm or _global_tempo(audio, params))
    tempos = _Tempos(salience, step, intervals, params.max_bpm if params.bpm is None else 0.0)
    by_all = _pulse(whole, tempos, analysed, rate)
    pulse = steadier(by_all, _pulse(high, tempos, analysed, rate))
    clear = _clarity(pulse, whole if pulse is by_all else high, rate)
    if clear.is_noise:
        return Findings(onsets=_rounded(analysed.onsets))
    sure = clear.factor * refine.confidence(pulse.times, pulse.strengths)
    found = _summed_up(pulse.times, sure, analysed)
    if found.tempo:
        bounds = (MIN_BPM, MAX_BPM) if params.bpm is None else (float(bpm.min()), float(bpm.max()))
        shares = candidates(salience.mean(axis=0)[::-1], bpm[::-1], found.tempo, bounds)
        found.candidates = [
            TempoCandidate(bpm=round(b, 3), score=round(share, 4)) for b, share in shares
        ]
    return found


def _clarity(pulse: Pulse, envelope: Floats, rate: float) -> Clarity:
    if len(pulse.times) < refine.FEWEST_ATTACKS:
        return NO_PULSE
    attacks = refine.smoothed(envelope, _SMOOTH_FRAMES)
    strength = _normalised(_paired(envelope), rate)
    return clarity(pulse.times, attacks, rate * _PATH_HOP / FINE_HOP, strength, rate)


def _pulse(envelope: Floats, tempos: _Tempos, analysed: _Analysed, rate: float) -> Pulse:
    """The beats of one attack envelope, each on an attack of it."""
    strength = _STRENGTH_WEIGHT * _normalised(_paired(envelope), rate)
    frames = best_path(strength, tempos.salience, tempos.step, tempos.intervals, _STIFFNESS)
    attacks, fine_rate = refine.smoothed(envelope, _SMOOTH_FRAMES), rate * _PATH_HOP / FINE_HOP
    path = (2 * frames.astype(np.float64) + 0.5) / fine_rate
    longer = refine.from_the_start(path)
    times, strengths = refine.on_attacks(longer, attacks, fine_rate)
    if len(longer) > len(path) and strengths[0] == 0:  # it only may: nothing is struck there
        times, strengths = times[1:], strengths[1:]
    if 2 * refine.tempo_of(times) <= tempos.doubled_up_to:
        times, strengths = refine.doubled(times, strengths, attacks, fine_rate)
    inside = refine.sounding(times, analysed.onsets, analysed.level, _LEVEL_HZ, analysed.loud)
    return Pulse(times[inside], strengths[inside])


def by_network(audio: Spool, network: Network, progress: Callable[[int, int], None]) -> Findings:
    """Beats and downbeats by `beat_this`."""
    analysed, _, _ = _listen(audio)
    if analysed.loud == 0.0:
        return Findings(downbeats=[])
    beats, sure, downbeats = beats_and_downbeats(*logits(audio, network, progress))
    found = _summed_up(np.array(beats), np.array(sure), analysed)
    found.downbeats = [round(time, 4) for time in downbeats]
    if found.tempo:
        found.candidates = [TempoCandidate(bpm=found.tempo, score=1.0)]
    return found


def _listen(audio: Spool) -> tuple[_Analysed, Floats, Floats]:
    """With the attack envelopes of all bands and of the high ones."""
    level = np.array(energy(audio, _LEVEL_HZ).rms)
    loud = max(float(np.percentile(level, 95)), 0.1 * float(level.max())) if len(level) else 0.0
    if loud < 1e-6:  # below 16-bit silence
        return _Analysed(level, 0.0, np.zeros(0)), np.zeros(0, np.float32), np.zeros(0, np.float32)
    whole, high = attack_envelopes(audio, loud)
    onsets = refine.attacks(refine.smoothed(whole, _SMOOTH_FRAMES), audio.rate / FINE_HOP)
    return _Analysed(level, loud, onsets), whole, high


def _intervals(params: BeatParams, rate: float) -> NDArray[np.int64]:
    """Frames from beat to beat to try: every one where they are short, steps of two percent where
    they are long."""
    slowest, fastest = params.min_bpm, params.max_bpm
    if params.bpm is not None:
        slowest, fastest = params.bpm * 2**-_KNOWN_OCTAVES, params.bpm * 2**_KNOWN_OCTAVES
    shortest, longest = max(2.0, 60 * rate / fastest), 60 * rate / slowest
    steps = 2 + int(np.log2(longest / shortest) / np.log2(1 + _TEMPO_STEP))
    return np.unique(np.round(np.geomspace(shortest, longest, steps)).astype(np.int64))


def _global_tempo(audio: Spool, params: BeatParams) -> float:
    """librosa's tempo, within the caller's bounds."""
    rate = audio.rate / params.hop_length
    mean = tempogram_mean(onset_strength(audio, params.hop_length), rate)
    bpm, evidence = lag_bpm(len(mean), rate), tempo_evidence(mean, rate)
    evidence[(bpm < params.min_bpm) | (bpm > params.max_bpm)] = -np.inf
    return float(bpm[evidence.argmax()]) if np.isfinite(evidence).any() else 120.0


def _paired(envelope: Floats) -> Doubles:
    """The larger of every two values."""
    padded = np.append(envelope, np.zeros(len(envelope) % 2, np.float32))
    return padded.reshape(-1, 2).max(axis=1).astype(np.float64)


def _normalised(strength: Doubles, rate: float) -> Doubles:
    """In units of the root mean square around each frame, capped, slightly smoothed."""
    half = int(_AROUND_SECONDS / 2 * rate)
    kernel = np.hanning(2 * half + 3)[1:-1]
    power = np.convolve(np.square(strength), kernel, "full")[half : half + len(strength)]
    weight = np.convolve(np.ones(len(strength)), kernel, "full")[half : half + len(strength)]
    around = np.sqrt(power / weight) + 0.1 * np.sqrt(np.square(strength).mean()) + 1e-9
    return refine.smoothed(np.minimum(strength / around, _CAP).astype(np.float32), 1.0)


def _summed_up(times: Doubles, sure: Doubles, analysed: _Analysed) -> Findings:
    return Findings(
        tempo=round(refine.tempo_of(times), 3),
        beats=_rounded(times),
        confidence=np.round(sure, 3).tolist(),
        onsets=_rounded(analysed.onsets),
    )


def _rounded(times: Doubles) -> list[float]:
    return np.round(times, 4).tolist()
