"""What a video stream says beside its frames: transparency, timecode, captions, 360 degrees, 3D. It
is in the output, or a warning names it. Truth is what plain FFmpeg finds in the written file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from support.media_job import FFMPEG, MediaWorker, ffmpeg, in_video_settings, said

from gpu_worker_processors.media.timecode import smpte_text

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6")
TIMECODE = "01:02:03:04"
WORDS = "HELLO"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beside")


def made(path: Path, *words: object) -> Path:
    ffmpeg(*PICTURE, *words, path)
    return path


def transparent(suffix: str, codec: str, pix_fmt: str, *words: object) -> Callable[[Path], Path]:
    fade = f"format=rgba,colorchannelmixer=aa=0.5,format={pix_fmt}"
    return lambda folder: made(folder / f"{codec}.{suffix}", "-vf", fade, "-c:v", codec, *words)


def with_timecode(suffix: str, codec: str, *words: object) -> Callable[[Path], Path]:
    return lambda folder: made(folder / f"timecode.{suffix}", "-c:v", codec, *words)


def with_parity(byte: int) -> int:
    """CEA-608: seven bits, and one that makes their number odd."""
    return byte | (0 if byte.bit_count() % 2 else 0x80)


def captioned(suffix: str) -> Callable[[Path], Path]:
    """H.264 whose frames carry one pair of CEA-608 each: pop-on captions, at frame 9 shown and at
    frame 13 erased."""
    letters = WORDS.ljust(-(-len(WORDS) // 2) * 2, "\0")
    pairs = [(0x14, 0x20), (0x14, 0x20), (0x14, 0x70), (0x14, 0x70)]
    pairs += [(ord(a), ord(b)) for a, b in zip(letters[::2], letters[1::2], strict=True)]
    pairs += [(0x14, 0x2F), (0x14, 0x2F), (0, 0), (0, 0), (0x14, 0x2C), (0x14, 0x2C)]
    pairs = [(with_parity(a), with_parity(b)) for a, b in pairs]

    def build(folder: Path) -> Path:
        words = ("-c:v", "libx264", "-x264-params", "bframes=0:aud=1:annexb=1", "-f", "h264")
        raw, path = made(folder / "plain.h264", *words), folder / f"captions.{suffix}"
        start, units = b"\0\0\0\1\x09", bytearray()  # of an access unit delimiter
        for number, unit in enumerate(raw.read_bytes().split(start)[1:]):
            pair = pairs[number] if number < len(pairs) else (0x80, 0x80)
            # ATSC A/53, 6.2.3.1: country, provider, GA94, captions, one triple, end
            body = b"\xb5\x00\x31GA94\x03\x41\xff\xfc" + bytes(pair) + b"\xff"
            units += start + unit[:1] + b"\0\0\0\1\x06\x04" + bytes([len(body)]) + body + b"\x80"
            units += unit[1:]
        raw.write_bytes(units)
        ffmpeg("-r", 25, "-i", raw, "-c", "copy", path)
        return path

    return build


def around(folder: Path) -> Path:
    """FFmpeg writes the mark of a 360-degree video only on a copy of one: a projection (RFC 9559,
    5.1.4.1.28.41), equirectangular."""
    path = made(folder / "around.mkv", "-c:v", "libx264", "-fflags", "bitexact")
    return in_video_settings(path, b"\x76\x70\x84\x76\x71\x81\x01")


def in_3d(folder: Path) -> Path:
    return made(folder / "3d.mkv", "-c:v", "libx264", "-metadata:s:v", "stereo_mode=left_right")


def caption_text(path: Path) -> bool:
    """Whether plain FFmpeg finds the words in the captions of a file."""
    words = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", f"movie={path}[out0+subcc]"]
    done = subprocess.run([*words, "-map", "s", "-f", "srt", "-"], capture_output=True, text=True)
    return WORDS in done.stdout


def names(*words: str) -> Callable[[Path], bool]:
    """Whether plain FFmpeg says all the words of a file."""
    look = ("-vf", "showinfo", "-f", "null", "-")
    return lambda path: all(word in said("-i", path, *look).lower() for word in words)


VP_ALPHA, CLOCK = names("alpha_mode"), names(TIMECODE)
DROPPED = "alpha_dropped"
SOURCES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], bool], str | None]] = {
    # how it is made; whether a file has it; the warning, None where the output has it
    "alpha of VP9": (
        transparent("webm", "libvpx-vp9", "yuva420p", "-auto-alt-ref", 0),
        VP_ALPHA,
        DROPPED,
    ),
    "alpha of VP8": (
        transparent("mkv", "libvpx", "yuva420p", "-auto-alt-ref", 0),
        VP_ALPHA,
        DROPPED,
    ),
    "alpha of ProRes": (transparent("mov", "prores_ks", "yuva444p10le"), names("yuva"), DROPPED),
    "alpha of RLE": (transparent("mov", "qtrle", "argb"), names("argb"), DROPPED),
    "timecode track": (with_timecode("mov", "mpeg4", "-timecode", TIMECODE), CLOCK, None),
    "timecode tag": (
        with_timecode("mkv", "mpeg4", "-metadata", f"timecode={TIMECODE}"),
        CLOCK,
        None,
    ),
    "timecode of MPEG-2": (
        with_timecode("ts", "mpeg2video", "-gop_timecode", TIMECODE),
        CLOCK,
        None,
    ),
    "timecode of MXF": (with_timecode("mxf", "mpeg2video", "-timecode", TIMECODE), CLOCK, None),
    "captions in TS": (captioned("ts"), caption_text, None),
    "captions in MP4": (captioned("mp4"), caption_text, None),
    "360 degrees": (around, names("spherical"), "spherical_dropped"),
    "3D": (in_3d, names("stereo"), "stereo3d_dropped"),
}
HOLDS_3D = "mkv"
"""Matroska has the 3D mode as a tag."""


def codes(answer: dict[str, Any]) -> list[str]:
    """Of the warnings about what a file has beside its frames."""
    assert answer.get("status") == "completed", answer
    return [w["code"] for w in answer["warnings"] if w["code"].endswith("_dropped")]


def check(task: str, row: str, suffix: str, folder: Path, worker: MediaWorker) -> None:
    build, has_it, warning = SOURCES[row]
    source = build(folder)
    assert has_it(source), said("-i", source)
    output = folder / f"{task}.{suffix}"
    if task == "upscale":
        answer = worker.upscaled(source, output)
    elif task == "auto_crop":
        answer = worker.run(task, source, output, keyframes=[{"frame": 0, "x": 0.0}])
    else:
        answer = worker.run(task, source, output, model="hog")
    is_held = warning is None or (row == "3D" and suffix == HOLDS_3D)
    assert codes(answer) == ([] if is_held else [warning])
    assert has_it(output) == is_held, said("-i", output)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("row", SOURCES)
def test_it_is_in_the_output_or_a_warning_names_it(
    row: str, suffix: str, folder: Path, worker: MediaWorker
) -> None:
    check("upscale", row, suffix, folder, worker)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["auto_crop", "track"])
@pytest.mark.parametrize(
    "row", ["alpha of VP9", "timecode of MPEG-2", "captions in TS", "360 degrees"]
)
def test_the_other_tasks_do_the_same(
    row: str, task: str, folder: Path, worker: MediaWorker
) -> None:
    check(task, row, "mp4", folder, worker)


@pytest.mark.parametrize("codec", ["hevc", "av1", "prores"])
def test_captions_are_kept_by_the_codecs_that_can(
    codec: str, folder: Path, worker: MediaWorker
) -> None:
    source, output = captioned("ts")(folder), folder / f"captions_{codec}.mkv"
    answer = worker.upscaled(source, output, codec=codec)
    assert caption_text(output) == (codec == "hevc")
    assert codes(answer) == ([] if codec == "hevc" else ["captions_dropped"])


def test_a_timecode_of_zeros_says_nothing(folder: Path, worker: MediaWorker) -> None:
    source = with_timecode("ts", "mpeg2video", "-gop_timecode", "00:00:00:00")(folder)
    output = folder / "zeros.mp4"
    assert codes(worker.upscaled(source, output)) == []
    assert "timecode" not in said("-i", output)


@pytest.mark.parametrize(
    ("word", "fps", "expected"),
    [
        # SMPTE ST 12-1: tens and units of frames, seconds, minutes, hours; flags between
        (0x04030201, Fraction(25), "01:02:03:04"),
        (0x29595923, Fraction(30), "23:59:59:29"),
        (0x40000100 | 0x02000000, Fraction(30_000, 1001), "00:01:00;02"),
        (0x42000100, Fraction(25), "00:01:00:02"),
        (0x24000001, Fraction(50), "01:00:00:48"),
        (0x24000081, Fraction(50), "01:00:00:49"),
        (0x29800001, Fraction(60), "01:00:00:59"),
    ],
)
def test_the_timecode_of_smpte_12(word: int, fps: Fraction, expected: str) -> None:
    assert smpte_text(word, fps) == expected
