"""`gpu-client`'s further commands: whole results, many tasks, files, estimates, completion, and
what a terminal sees."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hand_worker import HandWorker
from support.scripted_server import ScriptedServer

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import ProgressEvent, cli
from gpu_worker_client.cli.output import readable
from gpu_worker_client.progress_bar import describe
from gpu_worker_client.protocol import ErrorBody, Progress
from gpu_worker_client.protocol.errors import job_error

RESULT: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [],
    "stats": {"total_scenes": 0, "avg_scene_length": 0.0},
}
DONE = {"id": "j", "status": "COMPLETED", "output": RESULT}
RUNNING: dict[str, Any] = {
    "id": "j",
    "status": "IN_PROGRESS",
    "output": {"seq": 1, "stage": "process", "fraction": 0.5, "done": 5, "total": 10},
}


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[dict[str, Any]], str]:
    status = cli.main(argv)
    out, notes = capsys.readouterr()
    assert "CANARY" not in out + notes
    return status, [json.loads(line) for line in out.splitlines()], notes


@pytest.fixture
def endpoint(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    monkeypatch.setenv("GPU_WORKER_ENDPOINT_ID", "ep1")
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_CANARYkey0123456789")
    monkeypatch.setenv("GPU_WORKER_BASE_URL", server.url)
    return server


def test_result_is_whole_and_can_go_to_a_file(
    endpoint: ScriptedServer, capsys: Any, tmp_path: Path
) -> None:
    endpoint.say(DONE)
    status, (answer,), _ = told(capsys, "result", "j")
    assert (status, answer["state"], answer["result"]["stats"]["total_scenes"]) == (
        0,
        "completed",
        0,
    )
    file = tmp_path / "scenes.json"
    assert told(capsys, "result", "j", "--output", str(file))[:2] == (
        0,
        [{"id": "j", "state": "completed", "saved": str(file)}],
    )
    assert json.loads(file.read_text())["task"] == "detect_scenes"
    assert told(capsys, "result", "j", "--output", str(tmp_path / "no" / "file"))[0] == 2


def test_watch_and_json_before_or_after_the_command(endpoint: ScriptedServer, capsys: Any) -> None:
    endpoint.say(DONE)
    for argv in (["watch", "j"], ["--json", "watch", "j"], ["watch", "--json", "j"]):
        assert told(capsys, *argv)[1][0]["result"] == RESULT


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPlatform]:
    with LocalPlatform(poll_seconds=0.02) as platform:
        monkeypatch.setenv("GPU_WORKER_ENDPOINT_ID", platform.endpoint_id)
        monkeypatch.setenv("RUNPOD_API_KEY", platform.api_key)
        monkeypatch.setenv("GPU_WORKER_BASE_URL", platform.base_url)
        yield platform


@pytest.fixture
def worker(platform: LocalPlatform) -> Iterator[None]:
    """Completes every job but those whose input is called "bad"."""
    hand, end = HandWorker(platform), threading.Event()

    def work() -> None:
        while not end.is_set():
            answer = hand.http.get(f"{hand.endpoint}/job-take/w1?gpu=local", timeout=10)
            if answer.status_code == 200:
                job = answer.json()
                error = {"error": '{"code": "not_media", "message": "no video"}'}
                hand.post(
                    job["id"], error if "bad" in job["input"]["input_url"] else {"output": RESULT}
                )

    thread = threading.Thread(target=work)
    thread.start()
    yield
    end.set()
    thread.join()


def lines(folder: Path, *names: str) -> str:
    file = folder / "tasks.jsonl"
    tasks = [
        {"task": "detect_scenes", "input_url": f"https://h/{name}.mp4?X-Amz-Signature=CANARY"}
        for name in names
    ]
    file.write_text("\n\n".join(json.dumps(task) for task in tasks) + "\n")
    return str(file)


def test_map_tells_each_end_and_the_sum(
    platform: LocalPlatform, worker: None, capsys: Any, tmp_path: Path
) -> None:
    state = str(tmp_path / "jobs.sqlite")
    status, answers, _ = told(
        capsys, "map", lines(tmp_path, "a", "bad", "c"), "--max-parallel", "2", "--state", state
    )
    assert status == 1
    ends = {answer["index"]: answer for answer in answers[:-1]}
    assert [ends[n]["ok"] for n in range(3)] == [True, False, True]
    assert (ends[1]["error"]["code"], ends[0]["result"]["task"]) == ("not_media", "detect_scenes")
    assert answers[-1]["summary"]["completed"] == 2 and answers[-1]["summary"]["total"] == 3
    submits = sum(call.path == "run" for call in platform.control.log)
    again = told(capsys, "map", lines(tmp_path, "a", "bad", "c"), "--state", state)
    assert again[0] == 1 and len(again[1]) == 4
    assert sum(call.path == "run" for call in platform.control.log) == submits == 3


def test_map_takes_a_pipe_which_is_read_only_once(
    platform: LocalPlatform, worker: None, tmp_path: Path
) -> None:
    tasks = Path(lines(tmp_path, "a", "b")).read_bytes()
    command = [sys.executable, "-m", "gpu_worker_client.cli", "map", "-"]
    done = subprocess.run(command, input=tasks, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["completed"] == 2


def test_map_names_the_line_that_is_no_task(
    platform: LocalPlatform, worker: None, capsys: Any, tmp_path: Path
) -> None:
    file = Path(lines(tmp_path, "a", "b"))
    with file.open("a") as more:
        more.write('\n{"task": "detect_scenes", "input_ulr": "CANARY"}\n')
    state = tmp_path / "jobs.sqlite"
    status, answers, notes = told(capsys, "map", str(file), "--state", str(state))
    assert (status, [answer["error"]["code"] for answer in answers]) == (1, ["invalid_task"])
    assert "line 5" in notes and answers[0]["error"]["details"]["line"] == 5
    assert not state.exists(), "a line was taken before all were looked at"


def test_files_to_a_bucket_and_back(
    platform: LocalPlatform, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = platform.gate
    monkeypatch.setenv("R2_ENDPOINT_URL", gate.base_url)
    monkeypatch.setenv("R2_BUCKET_NAME", gate.bucket)
    monkeypatch.setenv("R2_ACCESS_KEY_ID", gate.credentials.access_key)
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", gate.credentials.secret_key)
    source, back = tmp_path / "in.bin", tmp_path / "back.bin"
    source.write_bytes(b"some bytes" * 1000)
    status, (answer,), _ = told(capsys, "upload", str(source))
    assert (status, answer["bytes"]) == (0, 10_000) and answer.keys() == {"key", "bytes"}
    assert told(capsys, "download", answer["key"], str(back))[0] == 0
    assert back.read_bytes() == source.read_bytes()
    assert "X-Amz-Signature" in told(capsys, "upload", str(source), "--presign", "60")[1][0]["url"]
    assert told(capsys, "download", "no/such/key", str(back))[0] == 1
    assert told(capsys, "upload", str(tmp_path / "none"))[0] == 2
    monkeypatch.delenv("R2_BUCKET_NAME")
    assert told(capsys, "upload", str(source))[0] == 2


def test_estimate_needs_no_endpoint(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPU_WORKER_ENDPOINT_ID", raising=False)
    video = ["--width", "640", "--height", "360", "--fps", "25", "--duration", "60"]
    status, (named,), _ = told(capsys, "estimate", "upscale", *video)
    assert status == 0 and named["seconds"] > 0
    file = tmp_path / "task.json"
    file.write_text('{"task": "upscale"}')
    assert told(capsys, "estimate", str(file), *video)[1] == [named]
    assert told(capsys, "estimate", "upscale", *video, "--gpu", "Voodoo 2")[0] == 2
    file.write_text("no task")
    assert told(capsys, "estimate", str(file), *video)[0] == 2


def completed(script: str, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    run = f"{script}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD=${{#COMP_WORDS[@]}}\n"
    run += 'let COMP_CWORD-=1; _shtab_gpu_client; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", run], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "gpu-client", "st") == ["status"]
    assert completed(script, "gpu-client", "--endpoint-id", "x", "wa") == ["watch", "wait"]
    assert completed(script, "gpu-client", "wait", "--t") == ["--timeout"]
    assert completed(script, "gpu-client", "map", "--in-doubt", "re") == ["resubmit"]
    assert completed(script, "gpu-client", "completion", "f") == ["fish"]
    assert completed(script, "gpu-client", "run", f"{Path(__file__).parent}/test_cli_m") == [
        str(Path(__file__))
    ]


COMMANDS = {
    "submit": ["--execution-timeout", "--ttl", "--webhook"],
    "run": ["--execution-timeout", "--ttl", "--timeout"],
    "watch": ["--timeout"],
    "wait": ["--timeout"],
    "status": ["--json"],
    "cancel": ["--json"],
    "result": ["--timeout", "--output"],
    "health": ["--json"],
    "queue": [],
    "map": ["--max-parallel", "--state", "--retries", "--in-doubt", "--execution-timeout", "--ttl"],
    "upload": ["--key", "--presign"],
    "download": ["--json"],
    "estimate": ["--width", "--height", "--fps", "--duration", "--gpu"],
    "completion": ["--json"],
}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish"])
def test_every_shell_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    options = {option for options in COMMANDS.values() for option in options}
    assert all(option[2:] in script for option in options)


def test_bash_completes_each_commands_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert set(completed(script, "gpu-client", "''")) == set(COMMANDS)
    assert completed(script, "gpu-client", "--e") == ["--endpoint-id"]
    for command, options in COMMANDS.items():
        offered = set(completed(script, "gpu-client", command, "--"))
        assert offered == {"--help", "--json", *options}, command


def test_completion_names_the_package_that_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    status, (answer,), _ = told(capsys, "completion", "bash")
    assert (status, answer["error"]["code"]) == (2, "usage")
    assert "pip install shtab" in answer["error"]["message"]


def on_a_terminal(*argv: str) -> tuple[int, str]:
    """Exit status and what a person's terminal got, of stdout and stderr together."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "gpu_worker_client.cli", *argv], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # how a pseudo-terminal says that it is closed
        pass
    finally:
        os.close(ours)
    return command.wait(30), shown.decode()


