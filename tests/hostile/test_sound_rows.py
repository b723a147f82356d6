"""Hostile and broken sound files: an answer or a typed error, quickly, in bounded memory, and
nothing else is opened."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import clips, music

from gpu_worker_client.protocol import TaskError
from gpu_worker_client.protocol.beat import BeatParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.beat.processor import PROCESSOR

OK = "ok"
Build = Callable[[Path], bytes]


def wav(change: Callable[[bytes], bytes] = lambda data: data) -> Build:
    def build(folder: Path) -> bytes:
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(music.RATE)
            samples = music.clicks(music.steady(120, 0.5, 4), 4.0)
            file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
        return change(buffer.getvalue())

    return build


def header(offset: int, form: str, *values: int) -> Build:
    """The same file with a field of its header overwritten. From 20 on: format, channels, rate,
    byte rate, align, bits."""
    return wav(
        lambda data: (
            data[:offset] + struct.pack(form, *values) + data[offset + struct.calcsize(form) :]
        )
    )


def many_channels(count: int) -> Build:
    """Whole and in order, with so many channels."""

    def build(folder: Path) -> bytes:
        frame = struct.pack("<HIIHH", count, music.RATE, music.RATE * 2 * count, 2 * count, 16)
        data = header(22, "<HIIHH", *struct.unpack("<HIIHH", frame))(folder)
        usable = (len(data) - 44) // (2 * count) * 2 * count
        return data[:40] + struct.pack("<I", usable) + data[44 : 44 + usable]

    return build


def floats(gain: float) -> Build:
    """Clicks of that height in a float WAV: format 3, 32 bits."""

    def build(folder: Path) -> bytes:
        samples = (
            (music.clicks(music.steady(120, 0.5, 4), 4.0) * np.float64(gain))
            .astype("<f4")
            .tobytes()
        )
        form = struct.pack("<IHHIIHH", 16, 3, 1, music.RATE, 4 * music.RATE, 4, 32)
        return (
            b"RIFF"
            + struct.pack("<I", 36 + len(samples))
            + b"WAVEfmt "
            + form
            + b"data"
            + struct.pack("<I", len(samples))
            + samples
        )

    return build


def saved(suffix: str, change: Callable[[bytes], bytes] = lambda data: data) -> Build:
    return lambda folder: change(
        music.save(folder / f"s{suffix}", music.clicks(music.steady(120, 0.5, 9), 9.0)).read_bytes()
    )


ROWS: dict[str, tuple[Build, tuple[str, ...]]] = {
    "empty": (lambda _: b"", ("not_media",)),
    "page": (lambda _: b"<html>sign in</html>", ("not_media",)),
    "playlist": (lambda _: b"#EXTM3U\nsong.mp3\n", ("not_media",)),
    "pls": (lambda _: b"[playlist]\nFile1=/etc/passwd\n", ("not_media",)),
    "silent film": (
        lambda f: clips.make(f / "s.mp4", clips.Clip(frames=5)).read_bytes(),
        ("no_audio_stream",),
    ),
    "header only": (wav(lambda data: data[:44]), ("corrupt_media",)),
    "no samples": (wav(lambda data: data[:40] + bytes(4)), (OK, "corrupt_media")),
    "half": (wav(lambda data: data[: len(data) // 2]), ("corrupt_media",)),
    "length never filled in": (header(40, "<I", 0xFFFFFFFF), (OK,)),
    "length of SoX's pipe": (header(40, "<I", 0x7FFFF000), (OK,)),
    "2 GB announced": (header(40, "<I", 0x7FFE0000), ("corrupt_media",)),
    "no channel": (header(22, "<H", 0), (OK, "corrupt_media", "unsupported_media")),
    "65535 channels": (
        header(22, "<H", 65535),
        (OK, "corrupt_media", "unsupported_media", "media_limit"),
    ),
    "64 channels": (many_channels(64), (OK,)),
    "255 channels": (many_channels(255), ("unsupported_media",)),
    "floats that overflow": (floats(3e38), (OK,)),
    "floats too small": (floats(1e-42), (OK,)),
    "rate 0": (header(24, "<I", 0), ("corrupt_media", "unsupported_media")),
    "rate 1": (header(24, "<I", 1), ("unsupported_media",)),
    "rate 4 GHz": (header(24, "<I", 0xFFFFFFFF), (OK, "corrupt_media", "unsupported_media")),
    "0 bits": (header(34, "<H", 0), (OK, "corrupt_media", "unsupported_media")),
    "codec of a game": (header(20, "<H", 0x6771), ("corrupt_media", "unsupported_media")),
    "mp3 with a torn tail": (saved(".mp3", lambda data: data[:-100]), (OK,)),
    "mp3 with rubbish behind": (
        saved(".mp3", lambda data: data + bytes(range(256)) * 2),
        (OK, "corrupt_media"),
    ),
    "mp3 of sync words": (lambda _: b"\xff\xfb\x90\x00" * 5000, (OK, "corrupt_media", "not_media")),
    "ogg cut": (saved(".flac", lambda data: data[:-2000]), (OK, "corrupt_media")),
    "m4a without index": (saved(".m4a", lambda data: data[: len(data) // 2]), ("corrupt_media",)),
}


def outcome(path: Path, work_dir: Path) -> tuple[str, str]:
    try:
        result = PROCESSOR.run(LocalJob("row", BeatParams(), work_dir, path))
    except TaskError as error:
        assert not error.code.retryable
        return error.code.value, error.message
    assert len(result.beat_times) == len(result.confidence)
    return OK, ""


@pytest.mark.parametrize("row", ROWS)
def test_row(row: str, tmp_path: Path) -> None:
    build, expected = ROWS[row]
    made, work = tmp_path / "made", tmp_path / "work"
    made.mkdir()
    work.mkdir()
    content = build(made)
    path = tmp_path / "input"
    path.write_bytes(content)
    code, message = outcome(path, work)
    assert code in expected, (code, message)
    assert str(tmp_path) not in message


MEASURE = """
import sys
from pathlib import Path
from gpu_worker_client.protocol import TaskError
from gpu_worker_client.protocol.beat import BeatParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.beat.processor import PROCESSOR
job = LocalJob("bomb", BeatParams(), Path(sys.argv[2]), Path(sys.argv[1]))
PROCESSOR.prepare(job)
try:
    PROCESSOR.run(job)
except TaskError:
    pass
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("row", ["65535 channels", "rate 1", "rate 4 GHz", "2 GB announced"])
def test_headers_that_lie_cost_no_memory(row: str, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(ROWS[row][0](tmp_path))
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, path, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 400 * 1024
