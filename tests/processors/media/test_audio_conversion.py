"""Audio that an output's container refuses is heard in it all the same: same channels, same rate,
at the same time. Truth is what plain FFmpeg plays of either file."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.media_job import MediaWorker, ffmpeg, played, said

TONES_HZ = (300, 400, 500, 60, 700, 800)
"""Of each channel; the fourth of 5.1 takes low frequencies only."""
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
LIKE = pytest.approx(1, abs=0.05)
IN_STEP_MS = 5.5
"""Matroska counts milliseconds, and does not say AC-3's delay of 256 samples."""

# suffix of the source -> (encoder, rate, channels, codec in mp4, in mov, in mkv) of its streams
SOURCES: dict[str, tuple[tuple[str, int, int, str, str, str], ...]] = {
    "mkv": (
        ("truehd", 48000, 2, "aac", "aac", "truehd"),
        ("truehd", 48000, 6, "aac", "aac", "truehd"),
        ("mlp", 48000, 2, "aac", "aac", "mlp"),
        ("libopus", 48000, 2, "opus", "aac", "opus"),
        ("flac", 44100, 2, "flac", "aac", "flac"),
        ("flac", 192000, 2, "flac", "aac", "flac"),
        ("libvorbis", 44100, 2, "aac", "aac", "vorbis"),
        ("wmav2", 44100, 2, "aac", "aac", "flac"),
        ("dca", 48000, 2, "dts", "dts", "dts"),
        ("ac3", 48000, 2, "ac3", "ac3", "ac3"),
        ("eac3", 48000, 2, "eac3", "eac3", "eac3"),
        ("libmp3lame", 44100, 2, "mp3", "mp3", "mp3"),
        ("wavpack", 48000, 2, "aac", "aac", "wavpack"),
    ),
    "mov": (
        ("pcm_alaw", 8000, 1, "aac", "pcm_alaw", "flac"),
        ("pcm_mulaw", 8000, 1, "aac", "pcm_mulaw", "flac"),
        ("pcm_s16le", 48000, 2, "aac", "pcm_s16le", "pcm_s16le"),
        ("pcm_s24be", 48000, 6, "aac", "pcm_s24be", "pcm_s24be"),
        ("pcm_f32le", 96000, 2, "aac", "pcm_f32le", "pcm_f32le"),
        ("pcm_s8", 22050, 1, "aac", "pcm_s8", "flac"),
        ("alac", 44100, 2, "alac", "alac", "alac"),
        ("adpcm_ima_qt", 44100, 2, "aac", "adpcm_ima_qt", "flac"),
        ("libopencore_amrnb", 8000, 1, "aac", "amr_nb", "flac"),
    ),
    "avi": (
        ("adpcm_ms", 22050, 2, "aac", "aac", "flac"),
        ("adpcm_ima_wav", 22050, 2, "aac", "aac", "flac"),
        ("wmav1", 32000, 1, "aac", "aac", "flac"),
        ("libmp3lame", 8000, 1, "aac", "mp3", "mp3"),
        ("pcm_u8", 11025, 1, "aac", "pcm_u8", "pcm_u8"),
    ),
    "m2ts": (("pcm_bluray", 48000, 2, "aac", "aac", "flac"),),
    "ts": (("s302m", 48000, 2, "aac", "aac", "flac"),),
    "mpg": (("mp2", 48000, 2, "mp3", "mp2", "mp2"),),  # MP4's tag for MP2 is that of MP3
    "flv": (("nellymoser", 44100, 1, "aac", "nellymoser", "flac"),),
}

QUICK = {("m2ts", "mp4"), ("ts", "mov"), ("mpg", "mkv"), ("flv", "mov")}
"""Each source of one stream once, each container at least once. The rest takes minutes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


def clip(path: Path) -> Path:
    """Two seconds of picture, and streams of tones that come and go."""
    streams = SOURCES[path.suffix[1:]]
    words: list[object] = []
    is_mpeg = path.suffix in (".ts", ".m2ts", ".mpg")
    video = "mpeg2video" if is_mpeg else "flv" if path.suffix == ".flv" else "mpeg4"
    fps = 25 if is_mpeg else 5
    inputs = ["-f", "lavfi", "-i", f"testsrc=s=64x48:r={fps}:d=2"]
    for number, (encoder, rate, channels, *_) in enumerate(streams):
        tones = "|".join(f"0.3*sin({hz}*2*PI*t)*gt(mod(t,0.5),0.25)" for hz in TONES_HZ[:channels])
        tone = f"aevalsrc='{tones}':s={rate}:d=2:c={LAYOUTS[channels]}"
        inputs += ["-f", "lavfi", "-i", tone]
        words += ["-map", number + 1, f"-c:a:{number}", encoder, f"-ar:a:{number}", rate]
    ffmpeg(*inputs, "-map", 0, "-c:v", video, *words, "-strict", "-2", path)
    return path


@pytest.mark.parametrize(
    ("source", "into"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in product(SOURCES, ("mp4", "mov", "mkv"))
    ],
)
def test_audio_is_heard_in_every_container(
    source: str, into: str, folder: Path, worker: MediaWorker
) -> None:
    made = folder / f"in.{source}"
    path = made if made.exists() else clip(made)
    output = folder / f"{source}.{into}"
    answer = worker.upscaled(path, output)
    assert answer.get("status") == "completed", answer
    lines = re.findall(r"Audio: .*", said("-i", output))
    converted = 0
    for number, (encoder, rate, channels, *codecs) in enumerate(SOURCES[source]):
        codec = codecs[("mp4", "mov", "mkv").index(into)]
        assert re.match(rf"Audio: {codec}\b", lines[number]), (encoder, lines[number])
        is_converted = codec != re.findall(r"Audio: (\w+)", said("-i", path))[number]
        assert f" {min(rate, 96000) if codec == 'aac' else rate} Hz" in lines[number]
        converted += is_converted and codecs[1] != "mp2"
        before, after = (played(file, 4000, channels, number) for file in (path, output))
        assert abs(before.shape[1] - after.shape[1]) <= 0.06 * 4000, encoder
        for one, other in zip(before, after, strict=True):
            late, like = lag_and_likeness(one, other)
            assert (abs(late) <= IN_STEP_MS, like) == (True, LIKE), (encoder, late)
    assert [warning["code"] for warning in answer["warnings"]] == ["audio_converted"] * converted


def lag_and_likeness(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """(milliseconds by which the other comes late, correlation there); both at 4000 Hz."""
    size = min(len(one), len(other)) - 400
    middle = one[200 : 200 + size]
    best = max(
        (np.corrcoef(middle, other[200 + lag : 200 + lag + size])[0, 1], -abs(lag), lag)
        for lag in range(-200, 201)
    )
    return best[2] / 4, float(best[0])
