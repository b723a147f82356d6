"""Beats, tempo, onsets and loudness of sounds whose beats were chosen here, and of annotated
music."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import music

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.beat import AUDIO_CONTAINERS, BeatParams, BeatResult
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.beat.processor import PROCESSOR
from gpu_worker_processors.beat.refine import tempo_of
from gpu_worker_processors.media.audio import AudioReader, find_audio

TOLERANCE_SECONDS = 0.015
TEMPO_TOLERANCE = 0.005


def run(path: Path, work_dir: Path, **params: object) -> BeatResult:
    work_dir.mkdir(exist_ok=True)
    return PROCESSOR.run(LocalJob("t", BeatParams(**params), work_dir, path))  # pyright: ignore[reportArgumentType]


def beats_of(sound: music.Samples, tmp_path: Path, **params: object) -> BeatResult:
    return run(music.save(tmp_path / "sound.wav", sound), tmp_path / "work", **params)


def assert_same_beats(found: Sequence[float], true: Sequence[float] | NDArray[np.float64]) -> None:
    assert len(found) == len(true)
    assert np.abs(np.array(found) - np.array(true)).max() <= TOLERANCE_SECONDS


@pytest.mark.parametrize("bpm", [60, 72.5, 90, 110, 120, 133.3, 150, 174, 200])
def test_a_steady_click(bpm: float, tmp_path: Path) -> None:
    times = music.steady(bpm, 0.37, 15)
    result = beats_of(music.clicks(times, 15.4), tmp_path)
    assert_same_beats(result.beat_times, times)
    assert result.tempo == pytest.approx(bpm, rel=TEMPO_TOLERANCE)
    assert min(result.confidence) > 0.8 and len(result.confidence) == len(times)


@pytest.mark.parametrize("start", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("bpm", [80, 120, 174])
def test_a_sound_that_begins_on_a_beat(bpm: float, start: float, tmp_path: Path) -> None:
    times = music.steady(bpm, start, 10)
    result = beats_of(music.clicks(times, 10.3), tmp_path)
    assert_same_beats(result.beat_times, times)
    assert min(result.confidence) > 0.6


@pytest.mark.parametrize(
    ("first", "last"), [(80, 120), (120, 80), (60, 90), (100, 180), (60, 200), (180, 140)]
)
def test_a_changing_tempo_is_followed(first: float, last: float, tmp_path: Path) -> None:
    times = music.ramp(first, last, 30)
    assert_same_beats(beats_of(music.clicks(times, 30.3), tmp_path).beat_times, times)


def test_a_tempo_that_jumps(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(0.5, 15, 0.6), np.arange(15.5, 30, 60 / 130)])
    assert_same_beats(beats_of(music.clicks(times, 30.4), tmp_path).beat_times, times)


@pytest.mark.parametrize("bpm", [90, 120, 150, 180])
def test_swung_eighths_are_no_beats(bpm: float, tmp_path: Path) -> None:
    times = music.steady(bpm, 0.4, 20)
    sound = music.clicks(times, 20.4)
    music.put(sound, times[1::2] + 60 / bpm * 2 / 3, music.tick(3000), 0.3)
    result = beats_of(sound, tmp_path)
    assert_same_beats(result.beat_times, times)
    assert result.tempo == pytest.approx(bpm, rel=TEMPO_TOLERANCE)


@pytest.mark.parametrize("bpm", [70, 90, 120, 140])
def test_half_time_drums(bpm: float, tmp_path: Path) -> None:
    """A kick on one, a snare on three, quiet eighths: the beat is the quarter."""
    times = music.steady(bpm, 0.4, 20)
    sound = music.clicks(times, 20.5)
    for start, pitch in ((0, 80.0), (2, 300.0)):
        music.put(sound, times[start::4], music.tick(pitch), 0.6)
    music.put(sound, times + 30 / bpm, music.tick(4000), 0.2)
    result = beats_of(sound, tmp_path)
    assert_same_beats(result.beat_times, times)
    assert result.tempo == pytest.approx(bpm, rel=TEMPO_TOLERANCE)


def four_on_the_floor(times: NDArray[np.float64], seconds: float) -> music.Samples:
    """A kick on every beat, a hat two fifths as loud between each two."""
    sound = np.zeros(round(seconds * music.RATE), np.float32)
    music.put(sound, times, music.kick(), 0.5)
    music.put(sound, (times[1:] + times[:-1]) / 2, music.hat(np.random.default_rng(7)), 0.2)
    return sound


@pytest.mark.parametrize("bpm", [112, 128])
def test_the_kick_is_the_beat(bpm: float, tmp_path: Path) -> None:
    times = music.steady(bpm, 0.4, 16)
    result = beats_of(four_on_the_floor(times, 16.0), tmp_path)
    assert_same_beats(result.beat_times, times)
    assert result.tempo == pytest.approx(bpm, rel=TEMPO_TOLERANCE)


def test_the_other_octave_is_among_the_candidates(tmp_path: Path) -> None:
    result = beats_of(music.clicks(music.steady(140, 0.4, 15), 15.3), tmp_path)
    assert result.tempo_candidates[0].bpm == result.tempo
    assert any(abs(c.bpm / 70 - 1) < 0.03 for c in result.tempo_candidates[1:])
    scores = [c.score for c in result.tempo_candidates]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=0.01)


def test_a_given_tempo_decides_the_octave(tmp_path: Path) -> None:
    sound = music.clicks(music.steady(140, 0.4, 15), 15.3)
    assert beats_of(sound, tmp_path, bpm=70).tempo == pytest.approx(70, rel=TEMPO_TOLERANCE)
    assert beats_of(sound, tmp_path, max_bpm=100).tempo == pytest.approx(70, rel=TEMPO_TOLERANCE)


def test_no_beat_in_the_silence_before_between_and_after(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(5, 12, 0.5), np.arange(20.5, 27, 0.5)])
    assert_same_beats(beats_of(music.clicks(times, 33), tmp_path).beat_times, times)


def test_a_beat_that_is_left_out_once_is_kept(tmp_path: Path) -> None:
    times = music.steady(120, 0.5, 15)
    sounding = np.delete(times, 9)
    sound = music.clicks(sounding, 15.3) + 0.01 * np.sin(
        np.arange(round(15.3 * music.RATE)) * 0.06
    ).astype(np.float32)
    result = beats_of(sound, tmp_path)
    assert_same_beats(result.beat_times, times)
    assert result.confidence[9] < 0.5 < min(np.delete(result.confidence, 9))


def test_the_end_of_a_file_is_no_beat(tmp_path: Path) -> None:
    """A loud tone under the clicks, which comes up slowly, is cut off exactly where the next beat
    would be."""
    times = music.steady(120, 0.5, 9.9)
    tone = 0.3 * np.sin(np.arange(10 * music.RATE) * 0.1) * np.linspace(0, 1, 10 * music.RATE)
    result = beats_of(music.clicks(times, 10.0) + tone.astype(np.float32), tmp_path)
    assert_same_beats(result.beat_times, times)
    assert result.tempo == pytest.approx(120, rel=1e-4)


def test_two_seconds_are_enough(tmp_path: Path) -> None:
    times = np.arange(0.2, 2, 0.5)
    assert_same_beats(beats_of(music.clicks(times, 2.0), tmp_path).beat_times, times)


@pytest.mark.parametrize("what", ["silence", "one click", "nothing", "a tone", "a millisecond"])
def test_what_has_no_beat_is_an_answer(what: str, tmp_path: Path) -> None:
    sound = {
        "silence": np.zeros(3 * music.RATE, np.float32),
        "one click": music.clicks([1.0], 3.0),
        "nothing": np.zeros(1, np.float32),
        "a tone": (0.3 * np.sin(np.arange(5 * music.RATE) * 0.1)).astype(np.float32),
        "a millisecond": music.clicks([0], 0.001),
    }[what]
    result = beats_of(sound, tmp_path, onsets=True)
    assert (result.tempo, result.beat_times, result.confidence, result.tempo_candidates) == (
        0.0,
        [],
        [],
        [],
    )
    assert result.duration == pytest.approx(len(sound) / music.RATE, abs=1e-4)
    assert result.onsets is not None
    json.dumps(result.model_dump(), allow_nan=False)


@pytest.mark.parametrize(("rate", "layout"), [(8000, "mono"), (44_100, "stereo"), (48_000, "7.1")])
def test_rate_and_layout_do_not_move_a_beat(rate: int, layout: str, tmp_path: Path) -> None:
    times = music.steady(100, 0.5, 12)
    channels = {"mono": 1, "stereo": 2, "7.1": 8}[layout]
    sound = np.repeat(music.clicks(times, 12.3, rate)[None], channels, axis=0)
    result = run(music.save(tmp_path / "s.wav", sound, rate=rate, layout=layout), tmp_path / "work")
    assert_same_beats(result.beat_times, times)
    assert (result.sample_rate, result.stats.source_sample_rate, result.stats.channels) == (
        22_050,
        rate,
        channels,
    )


def test_loud_and_quiet_count_alike(tmp_path: Path) -> None:
    times = music.steady(110, 0.4, 20)
    sound = music.clicks(times, 20.3) * np.repeat(
        np.float32([1, 0.02]), [10 * music.RATE, round(10.3 * music.RATE)]
    )
    assert_same_beats(beats_of(sound, tmp_path).beat_times, times)


def test_onsets_are_all_attacks(tmp_path: Path) -> None:
    times = np.array([0.4, 0.9, 1.15, 1.4, 2.3, 2.6, 3.35, 4.0])
    onsets = beats_of(music.clicks(times, 5.0), tmp_path, onsets=True).onsets
    assert onsets is not None
    assert_same_beats(onsets, times)
    assert beats_of(music.clicks(times, 5.0), tmp_path).onsets is None


def test_energy_is_the_root_mean_square_of_its_windows(tmp_path: Path) -> None:
    sound = np.repeat(np.float32([0.5, 0.0, 0.25]), music.RATE)
    energy = beats_of(sound, tmp_path, energy_hz=4).energy
    assert energy.times == pytest.approx([0.125 + k / 4 for k in range(12)], abs=1e-3)
    assert energy.rms == pytest.approx([0.5] * 4 + [0.0] * 4 + [0.25] * 4, abs=1e-3)


SAME_AS_MP4 = {".m4a", ".m4v", ".mov"}
"""The same muxer, or its elder, and the same encoder."""


@pytest.mark.parametrize(
    "name",
    [
        "mix",
        *(
            pytest.param(f"mix{suffix}", marks=pytest.mark.slow if suffix in SAME_AS_MP4 else ())
            for suffix in sorted(AUDIO_CONTAINERS)
        ),
    ],
)
def test_the_mix_down_has_the_sound_and_a_click_on_every_beat(name: str, tmp_path: Path) -> None:
    times = music.steady(100, 0.5, 8)
    source = music.save(tmp_path / "s.wav", music.clicks(times, 8.3, 48_000), rate=48_000)
    job = LocalJob("t", BeatParams(onsets=True), tmp_path, source, output_path=tmp_path / name)
    result = PROCESSOR.run(job)
    mixed = np.concatenate(list(AudioReader(find_audio(tmp_path / name), 48_000)))
    plain = np.concatenate(list(AudioReader(find_audio(source), 48_000)))
    assert len(mixed) / 48_000 == pytest.approx(len(plain) / 48_000, abs=0.1)
    if name == "mix.wav":
        added = mixed - np.float32(0.6) * plain
        for time in result.beat_times:
            at = round(time * 48_000)
            assert np.abs(added[at - 200 : at - 2]).max() < 1e-3 < 0.35 < added[at : at + 3].max()
    else:
        assert np.abs(mixed).max() > 0.3


def test_bad_input_is_typed(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<html></html>")
    with pytest.raises(TaskError) as caught:
        run(path, tmp_path / "work")
    assert caught.value.code is ErrorCode.not_media


def test_two_steps_that_differ_have_a_tempo() -> None:
    """Their median is none of them."""
    assert tempo_of(np.array([0.5, 1.0, 2.0])) == pytest.approx(120)


def test_one_late_beat_does_not_change_the_tempo() -> None:
    times = 0.5 * np.arange(20)
    times[0] += 0.009
    assert tempo_of(times) == pytest.approx(120, abs=1e-6)


def test_nothing_stays_in_the_work_directory(tmp_path: Path) -> None:
    beats_of(music.clicks(music.steady(120, 0.5, 5), 5.0), tmp_path)
    assert list((tmp_path / "work").iterdir()) == []


HOUR = """
import sys
from pathlib import Path
from gpu_worker_client.protocol.beat import BeatParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.beat.processor import PROCESSOR
from gpu_worker_processors.beat.refine import tempo_of
job = LocalJob("hour", BeatParams(energy_hz=1), Path(sys.argv[2]), Path(sys.argv[1]))
result = PROCESSOR.run(job)
print(len(result.beat_times), Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_hour_stays_under_half_a_gigabyte(tmp_path: Path) -> None:
    times = music.steady(100, 0.5, 3600)
    source = music.save(tmp_path / "hour.flac", music.clicks(times, 3600.0))
    ran = subprocess.run(
        [sys.executable, "-c", HOUR, source, tmp_path], capture_output=True, text=True, check=True
    )
    beats, peak_kb = map(int, ran.stdout.split())
    assert beats == len(times)
    assert peak_kb < 500 * 1024
