"""`gpu-worker dev-server` as a process: prints what a client needs, serves, ends on Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from gpu_worker_client import Storage

COMMAND = [sys.executable, "-m", "gpu_worker.cli", "dev-server", "--port", "0", "--gate-port", "0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_environment_serves_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    command = [*COMMAND, "--workers", "0", "--endpoint-id", "ep", "--api-key", "k", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = [server.stdout.readline().strip().partition("=") for _ in range(7)]
            env = {name: value for name, _, value in lines}
            assert list(env)[:3] == ["GPU_WORKER_BASE_URL", "GPU_WORKER_ENDPOINT_ID", "RUNPOD_API_KEY"]
            storage = Storage.from_env(env)
            storage.upload(COMMAND[0], "python")
            assert storage.head("python") is not None
            url = f"{env['GPU_WORKER_BASE_URL']}/{env['GPU_WORKER_ENDPOINT_ID']}/health"
            health = requests.get(url, headers={"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}, timeout=20)
            assert health.json()["jobs"]["inQueue"] == 0
            server.send_signal(number)
            out, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert (server.returncode, out) == (0, "")
    assert "curl" in err
    assert "X-Amz-Signature" not in err
    for key in ("input", "output"):
        put, get = ((tmp_path / f"{method}-{key}.url").read_text() for method in ("put", "get"))
        assert f"/{key}.mp4?" in put and f"/{key}.mp4?" in get and put != get
    assert f"{tmp_path}/get-input.url" in err


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--host", "example.com"], ["--workers", "-1"]])
def test_usage_errors_are_exit_2(options: list[str]) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "dev-server" in done.stderr
