"""The job directory is gone afterwards, however the job ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_worker_processors.engine import jobdir
from gpu_worker_processors.engine.jobdir import JobDirectory, sweep, worker_root


def test_it_is_removed_with_its_content_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), JobDirectory(tmp_path) as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_bytes(b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def nested(folder: Path) -> None:
    """Deeper than a path can be long, and than Python recurses."""
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("inner", dir_fd=inner)
        inner, outer = os.open("inner", os.O_RDONLY, dir_fd=inner), inner
        os.close(outer)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
    os.close(inner)


def locked(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "a" / "b").chmod(0o300)
    (folder / "a").chmod(0)


def linked(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "kept")
    (folder / "a").mkdir()
    (folder / "a" / "link").symlink_to(folder.parent / "kept")


@pytest.mark.parametrize("lay", [nested, locked, linked])
def test_whatever_an_engine_lays_is_removed(
    tmp_path: Path, lay: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobdir, "ANSWER_WAITS_SECONDS", jobdir.REMOVE_SECONDS)
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o750)
    (kept / "file").touch()
    with JobDirectory(tmp_path) as directory:
        lay(directory)
    assert list(tmp_path.iterdir()) == [kept]
    assert (kept.stat().st_mode & 0o777, list(kept.iterdir())) == (0o750, [kept / "file"])


def test_the_answer_does_not_wait_for_a_hundred_thousand_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobdir, "ANSWER_WAITS_SECONDS", 0.0)  # so that every directory is too full
    with JobDirectory(tmp_path) as directory:
        for number in range(100):
            (directory / str(number)).touch()
    for thread in threading.enumerate():
        if thread.name == "remove":
            thread.join()
    assert not directory.exists()


def test_a_removal_stops_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobdir, "REMOVE_SECONDS", 0.0)
    folder = tmp_path / "full"
    (folder / "inner").mkdir(parents=True)
    jobdir.remove(folder)
    assert folder.exists() and "could not remove all of" in caplog.text


def test_a_sweep_that_fails_stops_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"job-{os.getpid()}-0123456789abcdef").symlink_to(tmp_path)
    assert sweep(tmp_path) == 1
    assert "could not remove all of" in caplog.text


def test_two_jobs_never_share_one(tmp_path: Path) -> None:
    with JobDirectory(tmp_path) as first, JobDirectory(tmp_path) as second:
        assert first != second


def test_sweep_removes_what_the_dead_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    one = "0123456789abcdef"
    kept = {
        f"job-{os.getppid()}-{one}",
        f"engine-{os.getppid()}",
        "of-somebody-else",
        "job-archive",
        f"job-{ended.pid}-notes",
    }
    for name in {
        f"job-{ended.pid}-{one}",
        f"engine-{ended.pid}",
        f"job-{os.getpid()}-{one}",
        *kept,
    }:
        (tmp_path / name).mkdir()
    assert sweep(tmp_path) == 3
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert sweep(tmp_path / "absent") == 0


def test_a_worker_that_starts_leaves_the_jobs_of_a_running_one_alone(tmp_path: Path) -> None:
    with JobDirectory(tmp_path) as directory:
        (directory / "input").write_bytes(b"x")
        module = "gpu_worker_processors.engine.jobdir"
        code = (
            f"from pathlib import Path; from {module} import sweep; sweep(Path({str(tmp_path)!r}))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert (directory / "input").exists()


def test_a_worker_has_a_folder_that_others_cannot_list(tmp_path: Path) -> None:
    own = worker_root(tmp_path / "work")
    with JobDirectory(own) as directory:
        assert directory.parent == own
        assert own.stat().st_mode & 0o066 == 0
        module = "gpu_worker_processors.engine.jobdir"
        code = (
            f"import sys; from pathlib import Path; from {module} import JobDirectory, sweep,"
            " worker_root; root = Path(sys.argv[1]); sweep(root);"
            " JobDirectory(worker_root(root)).__enter__()"
        )
        command = [sys.executable, "-c", code, str(own.parent)]
        subprocess.run(command, check=True, timeout=60)
        assert len(list(own.parent.iterdir())) == 2
        assert directory.exists()
    assert sweep(own.parent) == 2, "the other's, and ours as a former container left it"
    assert list(own.parent.iterdir()) == []
