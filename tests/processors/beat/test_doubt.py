"""What the answer says of its own doubt: the tempos that may be meant instead, and a confidence
that is low where there is no beat. Truth is what was put in, and annotated music."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import music
from support.media_job import MediaWorker

RATE, SECONDS = music.RATE, 15
CORRECT = 0.04
"""The usual tolerance of a tempo."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doubt")


def beat(worker: MediaWorker, folder: Path, sound: music.Samples) -> dict[str, Any]:
    answer = worker.run("beat", music.save(folder / "sound.wav", sound.astype(np.float32)))
    assert answer.get("status") == "completed", answer
    return answer


def noise(color: float) -> music.Samples:
    """Its power falls with the frequency to that power: 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=SECONDS * RATE))
    spectrum /= np.maximum(20.0, np.arange(len(spectrum))) ** (color / 2)
    wave = np.fft.irfft(spectrum)
    return (0.2 * wave / wave.std()).astype(np.float32)


@pytest.mark.parametrize("color", [0, 1, 2], ids=["white", "pink", "brown"])
def test_noise_has_no_beat(color: float, folder: Path, worker: MediaWorker) -> None:
    answer = beat(worker, folder, noise(color))
    assert (answer["tempo"], answer["beat_times"], answer["tempo_candidates"]) == (0, [], [])


def test_clicks_at_random_are_no_sure_beat(folder: Path, worker: MediaWorker) -> None:
    times = np.cumsum(0.12 + np.random.default_rng(2).exponential(0.3, 100))
    answer = beat(worker, folder, music.clicks(times[times < SECONDS - 0.1], SECONDS))
    assert np.mean(answer["confidence"]) < 0.6


def grouped(eighths: float, groups: tuple[int, ...]) -> music.Samples:
    """Eighths of an odd metre, the first of each group struck harder."""
    times = music.steady(eighths, 0.5, SECONDS - 0.2)
    starts = np.cumsum((0, *groups))
    first = [i % starts[-1] in starts[:-1] for i in range(len(times))]
    sound = np.zeros(SECONDS * RATE, np.float32)
    music.put(sound, times, music.tick(3000), 0.15)
    music.put(sound, times[first], music.tick(600), 0.5)
    return sound


def between(bpm: float, *shares: float) -> music.Samples:
    """Beats with quieter notes at these shares of the interval."""
    times = music.steady(bpm, 0.5, SECONDS - 0.2)
    sound = music.clicks(times, SECONDS)
    for share in shares:
        music.put(sound, times[:-1] + share * 60 / bpm, music.tick(3000), 0.3)
    return sound


def jump(first: float, second: float) -> music.Samples:
    parts = (music.steady(first, 0.5, 7.2), music.steady(second, 7.5, SECONDS - 0.2))
    return music.clicks(np.concatenate(parts), SECONDS)


DOUBTS: list[tuple[str, float, Callable[[], music.Samples]]] = [
    *((f"clicks {bpm}", bpm, lambda bpm=bpm: between(bpm)) for bpm in (40, 90, 280, 290, 300)),
    *((f"triplets {b}", b, lambda b=b: between(b, 1 / 3, 2 / 3)) for b in (40, 90, 150)),
    *((f"swing {bpm}", bpm, lambda bpm=bpm: between(bpm, 2 / 3)) for bpm in (60, 180)),
    *((f"sixteenths {b}", b, lambda b=b: between(b, 0.25, 0.5, 0.75)) for b in (40, 120)),
    ("5/8", 300, lambda: grouped(300, (3, 2))),
    ("7/8", 280, lambda: grouped(280, (2, 2, 3))),
    ("90 then 135", 90, lambda: jump(90, 135)),
    ("90 then 135, the second", 135, lambda: jump(90, 135)),
]


@pytest.mark.parametrize(
    ("bpm", "make"), [pytest.param(bpm, make, id=name) for name, bpm, make in DOUBTS]
)
def test_the_true_tempo_is_among_the_candidates(
    bpm: float, make: Callable[[], music.Samples], folder: Path, worker: MediaWorker
) -> None:
    answer = beat(worker, folder, make())
    named = [candidate["bpm"] for candidate in answer["tempo_candidates"]]
    assert answer["tempo"] in named
    assert min(abs(tempo / bpm - 1) for tempo in named) < CORRECT, named
    shares = [candidate["score"] for candidate in answer["tempo_candidates"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_music_is_surer_than_speech(media: Path, folder: Path, worker: MediaWorker) -> None:
    sure = dict[str, float]()
    music = ("ballroom_Media-105901_waltz.wav", "gtzan_country_00000.wav", "808kick120bpm.mp3")
    for name in (*(f"music/{piece}" for piece in music), "speech/jfk.flac"):
        path = folder / "input"
        path.write_bytes((media / name).read_bytes())
        sure[name] = float(np.mean(worker.run("beat", path)["confidence"]))
    assert sure.pop("speech/jfk.flac") < 0.5 < 0.7 < min(sure.values())
