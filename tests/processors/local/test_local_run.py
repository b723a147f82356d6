"""`python -m gpu_worker_processors`: one task on files, without the worker. Right answers, typed
errors, nothing half-written, and nothing left running however it ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import clips

from gpu_worker_client.protocol import MAX_TASK_BYTES, ErrorBody
from gpu_worker_processors.engine.settings import EngineSettings
from gpu_worker_processors.environment import ConfigError
from gpu_worker_processors.local.run import run_task
from gpu_worker_processors.sandbox import landlock

COMMAND = [sys.executable, "-m", "gpu_worker_processors"]
DEADLINE_SECONDS = 120
RED, BLUE = (255, 0, 0), (0, 0, 255)
needs_sandbox = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The user's folder: a film with a cut at frame 25."""
    folder = tmp_path / "films"
    folder.mkdir()
    clips.make(folder / "film.mp4", clips.Clip(frames=50), clips.flat(RED, BLUE, every=25))
    return folder


def environment(place: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place.parent),
        "GPU_WORKER_WORK_ROOT": str(place.parent / "work"),
        **more,
    }


def run(task: object, place: Path, **variables: str) -> tuple[int, dict[str, Any]]:
    """(exit status, answer)"""
    text = task if isinstance(task, bytes) else json.dumps(task).encode()
    env = environment(place, **variables)
    done = subprocess.run(
        COMMAND, input=text, capture_output=True, env=env, cwd=place, timeout=DEADLINE_SECONDS
    )
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def answer_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What the command would answer, without a start of Python for each task."""
    monkeypatch.chdir(place)

    def answer(task: object, **variables: str) -> dict[str, Any]:
        text = task if isinstance(task, bytes) else json.dumps(task).encode()
        env = environment(place, **variables)
        return run_task(text, EngineSettings.from_env(env), env)

    return answer


def left_behind(place: Path) -> list[str]:
    """Everything but the user's own film."""
    work = place.parent / "work"
    return [
        str(path)
        for folder in (place, work)
        if folder.exists()
        for path in folder.iterdir()
        if path.name != "film.mp4"
    ]


def failure(answer: dict[str, Any]) -> ErrorBody:
    body = ErrorBody.from_wire(answer["error"])
    assert body is not None and list(answer) == ["error"]
    return body


def test_an_analysis(place: Path) -> None:
    status, answer = run(
        {"task": "detect_scenes", "input_url": "film.mp4", "idempotency_key": "k1"}, place
    )
    assert status == 0
    assert [(scene["start_frame"], scene["end_frame"]) for scene in answer["scenes"]] == [
        (0, 24),
        (25, 49),
    ]
    assert (answer["status"], answer["task"], answer["idempotency_key"]) == (
        "completed",
        "detect_scenes",
        "k1",
    )
    assert answer["worker"]["package"] == "gpu-worker-processors"
    assert answer["timings"]["process_sec"] > 0 and answer["cost"]["usd"] is None
    assert left_behind(place) == []


