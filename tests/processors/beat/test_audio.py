"""The sound of a file as one mono signal: every container, layout and rate; gaps, offsets,
damage."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from support import clips, music

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.audio import AudioReader, find_audio
from gpu_worker_processors.media.sniff import sniff

RATE = 22_050
TONE_HZ, SECONDS = 440.0, 3.0
CLICK = 1.0


def read(path: Path, rate: int = RATE, stream: int = 0) -> music.Samples:
    return np.concatenate([np.zeros(0, np.float32), *AudioReader(find_audio(path, stream), rate)])


def tone(rate: int, seconds: float = SECONDS, gain: float = 0.5) -> music.Samples:
    return (gain * np.sin(2 * np.pi * TONE_HZ * np.arange(round(rate * seconds)) / rate)).astype(
        np.float32
    )


def loudest_second(sound: music.Samples) -> float:
    return float(np.abs(sound).argmax()) / RATE


@pytest.mark.parametrize("suffix", music.FORMATS)
def test_every_format_gives_the_click_where_it_is(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix == ".ogg" else 44_100
    path = music.save(tmp_path / f"click{suffix}", music.clicks([CLICK], SECONDS, rate), rate=rate)
    sound = read(path)
    # Containers that keep no encoder delay (MPEG frames in Matroska and ADTS) are late by it: at
    # most 2112 samples.
    assert loudest_second(sound) == pytest.approx(
        CLICK, abs=0.05 if suffix in (".aac", ".mkv") else 0.003
    )
    assert len(sound) / RATE == pytest.approx(SECONDS, abs=0.11)


@pytest.mark.parametrize("rate", [8000, 11_025, 32_000, 96_000])
def test_rates_are_converted_without_a_shift(rate: int, tmp_path: Path) -> None:
    sound = read(music.save(tmp_path / "tone.wav", tone(rate), rate=rate))
    expected = tone(RATE)
    assert abs(len(sound) - len(expected)) <= 1
    middle = slice(RATE // 2, 2 * RATE)
    assert np.abs(sound[middle] - expected[middle]).max() < 0.01


@pytest.mark.parametrize(
    ("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6), ("7.1", 8)]
)
def test_channels_become_their_mean(layout: str, channels: int, tmp_path: Path) -> None:
    gains = np.linspace(0.2, 0.9, channels, dtype=np.float32)[:, None]
    sound = read(music.save(tmp_path / "many.wav", tone(RATE, gain=1.0) * gains, layout=layout))
    expected = tone(RATE, gain=float(gains.mean()))
    assert np.abs(sound - expected).max() < 1e-3


def test_a_gap_in_the_timestamps_is_silence(tmp_path: Path) -> None:
    path = music.save(tmp_path / "gap.mkv", music.clicks([0.5, 1.5], 2.0), gap=(RATE, RATE))
    sound = read(path)
    assert len(sound) / RATE == pytest.approx(3.0, abs=0.11)
    assert loudest_second(sound[: int(0.9 * RATE)]) == pytest.approx(0.5, abs=0.06)
    assert loudest_second(sound[RATE:]) + 1.0 == pytest.approx(2.5, abs=0.06)
    assert np.abs(sound[int(1.3 * RATE) : int(1.8 * RATE)]).max() < 1e-3


def with_picture(path: Path, audio_late_seconds: float) -> Path:
    """A video whose sound, a click one second after its own start, starts late."""
    picture = clips.make(path.with_name("picture.mp4"), clips.Clip(frames=75))
    sound = music.save(path.with_name("sound.wav"), music.clicks([CLICK], 2.0, 48_000), rate=48_000)
    with (
        av.open(str(picture)) as video,
        av.open(str(sound)) as audio,
        av.open(str(path), "w") as out,
    ):
        copied = out.add_stream_from_template(video.streams.video[0])
        coded = out.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for packet in video.demux(video.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
        for frame in audio.decode(audio.streams.audio[0]):
            frame.pts = frame.pts + round(audio_late_seconds * 48_000)
            out.mux(coded.encode(frame))
        out.mux(coded.encode(None))
    return path


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_times_are_those_of_the_picture(late: float, tmp_path: Path) -> None:
    sound = read(with_picture(tmp_path / "late.mkv", late))
    assert loudest_second(sound) == pytest.approx(CLICK + late, abs=0.003)


def test_the_chosen_stream_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for stream, second in zip(streams, (0.5, 1.5), strict=True):
            block = (music.clicks([second], 2.0)[None] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, 0
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    assert loudest_second(read(path)) == pytest.approx(0.5, abs=0.002)
    assert loudest_second(read(path, stream=1)) == pytest.approx(1.5, abs=0.002)
    with pytest.raises(TaskError, match="counted from 0") as caught:
        find_audio(path, 2)
    assert caught.value.code is ErrorCode.no_audio_stream


def test_an_image_is_told_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "frame.mp3"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    with pytest.raises(TaskError, match="still picture \\(PNG\\), not a video or audio"):
        find_audio(path)


def test_a_silent_film_has_no_sound(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "silent.mp4", clips.Clip(frames=5))
    with pytest.raises(TaskError) as caught:
        find_audio(path)
    assert caught.value.code is ErrorCode.no_audio_stream


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".m4a", ".aiff"])
def test_a_file_that_was_cut_off_is_corrupt(suffix: str, tmp_path: Path) -> None:
    whole = music.save(tmp_path / f"whole{suffix}", music.clicks(music.steady(120, 0.5, 9.5), 10.0))
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(TaskError) as caught:
        read(cut)
    assert caught.value.code is ErrorCode.corrupt_media
    assert not caught.value.code.retryable


def test_an_mp3_that_was_cut_off_is_what_there_is(tmp_path: Path) -> None:
    data = music.save(tmp_path / "whole.mp3", tone(44_100, 10.0), rate=44_100).read_bytes()
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(data[: len(data) // 2 + 100])
    assert len(read(cut)) / RATE == pytest.approx(5.0, abs=0.3)


def test_damage_in_the_middle_is_corrupt(tmp_path: Path) -> None:
    data = bytearray(
        music.save(
            tmp_path / "whole.flac", music.clicks(music.steady(120, 0.5, 9.5), 10.0)
        ).read_bytes()
    )
    data[len(data) // 2 : len(data) // 2 + len(data) // 10] = bytes(len(data) // 10)
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(data)
    with pytest.raises(TaskError) as caught:
        read(damaged)
    assert caught.value.code is ErrorCode.corrupt_media


def test_nan_and_infinity_of_float_files_do_not_spread(tmp_path: Path) -> None:
    values = tone(RATE)
    values[1000], values[2000] = np.nan, np.inf
    path = tmp_path / "nan.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(values[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    sound = read(path)
    assert np.isfinite(sound).all() and len(sound) == len(values)


def test_a_layout_that_changes_midway_goes_on(tmp_path: Path) -> None:
    parts = [
        music.save(
            tmp_path / f"{layout}.aac", np.repeat(tone(RATE, 2.0)[None], n, axis=0), layout=layout
        ).read_bytes()
        for layout, n in (("mono", 1), ("stereo", 2))
    ]
    path = tmp_path / "joined.aac"
    path.write_bytes(b"".join(parts))
    assert len(read(path)) / RATE == pytest.approx(4.1, abs=0.2)


@pytest.mark.parametrize("suffix", music.FORMATS)
def test_audio_files_are_recognised(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix == ".ogg" else RATE
    path = music.save(tmp_path / f"a{suffix}", music.clicks([0.5], 1.0, rate), rate=rate)
    renamed = path.rename(tmp_path / "input")
    assert sniff(renamed).demuxer
