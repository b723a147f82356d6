"""The sound of a film: music under it, its step back, levels, loudness, and that it stays with the
picture."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support import clips, music
from support.clips import Clip
from support.timeline_kit import (
    FFMPEG,
    RATE,
    TONE_SECONDS,
    Tape,
    bed,
    ffmpeg,
    lumas,
    render,
    rendered_timeline,
    samples,
    tone_errors,
)

from gpu_worker_client.protocol.timeline import Timeline
from gpu_worker_processors.render.timeline import inspect_inputs
from gpu_worker_processors.render.timeline.audio import stretched
from gpu_worker_processors.render.timeline.plan import plan_video


def level_db(sound: NDArray[np.float64], begin: float, end: float, hertz: float = 440) -> float:
    """Level of one frequency over a stretch of whole periods."""
    part = sound[round(begin * RATE) : round(end * RATE)]
    t = np.arange(len(part)) / RATE
    return 20 * np.log10(2 * abs((part * np.exp(-2j * np.pi * hertz * t)).mean()) + 1e-9)


def voiced(folder: Path) -> Path:
    """Three seconds of picture whose sound is loud for the first one: 1500 Hz at -10 dBFS."""
    picture = clips.make(folder / "picture.mp4", Clip(frames=75))
    t = np.arange(3 * RATE) / RATE
    sound = np.where(t < 1, 0.316 * np.sin(2 * np.pi * 1500 * t), 0).astype(np.float32)
    wave = music.save(folder / "voice.m4a", sound, rate=RATE)
    path = folder / "voiced.mp4"
    ffmpeg(
        "-i", str(picture), "-i", str(wave), "-map", "0:v", "-map", "1:a", "-c", "copy", str(path)
    )
    return path


def test_music_lies_under_the_film_and_never_shortens_it(tmp_path: Path) -> None:
    inputs = {"a.mp4": voiced(tmp_path), "m.wav": bed(tmp_path / "m.wav", 2.5)}
    timeline = {
        "clips": [{"input": "a.mp4"}],
        "music": {"input": "m.wav", "gain_db": -6, "start": 0.5},
    }
    render(timeline, inputs, tmp_path / "film.mp4")
    sound = samples(tmp_path / "film.mp4")
    assert abs(len(sound) / RATE - 3) < 0.025
    assert len(list(lumas(tmp_path / "film.mp4"))) == 75
    assert abs(level_db(sound, 0.2, 0.8) - -26) < 0.5
    assert abs(level_db(sound, 1.2, 1.8) - -26) < 0.5
    assert level_db(sound, 2.2, 2.8) < -60
    assert abs(level_db(sound, 0.2, 0.8, 1500) - -10) < 0.5


def test_music_steps_back_while_the_clips_are_loud(tmp_path: Path) -> None:
    inputs = {"a.mp4": voiced(tmp_path), "m.wav": bed(tmp_path / "m.wav", 5)}
    music = {"input": "m.wav", "duck_db": 12, "fade_out_seconds": 0.5}
    render({"clips": [{"input": "a.mp4"}], "music": music}, inputs, tmp_path / "film.mp4")
    sound = samples(tmp_path / "film.mp4")
    loud = level_db(sound, 1.8, 2.4)
    assert abs(loud - -20) < 0.5
    assert abs(loud - level_db(sound, 0.3, 0.9) - 12) < 1
    assert level_db(sound, 2.9, 3.0) < loud - 12


def test_a_silent_film_has_no_sound_and_music_gives_it_one(tmp_path: Path) -> None:
    inputs = {"a.mp4": clips.make(tmp_path / "a.mp4"), "m.wav": bed(tmp_path / "m.wav", 1)}
    silent = render({"clips": [{"input": "a.mp4"}]}, inputs, tmp_path / "silent.mp4")
    assert silent.expected.audio is False
    sounding = render(
        {"clips": [{"input": "a.mp4"}], "music": {"input": "m.wav"}}, inputs, tmp_path / "film.mp4"
    )
    assert sounding.expected.audio is True
    for name, streams in (("silent.mp4", 1), ("film.mp4", 2)):
        with av.open(str(tmp_path / name)) as container:
            assert len(container.streams) == streams


@pytest.mark.parametrize(("gain", "factor"), [(-6.0, 0.5), (-90.0, 0.0)])
def test_volume_of_a_clip(tmp_path: Path, gain: float, factor: float) -> None:
    path = voiced(tmp_path)
    render(
        {"clips": [{"input": "a.mp4", "volume_db": gain}]}, {"a.mp4": path}, tmp_path / "film.mp4"
    )
    amplitude = 10 ** (level_db(samples(tmp_path / "film.mp4"), 0.2, 0.8, 1500) / 20)
    assert abs(amplitude - 0.316 * factor) < 0.01


@pytest.mark.parametrize(
    ("speed", "allowed"),
    [(0.25, 0.005), (0.5, 0.005), (0.75, 0.008), (1.5, 0.005), (2, 0.005), (4, 0.005)],
)
def test_another_speed_keeps_the_pitch_and_every_tone_in_its_place(
    speed: float, allowed: float
) -> None:
    """Bursts of 300 Hz and 3 kHz in turn; those of 1 kHz are in the tables of clips."""
    length = 4 * max(1.0, speed)
    times = np.arange(0.3, length - 0.3, 0.4 * max(1.0, speed))
    source = np.zeros(round(length * RATE), np.float32)
    for hertz, some in ((300, times[::2]), (3000, times[1::2])):
        t = np.arange(round(TONE_SECONDS * RATE)) / RATE
        tone = (np.sin(2 * np.pi * hertz * t) * np.sin(np.pi * t / TONE_SECONDS) ** 2).astype(
            np.float32
        )
        music.put(source, some - TONE_SECONDS / 2, tone, 0.5, RATE)
    played = through(source, stretched(Fraction(speed)))
    assert np.abs(tone_errors(played, (times / speed)[1:-1].tolist())).max() < allowed

    steady = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    middle = through(steady, stretched(Fraction(speed)))[
        round(0.2 * RATE / speed) : round(1.6 * RATE / speed)
    ]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * RATE))
    assert abs(spectrum.argmax() / 8 - 440) < 1


def through(sound: NDArray[np.float32], filters: list[str]) -> NDArray[np.float64]:
    form = ("-f", "f32le", "-ar", str(RATE), "-ac", "1")
    command = [FFMPEG, "-v", "error", *form, "-i", "-", "-af", ",".join(filters), *form, "-"]
    done = subprocess.run(command, input=sound.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32).astype(np.float64)


def measured(path: Path) -> tuple[float, float]:
    """(integrated loudness, true peak) of a file, by FFmpeg's own meter."""
    words = ["-hide_banner", "-nostats", "-i", str(path), "-af", "ebur128=peak=true:framelog=quiet"]
    said = subprocess.run(
        [FFMPEG, *words, "-f", "null", "-"], capture_output=True, text=True, check=True
    ).stderr
    loudness, peak = (
        re.findall(rf"{name}:\s+(-?[0-9.]+|-inf) ", said)[-1] for name in ("I", "Peak")
    )
    return float(loudness), float(peak)


