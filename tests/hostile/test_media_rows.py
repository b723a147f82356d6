"""Hostile media, row by row: each file ends in a typed error or in all of its frames, bounded in
memory, with nothing written and no other file opened."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import clips
from support.hostile_media import OK, ROWS

from gpu_worker_client.protocol import DetectScenesParams, ErrorCode, TaskError
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.detect_scenes.processor import PROCESSOR

BOMBS = [name for name in ROWS if name.startswith(("M11", "M19", "M20"))]


@contextmanager
def opens_seen(folder: Path) -> Iterator[list[str]]:
    """Names of files that anyone in this machine opens in a folder while the block runs, from
    inotify(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0
    names: list[str] = []
    try:
        assert libc.inotify_add_watch(handle, bytes(folder), 0x20) >= 0  # IN_OPEN
        yield names
        try:
            events = os.read(handle, 65536)
        except BlockingIOError:
            return
        while events:
            size = struct.unpack_from("iIII", events)[3]
            names.append(events[16 : 16 + size].rstrip(b"\0").decode())
            events = events[16 + size :]
    finally:
        os.close(handle)


def outcome(path: Path, work_dir: Path) -> tuple[str, str]:
    """("ok" or the code, the message)."""
    try:
        result = PROCESSOR.run(LocalJob("row", DetectScenesParams(), work_dir, path))
    except TaskError as error:
        assert not error.code.retryable
        return error.code.value, error.message
    assert result.scenes[0].start_frame == 0
    assert result.scenes[-1].end_frame == result.stats.total_frames - 1
    return OK, str(result.stats.total_frames)


@pytest.mark.parametrize("row", ROWS)
def test_row(row: str, tmp_path: Path) -> None:
    build, expected = ROWS[row]
    canaries, made, work = (tmp_path / name for name in ("canaries", "made", "work"))
    for folder in (canaries, made, work):
        folder.mkdir()
    canary = clips.make(canaries / "canary.mp4", clips.Clip(frames=3))
    source = build(made / "input.mp4")
    source.write_bytes(source.read_bytes().replace(b"{canary}", bytes(canary)))
    before = sorted(tmp_path.rglob("*"))
    with opens_seen(canaries) as opened:
        code, message = outcome(source, work)
    assert code in ((expected,) if isinstance(expected, str) else expected), message
    assert opened == []
    assert sorted(tmp_path.rglob("*")) == before, "a processor that only looks writes nothing"
    assert str(tmp_path) not in message


def test_the_watch_sees_an_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with opens_seen(tmp_path) as opened:
        (tmp_path / "file").read_bytes()
    assert "file" in opened


HINTS = {
    "M02 storage error page": "NoSuchKey",
    "M02 html": "HTML",
    "M03 no moov": "moov",
    "M21 HLS": "HLS playlist",
    "M23 ZIP": "ZIP",
}


@pytest.mark.parametrize(("row", "hint"), HINTS.items())
def test_the_message_says_what_was_sent(row: str, hint: str, tmp_path: Path) -> None:
    assert hint in outcome(ROWS[row][0](tmp_path / "input.mp4"), tmp_path)[1]


@pytest.mark.parametrize(
    ("row", "frames"),
    [("M14 clock starts again", 20), ("M14 variable rate", 5), ("M18 endless by its header", 60)],
)
def test_odd_timestamps_lose_no_frame(row: str, frames: int, tmp_path: Path) -> None:
    assert outcome(ROWS[row][0](tmp_path / "input.mp4"), tmp_path) == (OK, str(frames))


MEASURE = """
import os, sys
from pathlib import Path
from gpu_worker_client.protocol import DetectScenesParams, TaskError
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.detect_scenes.processor import PROCESSOR
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
def measure(path):
    job = LocalJob("bomb", DetectScenesParams(), path.parent, path)
    before = peak()
    try:
        PROCESSOR.run(job)
    except TaskError as error:
        codes = ("media_limit", "unsupported_media", "corrupt_media", "no_frames")
        assert error.code.value in codes, error
    print(peak() - before, flush=True)
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        measure(Path(name))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""
"""Kilobytes of each file over what the imports need, in a process of its own that has them from its
parent: a peak never falls. Not getrusage: its peak is inherited."""


@pytest.fixture(scope="module")
def kilobytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What each bomb takes."""
    paths = [ROWS[row][0](tmp_path_factory.mktemp("bomb") / "input.mp4") for row in BOMBS]
    command = [sys.executable, "-c", MEASURE, *paths]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(BOMBS, map(int, ran.stdout.split()), strict=True))


@pytest.mark.parametrize("row", BOMBS)
def test_bombs_stay_under_100_mb(row: str, kilobytes: dict[str, int]) -> None:
    assert kilobytes[row] < 100 * 1024


def test_every_code_of_the_table_exists() -> None:
    codes = {
        c
        for _, expected in ROWS.values()
        for c in ((expected,) if isinstance(expected, str) else expected)
    } - {OK}
    assert codes <= {code.value for code in ErrorCode}