def test_a_terminal_gets_a_bar_and_lines_for_a_person(endpoint: ScriptedServer) -> None:
    endpoint.say(RUNNING, DONE)
    status, text = on_a_terminal("watch", "j")
    assert status == 0
    assert "\r\x1b[Kprocess  [###############...............] 5/10" in text
    assert "result.stats.total_scenes: 0" in text and "{" not in text


EVIL = "\x1b]0;PWNED\x07\x1b[2J\x7f\x9b2J\r\n\u202e"
WRITTEN_OUT = r"\x1b]0;PWNED\x07\x1b[2J\x7f\x9b2J\r\n\u202e"
EVIL_PROGRESS = RUNNING["output"] | {"stage": EVIL, "unit": EVIL}
EVIL_ERROR = {"code": EVIL, "message": EVIL, "stage": EVIL, "details": {EVIL: [EVIL]}}


@pytest.mark.parametrize(
    ("argv", "answers", "times"),
    [
        (["health"], [{EVIL: EVIL + "\udcff"}], 2),
        (["health"], [{"script": EVIL}], 1),
        (["status", "j"], [RUNNING | {"output": EVIL_PROGRESS}], 2),
        (["watch", "j"], [RUNNING | {"output": EVIL_PROGRESS}, DONE], 2),
        (["watch", "j"], [{"id": "j", "status": "FAILED", "error": json.dumps(EVIL_ERROR)}], 5),
        (["result", "j"], [{"id": "j", "status": "FAILED", "error": EVIL}], 1),
    ],
)
def test_no_escape_of_the_endpoint_reaches_a_terminal(
    endpoint: ScriptedServer, argv: list[str], answers: list[Any], times: int
) -> None:
    endpoint.say(*answers)
    _, text = on_a_terminal(*argv)
    assert text.count(WRITTEN_OUT) == times
    drawn = text.replace("\r\x1b[K", "").replace("\r\n", "")
    assert not [
        character for character in drawn if character != "\n" and not character.isprintable()
    ]


def test_the_lines_of_a_pipe_and_of_an_error_hold_no_escape_either() -> None:
    progress = ProgressEvent(Progress.model_validate(EVIL_PROGRESS))
    assert describe(progress)[1].count(WRITTEN_OUT) == 2
    error = job_error(ErrorBody(code="internal", message=EVIL + "\n\tin line 2"))
    assert str(error) == f"internal: {error.message}"
    assert (
        error.message.isascii()
        and error.message.endswith("\n\tin line 2")
        and "\x1b" not in error.message
    )


def test_a_person_is_spared_long_lists() -> None:
    assert readable({"a": {"b": [1, 2]}, "long": [0] * 6, "none": None}) == [
        "a.b[0]: 1",
        "a.b[1]: 2",
        "long: 6 entries (--json shows them)",
    ]
