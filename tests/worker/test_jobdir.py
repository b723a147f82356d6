"""The job directory is gone afterwards, however the job ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.jobdir import JobDirectory, sweep


def test_it_is_removed_with_its_content_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), JobDirectory(tmp_path) as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_bytes(b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_never_share_one(tmp_path: Path) -> None:
    with JobDirectory(tmp_path) as first, JobDirectory(tmp_path) as second:
        assert first != second


def test_sweep_removes_what_a_killed_worker_left_and_nothing_else(tmp_path: Path) -> None:
    JobDirectory(tmp_path).__enter__()
    (tmp_path / "engine-home").mkdir()
    assert sweep(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["engine-home"]
    assert sweep(tmp_path / "absent") == 0
