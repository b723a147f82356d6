"""A job that is stopped in the last moment: its output is not there when its answer says so."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support import clips

from gpu_worker.files import UrlFiles
from gpu_worker.settings import Settings
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.transfers import Transfers
from gpu_worker.transfer.urls import UrlPolicy, check_task
from gpu_worker_client.protocol import ErrorCode, TaskError, parse_task
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.results import JobResult
from gpu_worker_processors.runner import JobRunner


class StoppedLate(UrlFiles):
    """The files of a job that is stopped when its output is stored and its answer made."""

    stop: threading.Event

    def answer(self, result: JobResult, stop: threading.Event) -> dict[str, Any]:
        answer = super().answer(result, stop)
        self.stop.set()
        return answer


def test_a_job_stopped_when_its_output_is_stored_takes_it_back(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "in.mp4", clips.Clip(frames=10))
    payload: dict[str, Any] = {
        "task": "render",
        "inputs": {"in.mp4": str(clip)},
        "output_url": str(tmp_path / "out.mp4"),
        "params": {
            "command_args": ["-i", "in.mp4", "-c", "copy", "out.mp4"],
            "output_filename": "out.mp4",
        },
    }
    settings = Settings(work_root=tmp_path / "work", allow_local_files=True)
    policy = UrlPolicy(allow_local_files=True)
    task = parse_task(payload)
    urls = check_task(task, policy, now=datetime.now(timezone.utc), min_remaining_seconds=0)
    with closing(Engine(settings, os.environ)) as engine:
        runner = JobRunner(engine, settings, "gpu-worker", "0")

        def run(kind: type[UrlFiles]) -> dict[str, Any]:
            transfers = Transfers(policy, TransferLimits(), lambda *_: None)
            files = kind(task, urls, transfers, settings)
            stop = threading.Event()
            if isinstance(files, StoppedLate):
                files.stop = stop
            return runner.run("job", task, files, lambda *_: None, stop)

        assert run(UrlFiles)["status"] == "completed"
        assert (tmp_path / "out.mp4").exists()
        with pytest.raises(TaskError) as caught:
            run(StoppedLate)
    assert caught.value.code is ErrorCode.cancelled
    assert not (tmp_path / "out.mp4").exists()
