"""One local platform with one worker, and how tests inspect both from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gpu_worker.devserver.endpoint.worker_process import WorkerProcess
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import Client


@dataclass
class Stage:
    """One platform with one worker, and how to inspect them from outside."""

    platform: LocalPlatform
    worker: WorkerProcess
    client: Client
    work_root: Path

    def upload(self, key: str, path: Path) -> str:
        """Stores a file in the gate; returns a presigned GET."""
        self.platform.gate.put(key, path)
        return self.platform.gate.presign("GET", key)

    def engine(self) -> psutil.Process | None:
        """The worker's engine child, found by what it runs."""
        for child in psutil.Process(self.worker.pid).children(recursive=True):
            if "gpu_worker_processors.engine.process" in child.cmdline():
                return child
        return None

    def job_directories(self) -> list[str]:
        return [path.name for path in self.work_root.rglob("job-*")]


def start(
    tmp_path_factory: pytest.TempPathFactory, poll_seconds: float = 2.0, **env: str
) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("e2e")
    work_root = root / "work"
    with LocalPlatform(data_dir=root / "platform", poll_seconds=poll_seconds) as platform:
        extra: dict[str, str] = {"GPU_WORKER_WORK_ROOT": str(work_root), **env}
        if os.environ.get("WEIGHTS_DIR"):
            extra["WEIGHTS_DIR"] = os.environ["WEIGHTS_DIR"]
        worker = platform.start_worker(extra)
        try:
            client = Client(platform.endpoint_id, platform.api_key, platform.base_url)
            yield Stage(platform, worker, client, work_root)
        finally:
            worker.stop()
