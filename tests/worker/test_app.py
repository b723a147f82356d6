"""The way of a job inside one process: typed answers, nothing left behind, one job at a time, the
limits of an answer."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import clips

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorBody, Stage
from gpu_worker_processors.engine.host import Engine, EngineAnswer, EngineJob, OnProgress

Handle = Callable[[object], dict[str, Any]]
DARK, BRIGHT = (20, 20, 20), (230, 230, 230)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(work_root=tmp_path_factory.mktemp("work"), allow_local_files=True)


@pytest.fixture(scope="module")
def engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine(settings, os.environ)
    yield engine
    engine.close()


@pytest.fixture
def handle(settings: Settings, engine: Engine) -> Handle:
    def call(payload: object) -> dict[str, Any]:
        return asyncio.run(Worker(settings, engine).handle({"id": "job", "input": payload}))

    return call


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    return clips.make(
        tmp_path / "cuts.mp4", clips.Clip(frames=60), clips.flat(DARK, BRIGHT, every=30)
    )


def body(answer: dict[str, Any]) -> ErrorBody:
    assert isinstance(answer["error"], str), "RunPod accepts a string only"
    parsed = ErrorBody.from_wire(answer["error"])
    assert parsed is not None
    return parsed


def test_a_local_task_is_answered_whole(handle: Handle, cuts: Path, settings: Settings) -> None:
    answer = handle({"task": "detect_scenes", "input_url": str(cuts)})
    assert [s["start_frame"] for s in answer["scenes"]] == [0, 30]
    assert answer["status"] == "completed"
    assert set(answer["timings"]) == {
        "fetch_sec",
        "load_sec",
        "process_sec",
        "deliver_sec",
        "cold_start",
    }
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert list(settings.work_root.glob("job-*")) == []


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (None, "invalid_task"),
        ([], "invalid_task"),
        (b"", "invalid_task"),
        (b"[" * 200_000, "invalid_task"),
        ({"task": "upscael"}, "unsupported_task"),
        ({"task": "detect_scenes"}, "invalid_task"),
        ({"task": "detect_scenes", "input_url": "ftp://example.com/x"}, "url_not_allowed"),
        ({"task": "detect_scenes", "input_url": "https://127.0.0.1/x"}, "address_not_allowed"),
        ({"task": "detect_scenes", "input_url": "/no/such/file.mp4"}, "input_not_found"),
    ],
)
def test_a_bad_task_gets_a_typed_answer(
    handle: Handle, settings: Settings, payload: object, code: str
) -> None:
    error = body(handle(payload))
    assert error.code == code
    assert error.retryable is False
    assert error.message
    assert list(settings.work_root.glob("job-*")) == []


def test_bad_media_is_typed_and_the_next_job_is_fine(
    handle: Handle, tmp_path: Path, cuts: Path, settings: Settings
) -> None:
    (tmp_path / "empty.mp4").touch()
    error = body(handle({"task": "detect_scenes", "input_url": str(tmp_path / "empty.mp4")}))
    assert (error.code, error.stage) == ("not_media", "process")
    assert list(settings.work_root.glob("job-*")) == []
    assert handle({"task": "detect_scenes", "input_url": str(cuts)})["status"] == "completed"


def test_a_failed_fetch_keeps_the_engine_warm(
    settings: Settings, engine: Engine, cuts: Path
) -> None:
    """One loop for all three jobs, as the platform has it: the load of the failed one may end after
    its answer."""

    async def scenario() -> None:
        worker = Worker(settings, engine)
        good = {"id": "job", "input": {"task": "detect_scenes", "input_url": str(cuts)}}
        bad = {"id": "job", "input": {"task": "detect_scenes", "input_url": "/no/such/file.mp4"}}
        assert "error" not in await worker.handle(good)
        warm = engine.pid
        assert body(await worker.handle(bad)).stage == "fetch"
        assert "error" not in await worker.handle(good)
        assert engine.pid == warm

    asyncio.run(scenario())


def test_a_large_result_goes_to_result_url(
    engine: Engine, settings: Settings, cuts: Path, tmp_path: Path
) -> None:
    import dataclasses

    small = dataclasses.replace(settings, inline_result_bytes=10)
    task = {
        "task": "detect_scenes",
        "input_url": str(cuts),
        "result_url": str(tmp_path / "result.json"),
    }
    answer = asyncio.run(Worker(small, engine).handle({"id": "job", "input": task}))
    assert "scenes" not in answer
    assert answer["scenes_count"] == 2
    assert len(json.loads((tmp_path / "result.json").read_bytes())["scenes"]) == 2


def test_a_result_over_the_limit_without_result_url_says_so(
    engine: Engine, settings: Settings, cuts: Path
) -> None:
    import dataclasses

    small = dataclasses.replace(settings, max_answer_bytes=10)
    answer = asyncio.run(
        Worker(small, engine).handle(
            {"id": "job", "input": {"task": "detect_scenes", "input_url": str(cuts)}}
        )
    )
    assert body(answer).code == "result_too_large"


def test_the_time_limit_ends_the_job_and_the_next_one_runs(
    settings: Settings, cuts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import dataclasses

    short = dataclasses.replace(settings, job_time_limit_seconds=0.05)
    engine = Engine(short, os.environ)
    try:
        answer = asyncio.run(
            Worker(short, engine).handle(
                {"id": "job", "input": {"task": "detect_scenes", "input_url": str(cuts)}}
            )
        )
        assert body(answer).code == "time_limit"
        assert not engine.alive
        gc.collect()  # asyncio speaks of a forgotten failure when the task that holds it goes
        assert "never retrieved" not in caplog.text
        again = Worker(dataclasses.replace(short, job_time_limit_seconds=60), engine)
        assert asyncio.run(
            again.handle({"id": "job", "input": {"task": "detect_scenes", "input_url": str(cuts)}})
        )["status"]
    finally:
        engine.close()


def test_one_job_at_a_time(settings: Settings, engine: Engine, cuts: Path) -> None:
    """Two jobs handed over together: the second's first report comes after the first's answer."""
    order: list[str] = []

    async def one(worker: Worker, name: str) -> None:
        async def send(report: dict[str, object]) -> None:
            order.append(f"{name} reports")

        await worker.handle(
            {"id": name, "input": {"task": "detect_scenes", "input_url": str(cuts)}}, send
        )
        order.append(f"{name} answered")

    async def both() -> None:
        worker = Worker(settings, engine)
        jobs: list[Coroutine[Any, Any, None]] = [one(worker, "a"), one(worker, "b")]
        await asyncio.gather(*jobs)

    asyncio.run(both())
    assert order.index("a answered") < order.index("b reports")


class Watched(Engine):
    """The real engine, which also tells when its processor reports for the first time."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, os.environ)
        self.computing = threading.Event()

    def run(self, job: EngineJob, on_progress: OnProgress) -> EngineAnswer:
        def seen(stage: Stage, done: int, total: int | None, unit: str) -> None:
            self.computing.set()
            on_progress(stage, done, total, unit)

        return super().run(job, seen)


