"""`gpu-worker dev-server` as a process: prints what a client needs, serves, ends on Ctrl-C."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from gpu_worker.devserver import LocalPlatform
from gpu_worker.devserver.store import private_files
from gpu_worker_client import Storage
from gpu_worker_client.protocol import parse_task

COMMAND = [sys.executable, "-m", "gpu_worker.cli", "dev-server", "--port", "0", "--gate-port", "0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_environment_serves_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    command = [*COMMAND, "--workers", "0", "--endpoint-id", "ep", "--data-dir", str(data)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            lines = [server.stdout.readline().strip().partition("=") for _ in range(7)]
            env = {name: value for name, _, value in lines}
            assert list(env)[:3] == [
                "GPU_WORKER_BASE_URL",
                "GPU_WORKER_ENDPOINT_ID",
                "RUNPOD_API_KEY",
            ]
            storage = Storage.from_env(env)
            storage.upload(COMMAND[0], "python")
            assert storage.head("python") is not None
            url = f"{env['GPU_WORKER_BASE_URL']}/{env['GPU_WORKER_ENDPOINT_ID']}/health"
            health = requests.get(
                url, headers={"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}, timeout=20
            )
            assert health.json()["jobs"]["inQueue"] == 0
            server.send_signal(number)
            out, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert (server.returncode, out) == (0, "")
    assert "curl" in err
    assert "X-Amz-Signature" not in err
    for key in ("input", "output"):
        put, get = ((data / f"{method}-{key}.url").read_text() for method in ("put", "get"))
        assert f"/{key}.mp4?" in put and f"/{key}.mp4?" in get and put != get
    assert f"{data}/get-input.url" in err
    task, request = ((data / f"{name}.json").read_bytes() for name in ("task", "request"))
    assert parse_task(task).task == "detect_scenes" and json.loads(request) == {
        "input": json.loads(task)
    }
    assert f"gpu-client run {data}/task.json" in err and f"-d @{data}/request.json" in err
    assert {path.name: path.stat().st_mode & 0o777 for path in [data, *data.iterdir()]} == {
        "data": 0o700,
        "objects": 0o700,
        **dict.fromkeys(
            (f"{method}-{key}.url" for key in ("input", "output") for method in ("put", "get")),
            0o600,
        ),
        **dict.fromkeys(("task.json", "request.json"), 0o600),
    }


def test_its_workers_end_with_it_when_it_is_killed(tmp_path: Path) -> None:
    command = [
        *COMMAND,
        "--workers",
        "1",
        "--endpoint-id",
        "ep",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            env = {
                name: value
                for name, _, value in (
                    server.stdout.readline().strip().partition("=") for _ in range(7)
                )
            }
            url = f"{env['GPU_WORKER_BASE_URL']}/{env['GPU_WORKER_ENDPOINT_ID']}/health"
            headers = {"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}
            deadline = time.monotonic() + 120
            while requests.get(url, headers=headers, timeout=20).json()["workers"]["idle"] == 0:
                assert time.monotonic() < deadline, "no worker asks for jobs"
                time.sleep(0.1)
            family = descendants(server.pid)
            assert len(family) >= 3, "the worker, its heartbeat and its engine"
            ends = [os.pidfd_open(pid) for pid in family]
        finally:
            server.kill()
    for end in ends:
        assert select.select([end], [], [], 30)[0], "a process outlives the dev-server"
        os.close(end)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def test_a_file_of_an_earlier_run_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as open_before:
        private_files.write_text(path, "new")
        assert open_before.read() == "old"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_no_two_platforms_have_the_same_key() -> None:
    with LocalPlatform() as one, LocalPlatform() as other:
        assert one.api_key != other.api_key


@pytest.mark.parametrize(
    "options", [["--host", "0.0.0.0"], ["--host", "example.com"], ["--workers", "-1"]]
)
def test_usage_errors_are_exit_2(options: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "dev-server" in done.stderr
