"""The other doors to the same worker: `gpu-worker run`, the SDK's own `--test_input` and
`--rp_serve_api`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import requests
from support import clips

import gpu_worker
from gpu_worker_client.protocol import ErrorBody
from gpu_worker_processors.sandbox import landlock

HANDLER = Path(gpu_worker.__file__).parents[1] / "handler.py"
DARK, BRIGHT = (20, 20, 20), (230, 230, 230)
DEADLINE_SECONDS = 120


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "WEIGHTS_DIR") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "GPU_WORKER_WORK_ROOT": str(tmp_path / "work")}


def run_command(
    task: object, env: dict[str, str], cwd: Path, stdin: bool = False
) -> subprocess.CompletedProcess[str]:
    text = task if isinstance(task, str) else json.dumps(task)
    file = cwd / "task.json"
    file.write_text(text)
    argv = [sys.executable, "-m", "gpu_worker.cli", "run", "-" if stdin else str(file)]
    return subprocess.run(
        argv,
        input=text if stdin else None,
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        timeout=DEADLINE_SECONDS,
    )


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_run_prints_exactly_one_json_object(
    env: dict[str, str], tmp_path: Path, stdin: bool
) -> None:
    clips.make(tmp_path / "cuts.mp4", clips.Clip(frames=60), clips.flat(DARK, BRIGHT, every=30))
    done = run_command(
        {"task": "detect_scenes", "input_url": "cuts.mp4"}, env, tmp_path, stdin
    )  # a relative path
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [s["start_frame"] for s in answer["scenes"]] == [0, 30]
    assert "fetch" in done.stderr, "the progress goes to stderr"


COMMAND = {"command_args": ["-i", "in.mp4", "-vf", "scale=64:64", "out.mp4"]}


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(
            {
                "task": "render",
                "inputs": {"in.mp4": "in.mp4"},
                "params": {**COMMAND, "output_filename": "out.mp4"},
            },
            id="render",
            marks=pytest.mark.skipif(landlock.abi() == 0, reason="render requires Landlock"),
        ),
        pytest.param(
            {
                "task": "upscale",
                "input_url": "in.mp4",
                "params": {"model": "realesr-animevideov3", "scale": 2},
            },
            id="upscale",
            marks=pytest.mark.slow,  # it loads torch and a network
        ),
    ],
)
def test_run_makes_a_local_file(
    env: dict[str, str], tmp_path: Path, weights_dir: Path, task: dict[str, Any]
) -> None:
    clips.make(tmp_path / "in.mp4", clips.Clip(width=32, height=32, frames=5))
    done = run_command(task | {"output_url": (tmp_path / "out.mp4").as_uri()}, env, tmp_path)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out.mp4")) as output:
        assert [(f.width, f.height) for f in output.decode(video=0)] == [(64, 64)] * 5


@pytest.mark.parametrize(
    ("task", "code"),
    [
        ({"task": "detect_scenes", "input_url": "absent.mp4"}, "input_not_found"),
        pytest.param(
            {"task": "beat", "input_url": "absent.mp4", "output_url": "."},
            "invalid_task",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"task": "beat", "input_url": "absent.mp4", "result_url": "."},
            "invalid_task",
            marks=pytest.mark.slow,
        ),
        ({"task": "beat", "input_url": "absent.mp4", "output_url": "task.json/o"}, "invalid_task"),
        pytest.param(
            {"task": "selftest", "params": {"fast": True}}, "invalid_task", marks=pytest.mark.slow
        ),
        ("{not json", "invalid_task"),
        pytest.param("", "invalid_task", marks=pytest.mark.slow),
        ("[" * 300_000, "invalid_task"),
    ],
)
def test_run_of_a_bad_task_exits_1_with_a_typed_error(
    env: dict[str, str], tmp_path: Path, task: object, code: str
) -> None:
    done = run_command(task, env, tmp_path)
    assert done.returncode == 1
    body = ErrorBody.from_wire(json.loads(done.stdout)["error"])
    assert body is not None and body.code == code
    assert f"{code}: {body.message}\n" in done.stderr, "readable without taking the JSON apart"


@pytest.mark.slow
def test_an_unknown_detector_lists_the_detectors(env: dict[str, str], tmp_path: Path) -> None:
    task = {"task": "track", "input_url": "task.json", "params": {"model": "yolov9"}}
    body = ErrorBody.from_wire(json.loads(run_command(task, env, tmp_path).stdout)["error"])
    assert body is not None and body.code == "invalid_task"
    assert "yolov8n" in body.message and "hog. Did you mean" in body.message
    assert "GFPGAN" not in body.message


def test_a_run_that_is_stopped_puts_its_files_away(env: dict[str, str], tmp_path: Path) -> None:
    clips.make(tmp_path / "in.mp4", clips.Clip(frames=60))
    task = {"task": "detect_scenes", "input_url": str(tmp_path / "in.mp4")}
    argv = [sys.executable, "-m", "gpu_worker.cli", "run", "-"]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-1, text=True, env=env) as run:
        assert run.stdin is not None and run.stderr is not None
        run.stdin.write(json.dumps(task))
        run.stdin.close()
        assert "fetch" in run.stderr.readline()
        assert len(list((tmp_path / "work").glob("worker-*/job-*"))) == 1
        run.terminate()
        assert run.wait(DEADLINE_SECONDS) == 130
    assert list((tmp_path / "work").iterdir()) == []


def test_a_run_removes_what_a_dead_worker_left(env: dict[str, str], tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, living = (tmp_path / "work" / f"worker-{pid}" for pid in (ended.pid, os.getpid()))
    for folder in (dead, living):
        (folder / "job").mkdir(parents=True)
        (folder / "job" / "input").write_bytes(b"1")
    run_command("", env, tmp_path)
    assert not dead.exists() and (living / "job" / "input").exists()


def test_run_without_a_readable_file_is_a_usage_error(env: dict[str, str], tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "gpu_worker.cli", "run", str(tmp_path / "absent.json")]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=DEADLINE_SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "absent.json" in done.stderr


def test_a_misspelled_setting_is_a_usage_error(env: dict[str, str], tmp_path: Path) -> None:
    done = run_command({"task": "selftest"}, {**env, "GPU_WORKER_MAX_PIXLES": "1"}, tmp_path)
    assert done.returncode == 2
    assert "GPU_WORKER_MAX_PIXELS" in done.stderr


@pytest.mark.slow
def test_the_sdks_test_input(env: dict[str, str], tmp_path: Path) -> None:
    argv = [sys.executable, str(HANDLER), "--test_input", '{"input": {"task": "selftest"}}']
    done = subprocess.run(
        argv, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    bad = subprocess.run(
        [*argv[:-1], '{"input": {"task": "nothing"}}'],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        timeout=60,
    )
    assert bad.returncode == 1
    assert "unsupported_task" in bad.stdout


@pytest.fixture
def api(env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The SDK's own little server around our handler."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "api.log").open("w")
    argv = [
        sys.executable,
        str(HANDLER),
        "--rp_serve_api",
        "--rp_api_host",
        "127.0.0.1",
        "--rp_api_port",
        str(port),
    ]
    server = subprocess.Popen(
        argv, stdout=log, stderr=log, env=env, cwd=tmp_path, start_new_session=True
    )
    try:
        wait_until_it_listens(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def wait_until_it_listens(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        with contextlib.suppress(
            subprocess.TimeoutExpired
        ):  # not in a tight loop: the server needs the processor too
            server.wait(0.1)
    pytest.fail("the server did not start")


@pytest.mark.slow
def test_the_sdks_api_server_runs_a_task(api: str) -> None:
    answer = requests.post(
        f"{api}/runsync", json={"input": {"task": "selftest"}}, timeout=DEADLINE_SECONDS
    ).json()
    assert answer["status"] == "COMPLETED", answer
    assert answer["output"]["processors"]["detect_scenes"]["ok"] is True


def test_the_sdks_api_server_answers_by_our_handler(api: str) -> None:
    bad = requests.post(
        f"{api}/runsync", json={"input": {"task": "nothing"}}, timeout=DEADLINE_SECONDS
    ).json()
    assert bad["status"] == "FAILED"
    assert "unsupported_task" in bad["error"]
