"""Against librosa: its onset strength and tempo are ours to the rounding, and on annotated music
our beats are not worse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import music

from gpu_worker_client.protocol.beat import BeatParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.beat.onsets import RATE_HZ, onset_strength
from gpu_worker_processors.beat.processor import PROCESSOR
from gpu_worker_processors.beat.spectrum import mel_filters
from gpu_worker_processors.beat.tempo import lag_bpm, tempo_evidence, tempogram_mean
from gpu_worker_processors.beat.waveform_file import Spool

librosa = pytest.importorskip("librosa", reason="the oracle of the development environment")
mir_eval = pytest.importorskip("mir_eval", reason="the metric of the development environment")

PIECES = {
    "waltz": ("ballroom_Media-105901_waltz.wav", "ballroom_Media-105901.beats"),
    "country": ("gtzan_country_00000.wav", "gtzan_country_00000.beats"),
    "drums and bass": ("filosax_01_Bass_Drums.wav", "filosax_01.beats"),
    "jazz": ("jtd_barronk-allgodschildren.wav", "jtd_barronk-allgodschildren.beats.csv"),
}


def noisy_clicks() -> music.Samples:
    sound = music.clicks(music.steady(97, 0.3, 20), 20.0)
    return sound + 0.02 * np.random.default_rng(5).normal(size=len(sound)).astype(np.float32)


def spooled(sound: music.Samples, tmp_path: Path) -> Spool:
    return Spool.write(tmp_path / "s.f32", RATE_HZ, np.array_split(sound, 7))


@pytest.mark.slow  # librosa compiles what it needs when it is first called: half a minute and more
@pytest.mark.parametrize("area", [True, False])
def test_mel_triangles(area: bool) -> None:
    ours = mel_filters(RATE_HZ, 2048, 128, 30.0, 11_000.0, area)
    theirs = librosa.filters.mel(
        sr=RATE_HZ, n_fft=2048, n_mels=128, fmin=30, fmax=11_000, norm="slaney" if area else None
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("hop", [256, 512, 1000])
def test_onset_strength(hop: int, tmp_path: Path) -> None:
    sound = noisy_clicks()
    theirs = librosa.onset.onset_strength(y=sound, sr=RATE_HZ, hop_length=hop, aggregate=np.median)
    np.testing.assert_allclose(onset_strength(spooled(sound, tmp_path), hop), theirs, atol=1e-3)


@pytest.mark.slow
def test_tempo(tmp_path: Path) -> None:
    envelope = onset_strength(spooled(noisy_clicks(), tmp_path), 512)
    rate = RATE_HZ / 512
    mean = tempogram_mean(envelope, rate)
    theirs = librosa.feature.tempogram(
        onset_envelope=envelope, sr=RATE_HZ, hop_length=512, win_length=len(mean)
    )
    np.testing.assert_allclose(mean, theirs.mean(axis=1), atol=1e-5)
    tempo = lag_bpm(len(mean), rate)[tempo_evidence(mean, rate).argmax()]
    assert tempo == pytest.approx(
        float(librosa.feature.tempo(onset_envelope=envelope, sr=RATE_HZ, hop_length=512)[0])
    )


def truth(path: Path, seconds: float) -> NDArray[np.float64]:
    lines = path.read_text().splitlines()
    times = (
        [float(line.split(",")[1]) for line in lines[1:]]
        if path.suffix == ".csv"
        else [float(x.split()[0]) for x in lines]
    )
    return np.array([time for time in times if time < seconds])


def scores(reference: NDArray[np.float64], beats: NDArray[np.float64]) -> tuple[float, float]:
    near, nearer = (
        mir_eval.beat.f_measure(reference, beats, f_measure_threshold=t) for t in (0.07, 0.04)
    )
    return near, nearer


@pytest.mark.slow
def test_annotated_music(media: Path, tmp_path: Path) -> None:
    """Within the usual 70 ms never worse than librosa's beat tracker, within 40 ms better by a
    tenth on average."""
    ours, theirs = list[tuple[float, float]](), list[tuple[float, float]]()
    for audio, beats in PIECES.values():
        samples, _ = librosa.load(media / "music" / audio, sr=RATE_HZ)
        reference = truth(media / "music" / beats, len(samples) / RATE_HZ)
        result = PROCESSOR.run(LocalJob("t", BeatParams(), tmp_path, media / "music" / audio))
        ours.append(scores(reference, np.array(result.beat_times)))
        theirs.append(
            scores(reference, librosa.beat.beat_track(y=samples, sr=RATE_HZ, units="time")[1])
        )
    assert all(near >= their_near for (near, _), (their_near, _) in zip(ours, theirs, strict=True))
    assert np.mean(ours, axis=0)[1] >= np.mean(theirs, axis=0)[1] + 0.10


def test_the_clock_of_a_drum_machine(media: Path, tmp_path: Path) -> None:
    result = PROCESSOR.run(
        LocalJob("t", BeatParams(), tmp_path, media / "music" / "808kick120bpm.mp3")
    )
    assert result.tempo == pytest.approx(120, rel=0.005)
    np.testing.assert_allclose(np.diff(result.beat_times), 0.5, atol=0.015)