@pytest.mark.slow
@pytest.mark.parametrize("target", [-23.0, -18.0])
def test_loudness_by_r128_and_tones_where_they_were(tmp_path: Path, target: float) -> None:
    one = Tape(1, Clip(width=128, height=72, frames=500))
    timeline = {"clips": [{"input": one.name}], "loudness_lufs": target}
    rendered_timeline(timeline, {one.name: one.record(tmp_path)}, tmp_path / "film.mp4")
    assert abs(measured(tmp_path / "film.mp4")[0] - target) < 0.5
    sound = samples(tmp_path / "film.mp4")
    assert abs(len(sound) / RATE - 20) < 0.025
    assert np.abs(tone_errors(sound, one.tones[1:-1].tolist())).max() < 0.005


_SOUNDS = {
    "sine": "sine=f=300:d=2,volume=-30dB",
    "noise": "anoisesrc=d=2:a=0.02",
    "loud": "anoisesrc=d=2:a=0.9",
    "peaks": "aevalsrc=0.02*sin(2*PI*300*t)+0.9*lt(mod(t\\,0.5)\\,0.004)*sin(2*PI*5000*t):d=2",
    "nothing": "anullsrc=d=2",
}
"""Two seconds each: quiet, loud, and a voice under clicks that leave no room."""


_JOINTS = [("sine", "loud"), ("peaks", "noise"), ("nothing", "sine"), ("nothing",)]


@pytest.mark.parametrize(
    ("joined", "target"),
    [
        # Each joint with one of the two loudnesses in turn.
        pytest.param(joint, target, marks=pytest.mark.slow if (one + other) % 2 else ())
        for one, joint in enumerate(_JOINTS)
        for other, target in enumerate((-23.0, -14.0))
    ],
)
def test_any_joint_of_clips_has_its_loudness(
    joined: tuple[str, ...], target: float, tmp_path: Path
) -> None:
    inputs: dict[str, Path] = {}
    for name in joined:
        inputs[f"{name}.mp4"] = tmp_path / f"{name}.mp4"
        ffmpeg(
            *("-f", "lavfi", "-i", "color=s=64x48:r=25:d=2", "-f", "lavfi", "-i", _SOUNDS[name]),
            *("-c:v", "libx264", "-preset", "ultrafast", str(inputs[f"{name}.mp4"])),
        )
    timeline = {"clips": [{"input": name} for name in inputs], "loudness_lufs": target}
    rendered_timeline(timeline, inputs, tmp_path / "out.mp4")
    loudness, peak = measured(tmp_path / "out.mp4")
    if joined == ("nothing",):
        assert peak < -70
        return
    assert abs(loudness - target) < 0.5
    assert peak < -1.5


def test_sound_and_picture_never_drift_apart(tmp_path: Path) -> None:
    """Two hundred clips at 29.97: the samples of each begin within half a sample of its frame."""
    tape = Tape(1, Clip(width=128, height=72, frames=75))
    wanted = Timeline.model_validate(
        {"clips": [{"input": "a.mp4", "end": 1.01}] * 200, "output": {"fps": 29.97}}, strict=False
    )
    film = plan_video(wanted, inspect_inputs(wanted, {"a.mp4": tape.record(tmp_path)}))
    for placed in film.clips:
        assert abs(
            film.sample_at(placed.first) - placed.first * 48_000 * Fraction(1001, 30000)
        ) <= Fraction(1, 2)
    assert film.frames == 200 * 30
