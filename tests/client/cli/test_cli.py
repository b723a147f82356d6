"""`gpu-client` as a shell sees it: one JSON object on stdout, notes on stderr, exit codes, Ctrl-C
stops the remote job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import Answer, ScriptedServer

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import cli

API_KEY = "rpa_CANARYkey0123456789"
RESULT: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [],
    "stats": {"total_scenes": 0, "avg_scene_length": 0.0},
}
QUEUED = {"id": "j", "status": "IN_QUEUE"}
RUNNING = {
    "id": "j",
    "status": "IN_PROGRESS",
    "output": {
        "seq": 1,
        "stage": "process",
        "fraction": 0.5,
        "done": 5,
        "total": 10,
        "unit": "frames",
        "fps": 2.5,
        "eta_sec": 2,
    },
}
DONE = {
    "id": "j",
    "status": "COMPLETED",
    "output": RESULT,
    "delayTime": 1000,
    "executionTime": 2000,
}
TASK = {"task": "detect_scenes", "input_url": "https://h/in.mp4?X-Amz-Signature=CANARY"}


@pytest.fixture(autouse=True)
def environment(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GPU_WORKER_ENDPOINT_ID", "ep1")
    monkeypatch.setenv("RUNPOD_API_KEY", API_KEY)
    monkeypatch.setenv("GPU_WORKER_BASE_URL", server.url)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self.task = folder / "task.json"
        self.task.write_text(json.dumps(TASK))
        self.notes = ""

    def __call__(self, *argv: str) -> tuple[int, dict[str, Any]]:
        status = cli.main(argv)
        out, self.notes = self._capsys.readouterr()
        assert "CANARY" not in out + self.notes
        assert out.endswith("\n") and out.count("\n") == 1
        return status, json.loads(out)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    return Shell(capsys, tmp_path)


def test_submit(shell: Shell, server: ScriptedServer) -> None:
    server.say(QUEUED)
    told = shell(
        "submit",
        str(shell.task),
        "--execution-timeout",
        "60",
        "--ttl",
        "90",
        "--webhook",
        "https://me/hook",
    )
    assert told == (0, {"id": "j", "state": "queued"})
    policy = {"executionTimeout": 60_000, "ttl": 90_000}
    assert server.seen[0].body == {"input": TASK, "policy": policy, "webhook": "https://me/hook"}


def test_run_shows_progress_on_stderr_and_the_result_on_stdout(
    shell: Shell, server: ScriptedServer
) -> None:
    server.aside["/health"] = Answer(status=503)
    server.say(QUEUED, QUEUED, RUNNING, DONE)
    status, answer = shell("run", str(shell.task))
    assert (status, answer["state"], answer["result"]) == (0, "completed", RESULT)
    assert shell.notes.splitlines() == [
        "job j",
        "queued",
        "a worker has taken the job",
        "process  [###############...............] 5/10 frames, 2.5 frames/s, 2 s left",
    ]


def test_wait_status_cancel_health(shell: Shell, server: ScriptedServer) -> None:
    server.say(DONE)
    done = {
        "id": "j",
        "state": "completed",
        "queue_seconds": 1.0,
        "execution_seconds": 2.0,
        "result": RESULT,
    }
    assert shell("wait", "j") == (0, done)
    assert shell("status", "j") == (0, done)
    server.script[:] = [Answer(RUNNING)]
    assert shell("status", "j")[1]["progress"]["fps"] == 2.5
    server.script[:] = [Answer({"id": "j", "status": "CANCELLED"})]
    assert shell("cancel", "j")[1]["state"] == "cancelled"
    server.script[:] = [Answer({"workers": {"idle": 1}})]
    assert shell("health") == (0, {"workers": {"idle": 1}})


def test_a_failed_job_is_exit_one_with_its_error(shell: Shell, server: ScriptedServer) -> None:
    server.say(
        {
            "id": "j",
            "status": "FAILED",
            "error": '{"code":"corrupt_media","message":"broke at 3 s","stage":"process"}',
        }
    )
    status, answer = shell("wait", "j")
    error = {
        "code": "corrupt_media",
        "message": "broke at 3 s",
        "retryable": False,
        "stage": "process",
        "details": {},
    }
    assert (status, answer) == (1, {"id": "j", "state": "failed", "error": error})


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        ({"status": "COMPLETED"}, "completed", "result_lost"),
        ({"status": "TIMED_OUT"}, "timed_out", "timed_out"),
        (Answer(status=404), "expired", "expired"),
    ],
)
def test_other_ends(
    shell: Shell, server: ScriptedServer, answer: Any, state: str, code: str
) -> None:
    server.say(answer)
    status, told = shell("wait", "j")
    assert (status, told["state"], told["error"]["code"]) == (1, state, code)


def test_the_status_of_a_job_that_is_not_there_is_exit_one(
    shell: Shell, server: ScriptedServer
) -> None:
    server.say(Answer(status=404))
    status, told = shell("status", "nope")
    assert (status, told["state"]) == (1, "expired")


def test_a_cancel_that_comes_too_late_is_exit_one(shell: Shell, server: ScriptedServer) -> None:
    server.say(DONE)
    assert shell("cancel", "j")[0] == 1


def test_a_wrong_task_is_refused_before_anything_is_sent(
    shell: Shell, server: ScriptedServer
) -> None:
    shell.task.write_text(
        '{"task": "detect_scenes", "input_url": "https://h/a?CANARY", "params": {"treshold": 3}}'
    )
    status, answer = shell("submit", str(shell.task))
    assert (status, answer["error"]["code"]) == (1, "invalid_task")
    assert 'params.treshold: unknown key. Did you mean "threshold"?' in answer["error"]["message"]
    shell.task.write_text('{"task": "selftest", "task": "selftest"}')
    assert "stands twice" in shell("submit", str(shell.task))[1]["error"]["message"]
    assert server.seen == []


def test_the_endpoints_refusal_is_exit_one(shell: Shell, server: ScriptedServer) -> None:
    server.say(Answer({"error": "no"}, status=401))
    status, answer = shell("submit", str(shell.task))
    assert (status, answer["error"]["code"]) == (1, "AuthenticationError")


def test_the_end_of_the_time(shell: Shell, server: ScriptedServer) -> None:
    server.say(RUNNING)
    status, answer = shell("wait", "j", "--timeout", "0")
    assert (status, answer["id"], answer["error"]["code"]) == (1, "j", "wait_timeout")
    assert all("cancel" not in request for request in server.asked)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["submit"],
        ["submit", "no-such-file.json"],
        ["wait", "../health"],
        ["run", "-", "--timeout", "soon"],
        ["--base-url", "http://example.com", "health"],
    ],
)
def test_wrong_calls_are_exit_two(shell: Shell, argv: list[str]) -> None:
    status, answer = shell(*argv)
    assert (status, answer["error"]["code"]) == (2, "usage")


@pytest.mark.parametrize("variable", ["GPU_WORKER_ENDPOINT_ID", "RUNPOD_API_KEY"])
def test_a_missing_variable_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(variable)
    status, answer = shell("health")
    assert status == 2 and variable in answer["error"]["message"]


def test_help_goes_to_stdout_and_is_exit_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    assert "submit" in capsys.readouterr().out


PROGRAM = """
import signal, sys
# A shell's background job, and so its children, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from gpu_worker_client.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_the_remote_job(stop: signal.Signals) -> None:
    with LocalPlatform() as platform:
        env = {
            **os.environ,
            "GPU_WORKER_ENDPOINT_ID": platform.endpoint_id,
            "RUNPOD_API_KEY": platform.api_key,
            "GPU_WORKER_BASE_URL": platform.base_url,
        }
        command = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "run", "-"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert command.stdin is not None and command.stderr is not None
        command.stdin.write('{"task": "selftest"}')
        command.stdin.close()
        command.stdin = None
        job_id = command.stderr.readline().removeprefix("job ").strip()
        assert command.stderr.readline().startswith("queued")
        command.send_signal(stop)
        out, notes = command.communicate(timeout=60)
        assert command.returncode == 1, notes
        assert json.loads(out)["error"]["code"] == "interrupted"
        assert platform.job(job_id).status.value == "CANCELLED"
