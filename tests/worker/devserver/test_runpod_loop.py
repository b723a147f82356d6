"""The unmodified worker loop of the runpod package, in its own process, against the control
plane."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from gpu_worker.devserver import LocalPlatform, PlatformLimits, WorkerProcess
from gpu_worker.devserver.endpoint.fleet import Fleet
from gpu_worker.devserver.endpoint.job import Status
from gpu_worker_client.protocol.foreign import parse_integer

HANDLER = """
import asyncio, os
from gpu_worker.runpod_sdk import runpod

async def handler(job):
    order = job["input"]
    if order == "crash":
        raise RuntimeError("boom")
    if order == "refresh":
        return {"error": "gpu_oom", "refresh_worker": True}
    if order == "large":
        return {"big": "x" * 2000}
    if order.startswith("/"):
        runpod.serverless.progress_update(job, {"seq": 1, "stage": "process"})
        try:
            while not os.path.exists(order):
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            open(order + ".cancelled", "w").close()
            raise
    return {"echo": order, "pod": os.environ["RUNPOD_POD_ID"]}

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
"""
"""A path as input: waits until that file exists."""


class Rig:
    """One platform for the whole file; `worker` is the present one, ready."""

    def __init__(self, platform: LocalPlatform, script: Path) -> None:
        self.platform, self.script = platform, script
        self.base = f"{platform.base_url}/{platform.endpoint_id}"
        self.headers = {"Authorization": f"Bearer {platform.api_key}"}

    @property
    def worker(self) -> WorkerProcess:
        self.platform.fleet.revive()
        worker = (
            self.platform.workers[-1]
            if self.platform.workers
            else self.platform.start_worker(handler=self.script)
        )
        self.platform.wait_ready(worker)
        return worker

    def run(self, order: object, **fields: object) -> str:
        answer = requests.post(
            f"{self.base}/run",
            json={"input": str(order), **fields},
            headers=self.headers,
            timeout=20,
        )
        return str(answer.json()["id"])

    def until(self, job_id: str, event: str) -> None:
        history = self.platform.job(job_id).history
        found = self.platform.wait_until(lambda: True if event in history else None, 60)
        assert found, (history, [worker.log_tail() for worker in self.platform.workers])

    def show(self, job_id: str) -> dict[str, object]:
        answer = requests.get(f"{self.base}/status/{job_id}", headers=self.headers, timeout=20)
        return dict(answer.json())


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    script = tmp_path_factory.mktemp("worker") / "handler.py"
    script.write_text(HANDLER)
    limits = PlatformLimits(
        run_payload_bytes=1500, lost_worker_seconds=4, execution_timeout_range_seconds=(0.1, 600)
    )
    with LocalPlatform(limits=limits, poll_seconds=0.5) as platform:
        yield Rig(platform, script)


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The file a waiting job waits for."""
    return tmp_path / "go"


def test_results_errors_and_progress(rig: Rig, go: Path) -> None:
    pod = rig.worker.worker_id
    done = rig.run("hello")
    rig.until(done, "COMPLETED")
    assert rig.show(done)["output"] == {"echo": "hello", "pod": pod}

    crashed = rig.run("crash")
    rig.until(crashed, "FAILED")
    assert "RuntimeError" in str(rig.show(crashed)["error"])

    large = rig.run("large")
    rig.until(large, "COMPLETED")
    assert "output" not in rig.show(large)
    assert rig.platform.job(large).history[-2:] == ["result_refused", "COMPLETED"]

    waiting = rig.run(go)
    rig.until(waiting, "progress")
    shown = rig.show(waiting)
    assert (shown["status"], shown["output"]) == ("IN_PROGRESS", {"seq": 1, "stage": "process"})
    go.touch()
    rig.until(waiting, "COMPLETED")
    assert rig.platform.job(waiting).history == ["IN_QUEUE", "IN_PROGRESS", "progress", "COMPLETED"]


@pytest.mark.parametrize(
    ("policy", "cancel", "end"),
    [({}, True, "CANCELLED"), ({"executionTimeout": 500}, False, "TIMED_OUT")],
)
def test_cancel_and_timeout_reach_the_handler_and_the_next_job_runs(
    rig: Rig, go: Path, policy: dict[str, int], cancel: bool, end: str
) -> None:
    assert rig.worker.poll() is None
    job_id = rig.run(go, policy=policy)
    rig.until(job_id, "progress" if cancel else "IN_PROGRESS")
    if cancel:
        requests.post(f"{rig.base}/cancel/{job_id}", headers=rig.headers, timeout=20)
    rig.until(job_id, end)
    following = rig.run("hello")
    rig.until(following, "COMPLETED")
    assert go.with_name("go.cancelled").exists()
    assert rig.platform.job(job_id).status is Status(end)
    assert "late_result" not in rig.platform.job(job_id).history


def test_refresh_worker_brings_a_fresh_process(rig: Rig) -> None:
    old = rig.worker
    job_id = rig.run("refresh")
    rig.until(job_id, "FAILED")
    following = rig.run("hello")
    rig.until(following, "COMPLETED")
    assert rig.platform.job(following).worker_id != old.worker_id
    assert old.wait(20) == 0


@pytest.mark.parametrize("whole", [True, False], ids=["its machine", "its process alone"])
def test_a_killed_worker_loses_its_job_to_another(rig: Rig, go: Path, whole: bool) -> None:
    worker = rig.worker
    job_id = rig.run(go)
    rig.until(job_id, "progress")
    heartbeats = psutil.Process(worker.pid).children()
    assert heartbeats, "the SDK pings from a process of its own"
    if whole:
        worker.kill()
    else:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(20)
    go.touch()
    assert rig.platform.fleet.revive() == [worker]
    assert psutil.wait_procs(heartbeats, timeout=20)[1] == []
    rig.until(job_id, "redelivered")
    rig.until(job_id, "COMPLETED")
    job = rig.platform.job(job_id)
    assert (job.deliveries, job.worker_id) == (2, rig.worker.worker_id)
    assert job.worker_id != worker.worker_id


def test_what_a_dead_worker_leaves_behind_is_killed(tmp_path: Path) -> None:
    """A handler that imports the SDK by itself has a heartbeat that does not notice."""
    script = tmp_path / "handler.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    fleet = Fleet(lambda _: {}, tmp_path)
    worker = fleet.start(None, script)
    worker.wait(20)
    survivor = psutil.Process(parse_integer(worker.log().strip()))
    assert fleet.revive() == [worker]
    fleet.close()
    assert psutil.wait_procs([survivor], timeout=20)[1] == []


def test_sigterm_drains_the_running_job(rig: Rig, go: Path) -> None:
    worker = rig.worker
    job_id = rig.run(go)
    rig.until(job_id, "progress")
    worker.terminate()
    go.touch()
    assert worker.wait(20) == 0
    assert rig.platform.job(job_id).status is Status.COMPLETED


def test_a_worker_that_dies_at_start_is_reported_with_its_log(tmp_path: Path) -> None:
    script = tmp_path / "handler.py"
    script.write_text("raise SystemExit('no weights here')")
    with LocalPlatform() as platform:
        worker = platform.start_worker(handler=script)
        with pytest.raises(RuntimeError, match="no weights here"):
            platform.wait_ready(worker, 30)
