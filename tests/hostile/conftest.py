"""An engine that no filter holds, and a job for it: what the tests of a captured one share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gpu_worker_processors.engine.host import Engine, EngineJob


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    from gpu_worker.settings import Settings  # not in the client's own environment
    from gpu_worker_processors.engine.host import Engine

    engine = Engine(Settings(work_root=tmp_path / "work", sandbox="off"), os.environ)
    yield engine
    engine.close()


@pytest.fixture
def job(tmp_path: Path) -> EngineJob:
    from gpu_worker_client.protocol import DetectScenesTask
    from gpu_worker_processors.engine.host import EngineJob

    folder = tmp_path / "work" / "job-1"
    folder.mkdir(parents=True)
    task = DetectScenesTask(input_url="https://example.com/in.mp4")
    return EngineJob(id="one", task=task, work_dir=folder, input_path=folder / "input")
