"""A folder that an earlier worker gave to its engine's user must not lock the next worker out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpu_worker_processors.sandbox.identity import hand_over


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_comes_back_when_the_engine_keeps_the_workers_user(tmp_path: Path) -> None:
    home = tmp_path / "engine-home"
    (home / "cache").mkdir(parents=True)
    hand_over(home, 60000)
    assert {(home / "cache").stat().st_uid, home.stat().st_uid} == {60000}
    hand_over(home, None)
    assert {(home / "cache").stat().st_uid, home.stat().st_uid} == {os.getuid()}