class SlowToStart(Watched):
    """An engine of which the first start for `render` goes on when the next job is computing, or
    never will be before that start has ended."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.waited = False

    def start(self, task: str = "") -> bool:
        if task == "render" and not self.waited:
            self.waited = True
            self.computing.wait(1)
        return super().start(task)


def test_the_load_of_a_failed_job_never_ends_the_next_one(
    settings: Settings, tmp_path: Path
) -> None:
    """The two need engines of different kinds, so that the start of one ends the other."""
    clip = clips.make(tmp_path / "long.mp4", clips.Clip(width=320, height=240, frames=500))
    engine = SlowToStart(settings)
    words = ["-i", "a.mp4", "out.mp4"]
    failing = {
        "task": "render",
        "inputs": {"a.mp4": "/no/such/file.mp4"},
        "output_url": str(tmp_path / "out.mp4"),
        "params": {"command_args": words, "output_filename": "out.mp4"},
    }

    async def scenario() -> None:
        worker = Worker(settings, engine)
        assert body(await worker.handle({"id": "1", "input": failing})).code == "input_not_found"
        good = {"task": "detect_scenes", "input_url": str(clip)}
        assert (await worker.handle({"id": "2", "input": good})).get("status") == "completed"

    try:
        asyncio.run(scenario())
    finally:
        engine.close()


def test_a_cancel_is_raised_and_kills_the_engine(settings: Settings, tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "long.mp4", clips.Clip(width=320, height=240, frames=1500))
    engine = Watched(settings)

    async def scenario() -> None:
        worker = Worker(settings, engine)
        job = {"id": "job", "input": {"task": "detect_scenes", "input_url": str(clip)}}
        task = asyncio.ensure_future(worker.handle(job))
        assert await asyncio.to_thread(engine.computing.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(scenario())
        assert not engine.alive
        assert list(settings.work_root.glob("job-*")) == []
    finally:
        engine.close()