def test_a_name_that_the_locale_cannot_spell(place: Path) -> None:
    """As on a machine whose locale is C and stays so."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    task = {"task": "detect_scenes", "input_url": "f\u00eate.mp4"}
    status, answer = run(task, place, **ascii_only)
    error = failure(answer)
    assert (status, error.code) == (1, "invalid_task")
    assert error.message.startswith("input_url: ") and "PYTHONUTF8=1" in error.message


@pytest.mark.parametrize("name", ["result.json", "result.json.gz"])
def test_the_result_goes_into_a_file_as_well(
    place: Path, answer_to: Callable[..., dict[str, Any]], name: str
) -> None:
    task = {
        "task": "detect_scenes",
        "input_url": (place / "film.mp4").as_uri(),
        "result_url": str(place / name),
    }
    answer = answer_to(task)
    data = (place / name).read_bytes()
    assert json.loads(gzip.decompress(data) if name.endswith(".gz") else data) == answer
    assert answer["result_url"] == str(place / name)


def test_a_render_of_oddly_named_files(place: Path) -> None:
    source, output = place / "it's; a [film], %03d=é.mp4", place / "out put.mkv"
    (place / "film.mp4").rename(source)
    task = {
        "task": "render",
        "inputs": {"a.mp4": str(source)},
        "output_url": str(output),
        "params": {
            "command_args": ["-i", "a.mp4", "-vf", "scale=32:24", "-t", "1", "out.mkv"],
            "output_filename": "out.mkv",
        },
    }
    status, answer = run(task, place)
    assert (status, answer["output_url"], answer["stats"]["frames"]) == (0, str(output), 25)
    assert frames_of(output) == 25
    assert sorted(path.name for path in place.iterdir()) == sorted([source.name, output.name])


def frames_of(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@needs_sandbox
@pytest.mark.parametrize(("policy", "level"), [("require", "full"), ("off", "off")])
def test_the_answer_says_how_well_it_was_sandboxed(
    answer_to: Callable[..., dict[str, Any]], policy: str, level: str
) -> None:
    answer = answer_to(SCENES, GPU_WORKER_SANDBOX=policy)
    assert answer["worker"]["sandbox"] == level


SCENES = {"task": "detect_scenes", "input_url": "film.mp4"}
RENDER = {
    "task": "render",
    "inputs": {"a.mp4": "film.mp4"},
    "output_url": "out.mp4",
    "params": {"command_args": ["-i", "a.mp4", "out.mp4"], "output_filename": "out.mp4"},
}
UPSCALE = {"task": "upscale", "input_url": "film.mp4", "output_url": "out.mp4"}
PARTS = {"part_size": 5 * 2**20, "parts": [{"n": 1, "url": "https://h/o.mp4?partNumber=1"}]}
BAD: dict[str, tuple[object, str, str]] = {
    "missing file": (SCENES | {"input_url": "gone.mp4"}, "input_not_found", "input_url"),
    "folder": (SCENES | {"input_url": "."}, "input_not_found", "input_url"),
    "name too long": (SCENES | {"input_url": "x" * 5000}, "input_not_found", "input_url"),
    "not media": (SCENES | {"input_url": __file__}, "not_media", ""),
    "input by URL": (
        SCENES | {"input_url": "https://h/in.mp4?X-Amz-Signature=CANARY"},
        "url_not_allowed",
        "pip install",
    ),
    "file of another host": (
        SCENES | {"input_url": "file://host/in.mp4"},
        "url_not_allowed",
        "input_url",
    ),
    "one input by URL": (
        RENDER | {"inputs": {"a.mp4": "https://h/in.mp4"}},
        "url_not_allowed",
        "inputs.a.mp4",
    ),
    "output by URL": (
        RENDER | {"output_url": "https://h/out.mp4"},
        "url_not_allowed",
        "output_url",
    ),
    "output in parts": (
        {name: value for name, value in UPSCALE.items() if name != "output_url"}
        | {"output_multipart": PARTS},
        "url_not_allowed",
        "output_multipart",
    ),
    "result by URL": (SCENES | {"result_url": "https://h/r.json"}, "url_not_allowed", "result_url"),
    "earlier result": (
        SCENES | {"result_url": "r.json", "result_get_url": "r.json", "idempotency_key": "k"},
        "url_not_allowed",
        "result_get_url",
    ),
    "webhook": (SCENES | {"webhook_url": "https://h/hook"}, "webhook_unavailable", "webhook_url"),
    "output is the input": (UPSCALE | {"output_url": "./film.mp4"}, "invalid_task", "same object"),
    "output is a folder": (UPSCALE | {"output_url": "/"}, "invalid_task", "folder"),
    "result is a folder": (SCENES | {"result_url": "."}, "invalid_task", "folder"),
    "output in no folder": (
        UPSCALE | {"output_url": "./nodir/out.mp4"},
        "invalid_task",
        "output_url: the folder of this path is not there",
    ),
    "result below a file": (
        RENDER | {"result_url": "film.mp4/r.json"},
        "invalid_task",
        "result_url: a file is where",
    ),
    "no container": (UPSCALE | {"output_url": "out.txt"}, "invalid_task", ".mkv"),
    "weights missing": (
        UPSCALE | {"params": {"model": "SwinIR_4x_GAN"}},
        "weights_missing",
        "WEIGHTS_DIR",
    ),
    "command denied": (
        RENDER
        | {
            "params": {
                "command_args": ["-i", "/etc/passwd", "out.mp4"],
                "output_filename": "out.mp4",
            }
        },
        "ffmpeg_arg_denied",
        "",
    ),
    "unknown key": (SCENES | {"input_ur": "x"}, "invalid_task", "input_url"),
    "unknown task": ({"task": "paint"}, "unsupported_task", "upscale"),
    "no JSON": (b"{", "invalid_task", "JSON"),
    "key twice": (b'{"task": "selftest", "task": "selftest"}', "invalid_task", "twice"),
    "endless": (b" " * (MAX_TASK_BYTES + 2), "invalid_task", str(MAX_TASK_BYTES)),
    "nothing": (b"", "invalid_task", "JSON"),
}


SLOW = {"weights missing"}
"""It imports torch; hostile/test_whole_job.py has the same of the worker."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BAD]
)
def test_a_bad_task_is_a_typed_error_and_leaves_nothing(
    place: Path, answer_to: Callable[..., dict[str, Any]], name: str
) -> None:
    task, code, words = BAD[name]
    answer = answer_to(task)
    body = failure(answer)
    assert (body.code, words in body.message) == (code, True), body
    assert "CANARY" not in str(answer)
    assert left_behind(place) == []


@pytest.mark.parametrize("name", ["missing file", "no JSON", "endless"])
def test_the_command_ends_with_1_for_a_bad_task(place: Path, name: str) -> None:
    task, code, _ = BAD[name]
    status, answer = run(task, place)
    assert (status, failure(answer).code) == (1, code)


