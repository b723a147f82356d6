"""Files whose clock jumps in the middle, starts anywhere or does not say when a frame is shown: one
continuous clock, the same for frames and audio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.flash import ffmpeg, flash_and_beep, is_white, joined, onsets

from gpu_worker_processors.media.audio import AudioReader, find_audio
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe

TS = ("-c:v", "libx264", "-bf", "2", "-c:a", "aac", "-f", "mpegts", "-muxdelay", "0")
VOB = ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2", "-f", "vob")
FULL = 2**33 / 90_000
"""Seconds after which a broadcast clock counts from 0 again."""


def two(first: float, second: float, words: tuple[str, ...] = TS) -> Callable[[Path], Path]:
    """Two recordings of four seconds end to end, whose clocks start at these seconds."""

    def build(folder: Path) -> Path:
        parts = [
            flash_and_beep(folder / f"{number}.part", 4, *words, "-output_ts_offset", start)
            for number, start in enumerate((first, second))
        ]
        return joined(folder / "in.ts", *parts)

    return build


def full_clock(folder: Path) -> Path:
    """One recording of eight seconds in whose middle the clock is full."""
    return flash_and_beep(folder / "in.ts", 8, *TS, "-output_ts_offset", FULL - 4)


JUMPS: dict[str, tuple[Callable[[Path], Path], float]] = {
    # how it is made, by how many seconds the clock jumps. A second part with an offset starts with
    # its first decoding time there, two frames before it is shown.
    "starts again": (two(0, 0), -4),
    "an hour back": (two(3600, 0), -3603.92),
    "an hour ahead": (two(0, 3604), 3599.92),
    "half a second back": (two(0, 3.5), -0.58),
    "starts again, programme stream": (two(0, 0, VOB), -4),
    "a full clock": (full_clock, -FULL),
}


def read_flashes(path: Path) -> tuple[list[float], list[float], list[str]]:
    """Seconds of the flashes and of all frames from the first one, and the warnings' codes."""
    reader = FrameReader(path, probe(path))
    frames = [(item.time_seconds, is_white(item.frame)) for item in reader]
    white = [at for (at, now), (_, before) in zip(frames[1:], frames, strict=False) if now > before]
    return white, [at for at, _ in frames], [warning.message for warning in reader.warnings]


def read_beeps(path: Path) -> list[float]:
    source = find_audio(path)
    return onsets(np.concatenate(list(AudioReader(source, 48_000))), 48_000)


@pytest.mark.parametrize("case", JUMPS)
def test_a_jump_of_the_clock_is_bridged_and_said(tmp_path: Path, case: str) -> None:
    build, by = JUMPS[case]
    source = build(tmp_path)
    white, times, warnings = read_flashes(source)
    assert times == pytest.approx([number / 25 for number in range(200)], abs=1e-4)
    assert white == pytest.approx([0.48 + second for second in range(8)], abs=1e-4)
    assert read_beeps(source) == pytest.approx(white, abs=0.025)
    assert len(warnings) == 1
    assert f"{by:+.3f}"[:-2] in warnings[0], warnings
    assert " 4.0" in warnings[0]


def test_many_jumps_do_not_add_up(tmp_path: Path) -> None:
    """Each piece's audio ends a little after its video."""
    piece = flash_and_beep(tmp_path / "piece", 1, *TS)
    white, times, warnings = read_flashes(source := joined(tmp_path / "in.ts", *[piece] * 12))
    assert times == pytest.approx([number / 25 for number in range(300)], abs=1e-4)
    assert read_beeps(source) == pytest.approx(white, abs=0.025)
    assert len(warnings) == 6
    assert "6 times more" in warnings[-1]


def test_a_pause_of_a_few_seconds_stays(tmp_path: Path) -> None:
    """As in plain FFmpeg: packets were lost, or nothing was sent."""
    _, times, warnings = read_flashes(two(0, 9)(tmp_path))
    assert len(times) == 200
    assert times[100] - times[99] == pytest.approx(4.96, abs=0.001)
    assert warnings == []


@pytest.mark.parametrize(
    "words",
    [
        ("-c:v", "libx264", "-bf", "3"),
        ("-c:v", "libx264", "-bf", "0"),
        ("-c:v", "mpeg4", "-bf", "2"),
        ("-c:v", "mpeg4", "-bf", "0"),
        ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    ],
    ids=" ".join,
)
def test_frames_of_an_avi_are_in_step(tmp_path: Path, words: tuple[str, ...]) -> None:
    """It says when a packet is decoded; frames that come out of order are shown later than that."""
    source = flash_and_beep(tmp_path / "in.avi", 4, *words, "-c:a", "pcm_s16le")
    white, times, _ = read_flashes(source)
    assert times == pytest.approx([number / 25 for number in range(100)], abs=1e-6)
    assert white == pytest.approx([0.48 + second for second in range(4)], abs=1e-6)


FRAGMENTED = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-g", "25")


@pytest.mark.parametrize("start", [6, 1_650_000_006])
def test_a_fragment_from_the_middle_is_intact(tmp_path: Path, start: int) -> None:
    words = ("-c:v", "libx264", "-bf", "2", "-c:a", "aac", "-output_ts_offset", start, *FRAGMENTED)
    source = flash_and_beep(tmp_path / "in.mp4", 4, *words)
    info = probe(source)
    assert info.duration_seconds == pytest.approx(4, abs=0.1)
    assert info.video is not None
    assert info.video.duration_seconds == pytest.approx(4, abs=0.1)
    white, times, _ = read_flashes(source)
    assert times == pytest.approx([number / 25 for number in range(100)], abs=1e-6)
    assert read_beeps(source) == pytest.approx(white, abs=0.045)


def test_a_recording_that_starts_after_a_day(tmp_path: Path) -> None:
    words = ("-c:v", "libx264", "-bf", "2", "-c:a", "aac", "-output_ts_offset", 25 * 3600)
    source = flash_and_beep(tmp_path / "in.mkv", 4, *words)
    white, _, warnings = read_flashes(source)
    assert white == pytest.approx([0.48 + second for second in range(4)], abs=0.002)
    assert read_beeps(source) == pytest.approx(white, abs=0.045)
    assert warnings == []


def test_a_screen_that_stands_still_in_an_flv_is_no_jump(tmp_path: Path) -> None:
    still = flash_and_beep(tmp_path / "in.mkv", 4, "-c:v", "libx264", "-an")
    slow = "setpts='if(lt(N,50),N,N+400)/25/TB'"
    ffmpeg("-i", still, "-vf", slow, "-fps_mode", "passthrough", tmp_path / "in.flv")
    _, times, warnings = read_flashes(tmp_path / "in.flv")
    assert times[50] - times[49] == pytest.approx(16.04, abs=0.002)
    assert warnings == []
