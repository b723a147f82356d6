"""The engine: warm between jobs, killed whole, and its death always a typed error."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from support import clips

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import DetectScenesTask, ErrorCode, TaskError, UpscaleTask
from gpu_worker_processors.engine.host import Engine, EngineJob


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(
        Settings(work_root=tmp_path / "work"),
        {**os.environ, "R2_SECRET_ACCESS_KEY": "canary-of-the-environment"},
    )
    yield engine
    engine.close()


def scenes_job(tmp_path: Path, frames: int = 30) -> EngineJob:
    work = tmp_path / "work" / "job-1"
    work.mkdir(parents=True, exist_ok=True)
    clip = clips.make(work / "clip.mp4", clips.Clip(frames=frames)).rename(work / "input")
    return EngineJob(
        id="one",
        task=DetectScenesTask(input_url="https://example.com/in.mp4?secret"),
        work_dir=work,
        input_path=clip,
    )


def test_it_stays_warm(engine: Engine, tmp_path: Path) -> None:
    job = scenes_job(tmp_path)
    assert engine.start() is True
    first = engine.pid
    engine.prepare(job)
    answer = engine.run(job, lambda *_: None)
    assert json.loads(answer.result)["stats"]["total_frames"] == 30
    assert answer.device == "cpu" or answer.device.startswith("cuda")
    assert engine.start() is False
    assert engine.pid == first


def test_the_child_gets_no_secret_and_no_url(engine: Engine) -> None:
    engine.start()
    child = psutil.Process(engine.pid)
    assert "canary-of-the-environment" not in str(child.environ())
    assert "secret" not in " ".join(child.cmdline())


@pytest.mark.slow
def test_the_sandboxed_engine_reads_the_manifest_that_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[[weights]]\nname = "mine"\nfile = "mine.pth"\n')
    job = replace(scenes_job(tmp_path), task=UpscaleTask(input_url="i", output_url="o.mp4"))
    settings = Settings(work_root=tmp_path / "work", manifest=tmp_path / "own.toml")
    with closing(Engine(settings, os.environ)) as engine:
        with pytest.raises(TaskError) as caught:
            engine.run(job, lambda *_: None)
    assert caught.value.code is ErrorCode.weights_missing
    assert caught.value.details["names"] == ["mine"]


@pytest.mark.parametrize(("given", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_it_starts_no_threads_that_spin_unless_told(
    tmp_path: Path, given: dict[str, str], threads: str
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    engine = Engine(Settings(work_root=tmp_path / "work"), env | given)
    try:
        engine.start()
        told = psutil.Process(engine.pid).environ()
        assert (told["OPENBLAS_NUM_THREADS"], told["OMP_WAIT_POLICY"]) == (threads, "PASSIVE")
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, ErrorCode.resource_exhausted), (signal.SIGSEGV, ErrorCode.internal)],
)
def test_a_death_in_the_middle_is_typed_and_the_next_job_gets_a_fresh_child(
    engine: Engine, tmp_path: Path, number: signal.Signals, code: ErrorCode
) -> None:
    job = scenes_job(tmp_path, frames=2000)
    engine.start()
    pid = engine.pid
    assert pid is not None

    def die_at_the_first_report(*_: object) -> None:
        os.kill(pid, number)

    with pytest.raises(TaskError) as caught:
        engine.run(job, die_at_the_first_report)
    assert caught.value.code is code
    assert code.retryable
    answer = engine.run(scenes_job(tmp_path), lambda *_: None)
    assert json.loads(answer.result)["stats"]["total_frames"] == 30
    assert engine.pid != pid


def test_kill_from_another_thread_ends_the_run_and_its_group(
    engine: Engine, tmp_path: Path
) -> None:
    job = scenes_job(tmp_path, frames=2000)
    running = threading.Event()
    errors: list[TaskError] = []

    def run() -> None:
        try:
            engine.run(job, lambda *_: running.set())
        except TaskError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(60)
    child = psutil.Process(engine.pid)
    engine.kill()
    thread.join(10)
    assert not thread.is_alive()
    assert [e.code for e in errors] == [ErrorCode.cancelled]
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_required_sandbox_is_really_there_or_refused(tmp_path: Path) -> None:
    engine = Engine(Settings(work_root=tmp_path / "work", sandbox="require"), os.environ)
    try:
        engine.start()
    except TaskError as error:
        assert error.code is ErrorCode.sandbox_unavailable
    else:
        assert engine.sandbox["level"] == "full"
        assert engine.sandbox["canaries"] and all(engine.sandbox["canaries"].values())
    finally:
        engine.close()
