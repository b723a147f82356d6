"""Instruments that are apart from each other: the beat is where the steadier of two plays, as
chosen here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import music

from gpu_worker_client.protocol.beat import BeatParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.beat.processor import PROCESSOR
from gpu_worker_processors.beat.pulse import Pulse, steadier, unsteadiness

SECONDS = 15.0
LATENESS = 0.015
RISE = 0.005

Doubles = NDArray[np.float64]


def bass_note(pitch_hz: float) -> music.Samples:
    """A plucked string: three partials, gone within its beat."""
    t = np.arange(round(0.35 * music.RATE)) / music.RATE
    level = np.minimum(1, t / RISE) * np.exp(-t / 0.12) * np.minimum(1, (0.35 - t) / 0.05)
    return (level * sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in (1, 2, 3))).astype(
        np.float32
    )


def duo(bass: Doubles, hats: Doubles, hat_gain: float, rng: np.random.Generator) -> music.Samples:
    """A loud walking bass and hats."""
    sound = np.zeros(round(SECONDS * music.RATE), np.float32)
    for time in bass:
        music.put(sound, [time], bass_note(55 * 2 ** (rng.integers(14) / 12)), 0.3)
    for time in hats:
        music.put(sound, [time], music.hat(rng), hat_gain)
    return sound


def by_hand(times: Doubles, rng: np.random.Generator) -> Doubles:
    """As a player who is 20 ms off now and then."""
    return times + rng.normal(0, 0.02, len(times))


def beats_of(sound: music.Samples, tmp_path: Path) -> Doubles:
    path = music.save(tmp_path / "sound.wav", sound)
    return np.array(PROCESSOR.run(LocalJob("t", BeatParams(), tmp_path, path)).beat_times)


def lateness(beats: Doubles, true: Doubles) -> Doubles:
    assert len(beats) == len(true)
    return np.abs(beats - true)


@pytest.mark.parametrize("bpm", [100, 120, 143])
@pytest.mark.parametrize("bass_late", [-0.08, 0.08])
def test_steady_hats_lead_a_bass_that_wanders(bpm: float, bass_late: float, tmp_path: Path) -> None:
    """The hats are 32 dB below the bass, and the beat."""
    rng = np.random.default_rng(1)
    times = music.steady(bpm, 0.5, SECONDS - 0.5)
    sound = duo(by_hand(times + bass_late, rng), times, 0.03, rng)
    assert lateness(beats_of(sound, tmp_path), times).max() <= LATENESS


@pytest.mark.parametrize("bpm", [100, 120, 143])
@pytest.mark.parametrize("hats_late", [-0.08, 0.08])
def test_a_steady_bass_leads_hats_that_wander(bpm: float, hats_late: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    times = music.steady(bpm, 0.5, SECONDS - 0.5)
    sound = duo(times, by_hand(times + hats_late, rng), 0.03, rng)
    assert lateness(beats_of(sound, tmp_path), times).max() <= LATENESS + RISE


@pytest.mark.parametrize("bpm", [112, 128])
def test_hats_between_beats_are_no_beat_however_steady(bpm: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grid = music.steady(bpm, 0.5, SECONDS - 0.5)
    kicks = grid + rng.normal(0, 0.008, len(grid))
    sound = np.zeros(round(SECONDS * music.RATE), np.float32)
    music.put(sound, kicks, music.kick(), 0.5)
    music.put(sound, (grid[1:] + grid[:-1]) / 2, music.hat(rng), 0.1)
    assert lateness(beats_of(sound, tmp_path), kicks).max() <= LATENESS


def test_what_cannot_be_heard_does_not_lead(tmp_path: Path) -> None:
    """Hats 67 dB below the bass, as what leaks from another track: the beats stay with the bass, 80
    ms ahead."""
    rng = np.random.default_rng(1)
    times = music.steady(120, 0.5, SECONDS - 0.5)
    bass = by_hand(times - 0.08, rng)
    assert (
        np.median(lateness(beats_of(duo(bass, times, 5e-4, rng), tmp_path), bass))
        <= LATENESS + RISE
    )


GRID = np.arange(20) * 0.5
WANDERING = Pulse(GRID + 0.02 * np.resize([1, -1, 0], 20), np.ones(20))


@pytest.mark.parametrize(
    ("times", "strength", "wins"),
    [
        pytest.param(GRID + 0.1, 1.0, True, id="apart and steady"),
        pytest.param(GRID[1:] - 0.1, 0.5, True, id="fainter, and ahead"),
        pytest.param(GRID + 0.1, 0.3, False, id="too faint"),
        pytest.param(GRID + 0.01, 1.0, False, id="on the same attacks"),
        pytest.param(GRID + 0.25, 1.0, False, id="off-beats"),
        pytest.param(GRID + 0.5 * 2 / 3, 1.0, False, id="the last of swung eighths"),
        pytest.param(GRID[::2] + 0.1, 1.0, False, id="half the tempo"),
        pytest.param(np.arange(40) * 0.25 + 0.1, 1.0, False, id="twice the tempo"),
        pytest.param(GRID + 0.1 + 0.04 * np.resize([1, -1, 0], 20), 1.0, False, id="less steady"),
        pytest.param(GRID[:2] + 0.1, 1.0, False, id="two beats"),
        pytest.param(GRID[:0], 1.0, False, id="none"),
    ],
)
def test_the_steadier_pulse(times: Doubles, strength: float, wins: bool) -> None:
    part = Pulse(times, np.full(len(times), strength))
    assert steadier(WANDERING, part) is (part if wins else WANDERING)


def test_unsteadiness_is_the_change_between_intervals() -> None:
    assert unsteadiness(GRID) == pytest.approx(0, abs=1e-12)
    assert unsteadiness(np.array([0.0, 0.5, 0.9, 1.4, 1.8])) == pytest.approx(0.1 / 0.45)
