"""Files whose metadata takes more time or memory to read than all of their frames: each ends typed
and not to be retried, within 10 s of CPU time and 512 MiB."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bloated
from support.bloated import bloat, status_of
from support.media_job import MediaWorker, media_worker

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.task import OnDamage
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.container import admitted
from gpu_worker_processors.media.open_limits import (
    TOOK_TOO_LONG,
    TOOK_TOO_MUCH_MEMORY,
    error_of,
)
from gpu_worker_processors.media.probe import probe

ADMIT = """
import sys
from pathlib import Path
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.container import admitted
admitted(Path(sys.argv[1]), Limits(max_open_seconds=float(sys.argv[2])))
"""


def test_reading_the_tags_ends_at_a_limit(tmp_path: Path) -> None:
    path = bloat(tmp_path, "FLAC comments", 60_000)
    assert status_of(ADMIT, path, 0.5) == TOOK_TOO_LONG


@pytest.mark.parametrize("count", [5_000, 5_100])
def test_five_thousand_tags_are_the_most(count: int, tmp_path: Path) -> None:
    """Read in time, more would cost that time again at every later opening."""
    path = bloat(tmp_path, "FLAC comments", count)
    if count == 5_000:
        assert admitted(path, Limits()).demuxer == "flac"
    else:
        with pytest.raises(TaskError, match="5000") as caught:
            admitted(path, Limits())
        assert caught.value.code is ErrorCode.media_limit


def test_an_index_of_two_gigabytes_ends_at_the_limit_of_memory(tmp_path: Path) -> None:
    path = bloated.clip(tmp_path, "flv")
    path.write_bytes(bloated.flv_index(path.read_bytes(), 2**28 - 1))
    assert status_of(ADMIT, path, 10.0) == TOOK_TOO_MUCH_MEMORY


HOLLOW = {"voids": b"\xec\x80", "clusters": b"\x1f\x43\xb6\x75\x80", "groups": b"\xa0\x80"}


@pytest.mark.parametrize("on_damage", ["fail", "conceal"])
@pytest.mark.parametrize("hollow", HOLLOW.values(), ids=HOLLOW)
def test_a_million_empty_elements_are_not_walked(
    hollow: bytes, on_damage: OnDamage, tmp_path: Path
) -> None:
    path = bloated.clip(tmp_path, "mkv")
    path.write_bytes(bloated.before_clusters(path.read_bytes(), hollow * 1_000_000))
    with pytest.raises(TaskError, match="without content") as caught:
        probe(path, Limits(on_damage=on_damage))
    assert caught.value.code is ErrorCode.media_limit


@pytest.mark.parametrize("size", [2**63, 2**63 + 5, 2**64 - 1])
def test_a_box_that_leads_beyond_every_file_is_no_bug(size: int, tmp_path: Path) -> None:
    path = bloated.clip(tmp_path, "mp4")
    data = path.read_bytes()
    box = struct.pack(">I4sQ", 1, b"free", size)
    path.write_bytes(data + box)
    video = probe(path).video
    assert video is not None and video.frame_count == 13
    media_data = data.index(b"mdat") - 4
    path.write_bytes(data[:media_data] + box + data[media_data:])
    with pytest.raises(TaskError) as caught:
        probe(path)
    assert caught.value.code is ErrorCode.corrupt_media


def packed_index(folder: Path, size: int | None = None, *, repeat: int = 0) -> Path:
    path = bloated.clip(folder, "mov")
    path.write_bytes(bloated.with_packed_index(path.read_bytes(), size, repeat=repeat))
    return path


def test_an_index_that_is_packed_is_read(tmp_path: Path) -> None:
    video = probe(packed_index(tmp_path)).video
    assert video is not None and video.frame_count == 13


@pytest.mark.parametrize("size", [0, 100])
def test_an_index_that_is_packed_wrongly_is_damage(size: int, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        probe(packed_index(tmp_path, size))
    assert caught.value.code is ErrorCode.corrupt_media


def test_each_status_has_its_error() -> None:
    limits = Limits()
    found = [error_of(status, limits) for status in (TOOK_TOO_LONG, TOOK_TOO_MUCH_MEMORY)]
    assert [error.code.value for error in found if error] == ["media_limit"] * 2
    assert "10 s" in str(found[0]) and "512 MiB" in str(found[1])
    assert error_of(1, limits) is None


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaWorker]:
    with media_worker(tmp_path_factory.getbasetemp()) as worker:
        yield worker


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "repeat", "code"),
    [(2**32 - 1, 0, "media_limit"), (None, 600, "media_limit"), (None, 100, "no_audio_stream")],
)
def test_a_packed_index_that_is_a_bomb(
    size: int | None, repeat: int, code: str, worker: MediaWorker, tmp_path: Path
) -> None:
    answer = worker.run("beat", packed_index(tmp_path, size, repeat=repeat))
    assert (answer["code"], answer["retryable"]) == (code, False), answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"),
    # The first takes more time than there is; the others are read, and have too many tags.
    [(kind, 6_000 if number else 80_000) for number, kind in enumerate(bloated.BLOATS)],
)
def test_the_job_ends_typed_and_the_next_one_runs(
    kind: str, count: int, worker: MediaWorker, tmp_path: Path
) -> None:
    answer = worker.run("beat", bloat(tmp_path, kind, count))
    assert (answer["code"], answer["retryable"]) == ("media_limit", False), answer
    good = bloated.clip(tmp_path, "mp3")
    assert worker.run("beat", good)["status"] == "completed"
