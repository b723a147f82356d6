"""Which audio of a file is analysed, and that nothing of it gets lost: streams beside each other,
programmes of a broadcast, channels that cancel each other, damage. The beats are those that were
put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import music
from support.media_job import MediaWorker, ffmpeg, played, said

RATE, SECONDS = 44_100, 8
BEATS = music.steady(120, 0.5, SECONDS - 0.1)
CLICKS = music.clicks(BEATS, SECONDS, RATE)
TONE = (0.2 * np.sin(np.arange(len(CLICKS)) * 0.05)).astype(np.float32)
LATE_SECONDS = 0.06
"""Of formats that note no encoder delay: 2112 samples and rounding."""
SIZES = ("48x32", "64x48")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    music.save(folder / "clicks.wav", CLICKS, rate=RATE)
    music.save(folder / "tone.wav", TONE, rate=RATE)
    music.save(folder / "silence.wav", np.zeros_like(TONE), rate=RATE)
    return folder


def assert_beats(answer: dict[str, Any], *warnings: str) -> None:
    assert answer.get("status") == "completed", answer
    assert [warning["code"] for warning in answer["warnings"]] == list(warnings)
    found = np.array(answer["beat_times"])
    assert len(found) - len(BEATS) in (0, 1)
    assert max(np.abs(found - beat).min() for beat in BEATS) < LATE_SECONDS


HALF = np.sign(len(CLICKS) / 2 - np.arange(len(CLICKS))).astype(np.float32)
CANCELLING: dict[str, tuple[list[NDArray[np.float32]], str]] = {
    "one turned over": ([CLICKS, -CLICKS], "stereo"),
    "turned over in the second half": ([CLICKS, HALF * CLICKS], "stereo"),
    "beneath a tone that is not": ([TONE + CLICKS, TONE - CLICKS], "stereo"),
    "two of six": ([CLICKS, -CLICKS, *(4 * [np.zeros_like(CLICKS)])], "5.1"),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_channels_that_cancel_each_other(name: str, folder: Path, worker: MediaWorker) -> None:
    channels, layout = CANCELLING[name]
    path = music.save(folder / "channels.wav", np.stack(channels), rate=RATE, layout=layout)
    assert_beats(worker.run("beat", path, folder / "mix.wav"))
    assert np.abs(played(folder / "mix.wav", RATE, 1)).max() > 0.3


def test_coded_channels_that_cancel_each_other(folder: Path, worker: MediaWorker) -> None:
    channels = np.stack([CLICKS, -CLICKS])
    path = music.save(folder / "opposed.m4a", channels, rate=RATE, layout="stereo")
    assert_beats(worker.run("beat", path))


@pytest.mark.parametrize(
    ("other", "disposition", "warnings"),
    [
        pytest.param("tone", "visual_impaired+descriptions", (), id="audio description"),
        pytest.param("tone", "0", (), id="not the default"),
        pytest.param("silence", "default", ("audio_stream_silent",), id="silent"),
    ],
)
def test_a_first_stream_that_is_not_meant(
    other: str, disposition: str, warnings: tuple[str, ...], folder: Path, worker: MediaWorker
) -> None:
    path = folder / "streams.mkv"
    ffmpeg(
        *("-i", folder / f"{other}.wav", "-i", folder / "clicks.wav", "-map", "0", "-map", "1"),
        *("-c:a", "flac", "-disposition:a:0", disposition, "-disposition:a:1", "default", path),
    )
    answer = worker.run("beat", path)
    assert_beats(answer, *warnings)
    assert answer["stats"]["audio_stream"] == 1
    first = worker.run("beat", path, audio_stream=0)
    assert (first["beat_times"], first["stats"]["audio_stream"]) == ([], 0)


@pytest.mark.slow
def test_two_programmes_of_a_broadcast(folder: Path, worker: MediaWorker) -> None:
    """The larger picture is of the second one, and so is the audio, of the file and of what is made
    from it."""
    path, output = folder / "programmes.ts", folder / "programme.mp4"
    pictures = [("-f", "lavfi", "-i", f"testsrc2=s={s}:r=5:d={SECONDS}") for s in SIZES]
    ffmpeg(
        *(*pictures[0], *pictures[1], "-i", folder / "tone.wav", "-i", folder / "clicks.wav"),
        *("-map", "0", "-map", "2", "-map", "1", "-map", "3", "-c:v", "libx264", "-c:a", "mp2"),
        *("-program", "program_num=1:st=0:st=1", "-program", "program_num=2:st=2:st=3", path),
    )
    assert_beats(worker.run("beat", path))
    answer = worker.upscaled(path, output)
    assert "stream_left_out" in [warning["code"] for warning in answer["warnings"]]
    assert said("-i", output).count("Audio:") == 1
    assert_beats(worker.run("beat", output))
    packets = path.read_bytes()
    path.write_bytes(
        b"".join(bytes(4) + packets[at : at + 188] for at in range(0, len(packets), 188))
    )
    assert_beats(worker.run("beat", path))


def broken(folder: Path, suffix: str, *codec: str) -> Path:
    """The file with a tenth of a second lost in the middle."""
    path = folder / f"broken.{suffix}"
    ffmpeg("-i", folder / "clicks.wav", *codec, path)
    data = bytearray(path.read_bytes())
    lost = len(data) // 80
    data[len(data) // 2 : len(data) // 2 + lost] = bytes(lost)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "codec"), [("flac", ("-c:a", "flac")), ("mka", ("-c:a", "aac"))]
)
def test_damage_ends_the_job_or_is_silent(
    suffix: str, codec: tuple[str, ...], folder: Path, worker: MediaWorker
) -> None:
    """What FFmpeg still decodes is where it was; a second of it may be gone."""
    path = broken(folder, suffix, *codec)
    assert worker.run("beat", path)["code"] == "corrupt_media"
    answer = worker.run("beat", path, on_damage="conceal", onsets=True)
    assert [warning["code"] for warning in answer["warnings"]] == ["damage_concealed"]
    assert "the audio is damaged" in answer["warnings"][0]["message"]
    assert answer["duration"] == pytest.approx(SECONDS, abs=0.1)
    near = [np.abs(np.array(answer["onsets"]) - beat).min() < LATE_SECONDS for beat in BEATS]
    assert near[:5] + near[-6:] == 11 * [True]


def test_a_file_that_was_cut_off_is_taken_as_far_as_it_goes(
    folder: Path, worker: MediaWorker
) -> None:
    data = (folder / "clicks.wav").read_bytes()
    path = folder / "cut.wav"
    path.write_bytes(data[: len(data) // 2])
    assert worker.run("beat", path)["code"] == "corrupt_media"
    answer = worker.run("beat", path, on_damage="conceal")
    assert [warning["code"] for warning in answer["warnings"]] == ["damage_concealed"]
    assert "ends after 4.0 of the 8.0 seconds" in answer["warnings"][0]["message"]
    assert len(answer["beat_times"]) in (7, 8)
