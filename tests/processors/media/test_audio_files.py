"""Audio files as the world has them: with tags around them, joined in the middle of a frame, of a
length that nobody wrote down. The beats are those that were put in."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import music
from support.media_job import MediaWorker, ffmpeg

BPM, SECONDS = 120, 8
BEATS = music.steady(BPM, 0.5, SECONDS - 0.1)

Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio")


CODECS = {
    "aac": "aac",
    "dts": "dca",
    "m4a": "aac",
    "flac": "flac",
    "latm": "aac",
    "mpg": "mp2",
    "ts": "mp2",
}


def clicks(folder: Path, suffix: str) -> bytes:
    """120 a minute; made once for each format."""
    source, path = folder / "clicks.wav", folder / f"clicks.{suffix}"
    if not source.exists():
        music.save(source, music.clicks(BEATS, SECONDS, 44_100), rate=44_100)
    if not path.exists():
        codec = ["-c:a", CODECS[suffix]] if suffix in CODECS else []
        wide = ["-rf64", "always", "-f", "wav"] if suffix == "rf64" else []
        ffmpeg("-i", source, "-strict", -2, *codec, *wide, path)
    return path.read_bytes()


def rows(table: list[tuple[str, Any, Any]], *quick: str) -> list[Any]:
    """A row for each (name, suffix, what is done to it); all but the quick ones are `slow`."""
    marks = {name: () if name in quick else (pytest.mark.slow,) for name, *_ in table}
    assert marks.keys() >= {*quick}
    return [pytest.param(*row[1:], id=row[0], marks=marks[row[0]]) for row in table]


def id3(size: int = 500) -> bytes:
    body = b"TIT2" + struct.pack(">I", 5) + b"\0\0\x03song"
    digits = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + digits + body.ljust(size, b"\0")


def ape(cover: int = 0) -> bytes:
    item = struct.pack("<II", 4, 0) + b"Title\0song"
    if cover:
        image = np.random.default_rng(0).integers(0, 256, cover, dtype=np.uint8).tobytes()
        item += struct.pack("<II", cover, 2) + b"Cover Art (Front)\0" + image
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1 + (cover > 0), flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    return head + item + foot


def lyrics() -> bytes:
    text = b"LYRICSBEGIN" + b"LYR00504" + b"[00:01]la la\r\n" * 36
    return text + f"{len(text):06d}LYRICS200".encode() + b"TAG" + b"x" * 125


ID3_BEFORE = ("flac", "aac", "ac3", "dts", "wav", "aiff", "wv")
BEFORE = [
    *((f"ID3 before {suffix}", suffix, id3()) for suffix in ID3_BEFORE),
    *((f"a large ID3 before {suffix}", suffix, id3(300_000)) for suffix in ("flac", "aac", "mp3")),
    ("ID3 twice before flac", "flac", id3() + id3()),
    *((f"APE before {suffix}", suffix, ape(200_000)) for suffix in ("mp3", "aac")),
]


@pytest.mark.parametrize(
    ("suffix", "tag"), rows(BEFORE, "ID3 before aac", "ID3 twice before flac", "APE before mp3")
)
def test_a_tag_before_the_audio(suffix: str, tag: bytes, folder: Path, worker: MediaWorker) -> None:
    assert_all_beats(worker, folder, tag + clicks(folder, suffix))


TAGS = {"APE": ape(), "a cover": ape(200_000), "lyrics": lyrics()}
BEHIND = [
    (f"{name} behind {suffix}", suffix, tag)
    for suffix in ("mp3", "aac", "ac3", "ogg", "wv", "flac", "wav")
    for name, tag in TAGS.items()
]


@pytest.mark.parametrize(
    ("suffix", "tag"), rows(BEHIND, "a cover behind aac", "lyrics behind mp3", "APE behind ac3")
)
def test_a_tag_behind_the_audio_is_no_damage(
    suffix: str, tag: bytes, folder: Path, worker: MediaWorker
) -> None:
    assert_all_beats(worker, folder, clicks(folder, suffix) + tag)


MIDWAY: dict[str, Change] = {
    "cut midway": lambda data: data[len(data) // 5 + 77 :],
    "without its first byte": lambda data: data[1:],
    "behind zeros": lambda data: bytes(20_000) + data,
}
STARTS = [
    (f"{suffix} {name}", suffix, change)
    for suffix in ("mp3", "aac", "ac3", "eac3", "dts", "latm", "mpg", "ts")
    for name, change in MIDWAY.items()
]


@pytest.mark.parametrize(
    ("suffix", "change"),
    rows(STARTS, "mp3 cut midway", "aac without its first byte", "ts cut midway"),
)
def test_audio_that_starts_in_the_middle(
    suffix: str, change: Change, folder: Path, worker: MediaWorker
) -> None:
    answer = beat(worker, folder, change(clicks(folder, suffix)))
    assert answer.get("status") == "completed", answer
    assert answer["tempo"] == pytest.approx(BPM, rel=0.005)
    assert len(answer["beat_times"]) >= 11


def put(at: Callable[[bytes], int], *values: int, form: str) -> Change:
    """A file with other numbers in its header."""

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        struct.pack_into(form, out, at(data), *values)
        return bytes(out)

    return change


def behind(name: bytes, more: int = 0) -> Callable[[bytes], int]:
    return lambda data: data.index(name) + len(name) + more


W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
OPEN_32, OPEN_64 = (0, 0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF), (0, 2**63 - 1, 2**64 - 1)
OPEN = [
    *((f"wav {v:#x}", "wav", put(behind(b"data"), v, form="<I")) for v in OPEN_32),
    *((f"rf64 {v:#x}", "rf64", put(behind(b"ds64", 4), v, v, v, form="<QQQ")) for v in OPEN_64),
    *((f"w64 {v:#x}", "w64", put(behind(W64_DATA), v, form="<Q")) for v in (*OPEN_64, 24)),
    *((f"aiff {v:#x}", "aiff", put(behind(b"SSND"), v, form=">I")) for v in OPEN_32),
    *((f"aiff frames {v:#x}", "aiff", put(behind(b"COMM", 6), v, form=">I")) for v in OPEN_32),
    *((f"au {v:#x}", "au", put(lambda _: 8, v, form=">I")) for v in (0, 0xFFFF_FFFF)),
    ("caf -1", "caf", put(lambda data: data.rindex(b"data") + 4, -1, form=">q")),
]
QUICK = ("wav 0x0", "wav 0x7ffff000", "rf64 0x0", "w64 0x18", "aiff frames 0x0", "caf -1")


@pytest.mark.parametrize(("suffix", "change"), rows(OPEN, *QUICK))
def test_a_length_that_was_never_written(
    suffix: str, change: Change, folder: Path, worker: MediaWorker
) -> None:
    """What a recorder leaves that writes into a pipe."""
    answer = assert_all_beats(worker, folder, change(clicks(folder, suffix)))
    assert answer["duration"] == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize("suffix", ["rf64", "w64"])
def test_a_file_that_lacks_what_it_announces_is_still_corrupt(
    suffix: str, folder: Path, worker: MediaWorker
) -> None:
    data = clicks(folder, suffix)
    assert beat(worker, folder, data[: len(data) // 2])["code"] == "corrupt_media"


def test_a_tag_without_audio_is_no_media(folder: Path, worker: MediaWorker) -> None:
    assert beat(worker, folder, id3())["code"] == "not_media"


def beat(worker: MediaWorker, folder: Path, data: bytes) -> dict[str, Any]:
    path = folder / "input"
    path.write_bytes(data)
    return worker.run("beat", path)


def assert_all_beats(worker: MediaWorker, folder: Path, data: bytes) -> dict[str, Any]:
    """Encoders may be late by their delay where the format does not note it: 2112 samples."""
    answer = beat(worker, folder, data)
    assert answer.get("status") == "completed", answer
    assert answer["warnings"] == []
    found = np.array(answer["beat_times"])
    assert len(found) - len(BEATS) in (0, 1)
    assert np.abs(found[: len(BEATS)] - BEATS).max() < 0.06
    return answer
