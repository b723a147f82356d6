"""An engine under foreign control (a decoder's memory bug): what it writes and says must not reach
beyond its own job."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from support import clips

from gpu_worker.transfer.deliver import deliver
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.urls import Target, UrlPolicy
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import ignore_progress
from gpu_worker_processors.engine import host as engine_module
from gpu_worker_processors.engine.host import Engine, EngineJob

READY = '{"event": "ready", "sandbox": {}}'
DONE = (
    '{"event": "done", "number": 1, "seconds": 1.0, "device": {"device": "cpu", "gpu": null},'
    ' "result_path": "%s"}'
)


def captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """The next engine is a script that says these lines, whatever it is told, and then keeps
    quiet."""
    said = tmp_path / "lines"
    said.write_text("".join(f"{line}\n" for line in lines))
    script = tmp_path / "captured"
    script.write_text(f"#!/bin/sh\ncat {said}\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(engine_module.sys, "executable", str(script))


def test_it_cannot_name_the_file_that_is_read_as_its_result(
    engine: Engine, job: EngineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"token": "canary"}')
    captured(tmp_path, monkeypatch, READY, DONE % secret)
    with pytest.raises(TaskError) as caught:
        engine.run(job, ignore_progress)
    assert caught.value.code is ErrorCode.output_invalid


def lay(kind: str, path: Path, secret: Path) -> None:
    if kind == "symlink":
        path.symlink_to(secret)
    elif kind == "hard link":
        path.hardlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder", "nothing"])
def test_no_link_and_no_pipe_is_read_or_delivered(
    engine: Engine, job: EngineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"token": "canary"}')
    lay(kind, job.work_dir / "result.json", secret)
    lay(kind, job.work_dir / "output.mp4", secret)
    captured(tmp_path, monkeypatch, READY, DONE % (job.work_dir / "result.json"))
    codes: list[ErrorCode] = []

    def attack() -> None:
        try:
            engine.run(job, ignore_progress)
        except TaskError as error:
            codes.append(error.code)
        try:
            deliver(
                Target(tmp_path / "out.mp4"),
                job.work_dir / "output.mp4",
                policy=UrlPolicy(allow_local_files=True),
                limits=TransferLimits(),
                progress=ignore_progress,
                cancelled=threading.Event(),
            )
        except TaskError as error:
            codes.append(error.code)

    thread = threading.Thread(target=attack, daemon=True)
    thread.start()
    thread.join(20)
    assert codes == [ErrorCode.output_invalid] * 2
    assert not (tmp_path / "out.mp4").exists()


def test_an_endless_result_is_not_read(
    engine: Engine, job: EngineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (job.work_dir / "result.json").open("wb") as file:
        file.truncate(engine_module.MAX_RESULT_BYTES + 1)
    captured(tmp_path, monkeypatch, READY, DONE % file.name)
    with pytest.raises(TaskError) as caught:
        engine.run(job, ignore_progress)
    assert caught.value.code is ErrorCode.result_too_large


NONSENSE = {
    "no JSON": "hello",
    "another shape": "[]",
    "nested": "[" * 100_000,
    "without an event": "{}",
    "unknown event": '{"event": "upload", "path": "/etc/shadow"}',
    "prepared for done": '{"event": "prepared", "number": 1}',
    "done for no command": (DONE % "x").replace('"number": 1, ', ""),
    "done for the next command": (DONE % "x").replace('"number": 1', '"number": 2'),
    "done without a device": '{"event": "done", "number": 1}',
    "a stage of its own": '{"event": "progress", "stage": "x", "done": 1, "total": 2, "unit": ""}',
    "a huge number": (
        '{"event": "progress", "stage": "process", "done": 1%s, "total": 2, "unit": ""}'
        % ("0" * 400)
    ),
    "an error that is none": '{"event": "error", "error": 1}',
    "a long line": "x" * 3_000_000,
}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_on_the_pipe_ends_the_engine_typed(
    engine: Engine, job: EngineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    captured(tmp_path, monkeypatch, READY, line)
    with pytest.raises(TaskError) as caught:
        engine.run(job, ignore_progress)
    assert caught.value.code is ErrorCode.internal
    assert not engine.alive


def test_an_engine_that_closes_its_pipe_and_lives_is_replaced(
    engine: Engine, job: EngineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that hangs at its exit does this too."""
    monkeypatch.setattr(engine_module, "KILL_WAIT_SECONDS", 0.2)
    script = tmp_path / "silent"
    script.write_text(f"#!/bin/sh\necho '{READY}'\nexec >&-\nexec sleep 60\n")
    script.chmod(0o755)
    with monkeypatch.context() as only_now:
        only_now.setattr(engine_module.sys, "executable", str(script))
        with pytest.raises(TaskError) as caught:
            engine.run(job, ignore_progress)
    assert caught.value.code is ErrorCode.internal and caught.value.code.retryable
    assert not engine.alive
    assert job.input_path is not None
    clips.make(tmp_path / "clip.mp4").rename(job.input_path)
    assert json.loads(engine.run(job, ignore_progress).result)["task"] == "detect_scenes"


def test_an_error_with_names_of_our_own_stays_an_error(
    engine: Engine, job: EngineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = (
        '{"code": "corrupt_media", "message": "m", "stage": "lunch", "details": {"stage": 1,'
        ' "message": 2, "code": 3}}'
    )
    captured(tmp_path, monkeypatch, READY, f'{{"event": "error", "number": 1, "error": {error}}}')
    with pytest.raises(TaskError) as caught:
        engine.run(job, ignore_progress)
    assert caught.value.code is ErrorCode.corrupt_media
    assert caught.value.stage is None