@pytest.mark.parametrize(
    ("task", "variable", "value", "code"),
    [
        (SCENES, "GPU_WORKER_MAX_PIXELS", "1000", "media_limit"),
        (SCENES, "GPU_WORKER_MAX_FRAMES", "10", "media_limit"),
        (RENDER, "GPU_WORKER_MAX_OUTPUT_BYTES", "1000", "output_too_large"),
        (SCENES, "GPU_WORKER_JOB_TIME_LIMIT_SECONDS", "0.01", "time_limit"),
        (
            SCENES,
            "GPU_WORKER_JOB_TIME_LIMIT_SECONDS",
            "0",
            "time_limit",
        ),  # over before there is an engine to end
    ],
    ids=lambda value: str(value) if not isinstance(value, dict) else "",
)
def test_limits_hold(
    place: Path,
    answer_to: Callable[..., dict[str, Any]],
    task: dict[str, Any],
    variable: str,
    value: str,
    code: str,
) -> None:
    assert failure(answer_to(task, **{variable: value})).code == code
    assert left_behind(place) == []


@pytest.mark.parametrize(
    "variable", ["SANDBOX", "RENDER_SANDBOX", "CUDA_GRAPHS", "MAX_PIXELS", "JOB_TIME_LIMIT_SECONDS"]
)
def test_a_variable_that_does_not_parse_is_named(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"GPU_WORKER_{variable}"):
        EngineSettings.from_env({f"GPU_WORKER_{variable}": "maybe"})


def test_settings_that_do_not_parse_end_it_with_2(place: Path) -> None:
    env = environment(place, GPU_WORKER_SANDBOX="maybe")
    done = subprocess.run(
        COMMAND, input=b"{}", capture_output=True, env=env, cwd=place, timeout=DEADLINE_SECONDS
    )
    assert (done.returncode, done.stdout) == (2, b"") and b"GPU_WORKER_SANDBOX" in done.stderr


def test_nothing_of_the_worker_is_imported(place: Path) -> None:
    program = (
        "import json, os, sys\nfrom gpu_worker_processors.local import run\nfrom"
        " gpu_worker_processors.engine.settings import EngineSettings\nanswer ="
        f" run.run_task({json.dumps(SCENES).encode()!r}, EngineSettings.from_env(os.environ),"
        " os.environ)\nprint(json.dumps([answer['status'], sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env=environment(place),
        cwd=place,
        timeout=60,
        check=True,
    )
    status, modules = json.loads(done.stdout)
    foreign = {
        "gpu_worker",
        "requests",
        "boto3",
        "runpod",
        "torch",
        "gpu_worker_client.client",
    } & set(modules)
    assert (status, foreign) == ("completed", set())


def wait_for(condition: Callable[[], bool]) -> None:
    """Looks every few milliseconds, for as long as any machine can need."""
    deadline, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        pause.wait(0.01)


def long_render(place: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A run whose FFmpeg, a child of its engine, will work for minutes, and all that it has
    started."""
    words = [
        "-stream_loop",
        "-1",
        "-i",
        "a.mp4",
        "-t",
        "3600",
        "-vf",
        "scale=1920:1080",
        "-preset",
        "veryslow",
        "out.mp4",
    ]
    task = RENDER | {
        "params": {"command_args": words, "output_filename": "out.mp4"},
        "result_url": "result.json",
    }
    child = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(place),
        cwd=place,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(task).encode())
    child.stdin.close()
    child.stdin = None
    started: list[psutil.Process] = []

    def ffmpeg_works() -> bool:
        assert child.poll() is None
        started[:] = psutil.Process(child.pid).children(recursive=True)
        return any(
            "veryslow" in command_of(process) and process.ppid() != child.pid for process in started
        )

    wait_for(ffmpeg_works)
    return child, started


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_ends_all_of_it_and_leaves_nothing(place: Path, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(
            f"the tests were told to ignore {number.name}, by nohup for example, and so is all they"
            " start"
        )
    child, started = long_render(place)
    child.send_signal(number)
    output, _ = child.communicate(timeout=DEADLINE_SECONDS)
    assert (child.returncode, failure(json.loads(output)).code) == (1, "cancelled")
    wait_for(lambda: all(map(gone, started)))
    assert left_behind(place) == []


@pytest.mark.parametrize("victim", ["itself", "its engine"])
def test_a_kill_ends_all_of_it(place: Path, victim: str) -> None:
    child, started = long_render(place)
    engine = next(p for p in started if "gpu_worker_processors.engine.process" in p.cmdline())
    (child if victim == "itself" else engine).kill()
    output, _ = child.communicate(timeout=DEADLINE_SECONDS)
    wait_for(lambda: all(map(gone, started)))
    assert not (place / "out.mp4").exists() and not (place / "result.json").exists()
    if victim == "its engine":
        assert failure(json.loads(output)).code == "resource_exhausted"
    else:
        assert len(list((place.parent / "work").iterdir())) == 1
        run(SCENES, place)  # the next run tidies up after it
    assert left_behind(place) == []
