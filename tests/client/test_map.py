"""`map` of both clients against the local platform, with a worker in a thread that serves in the
order of its own choice."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from support.hand_worker import HandWorker

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import (
    AsyncClient,
    Client,
    ConfigError,
    InputUnavailable,
    InvalidTask,
    Job,
    Outcome,
    Timing,
)
from gpu_worker_client._blocking import as_they_end
from gpu_worker_client.protocol import DetectScenesTask, ErrorCode, TaskError

SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [],
    "stats": {"total_scenes": 0, "avg_scene_length": 0},
}
Map = Callable[..., list[Outcome[Any]]]


def task(name: str) -> DetectScenesTask:
    return DetectScenesTask(input_url=f"https://h/{name}.mp4")


class Service:
    """A platform, its worker, and what they saw."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.platform = platform
        self.most_at_once = 0
        self._worker = HandWorker(platform)

    def unfinished(self) -> list[str]:
        jobs = list(self.platform.control.hub.queue.jobs.values())
        return [job.id for job in jobs if not job.status.is_final]

    def serve(self, count: int, group: int = 1) -> None:
        """Takes `count` jobs, `group` at a time, and answers each group from its last to its
        first."""
        with self._worker.http:
            for _ in range(count // group):
                taken = [self._worker.take() for _ in range(group)]
                self.most_at_once = max(self.most_at_once, len(self.unfinished()))
                for job in reversed(taken):
                    self._worker.post(job["id"], self._answer(job["input"]["input_url"]))

    def _answer(self, url: str) -> dict[str, Any]:
        if "broken" in url:
            return {"error": TaskError(ErrorCode.download_failed, "cut off").body().to_wire()}
        return {"output": SCENES}


@pytest.fixture
def service() -> Iterator[Service]:
    with LocalPlatform(poll_seconds=30) as platform:
        yield Service(platform)


@pytest.fixture(params=["Client", "AsyncClient"])
def mapped(request: pytest.FixtureRequest, service: Service) -> Map:
    """All that `map` yields, or the first few."""
    platform = service.platform
    timing = Timing(async_sleep=lambda seconds: asyncio.sleep(seconds / 20))
    access = (platform.endpoint_id, platform.api_key, platform.base_url)

    def by_client(*args: Any, first: int | None = None, **options: Any) -> list[Outcome[Any]]:
        with Client(*access, timing=timing) as client:
            outcomes = client.map(*args, **options)
            found = list(itertools.islice(outcomes, first))
            outcomes.close()  # type: ignore[attr-defined] - what leaving a loop does in the end
            return found

    async def by_async_client(
        *args: Any, first: int | None = None, **options: Any
    ) -> list[Outcome[Any]]:
        found: list[Outcome[Any]] = []
        async with AsyncClient(*access, timing=timing) as client:
            outcomes = client.map(*args, **options)
            async for outcome in outcomes:
                found.append(outcome)
                if len(found) == first:
                    break
            await outcomes.aclose()
        return found

    if request.param == "Client":
        return by_client
    return lambda *args, **options: asyncio.run(by_async_client(*args, **options))


def serving(service: Service, count: int, group: int = 1) -> threading.Thread:
    thread = threading.Thread(target=service.serve, args=(count, group))
    thread.start()
    return thread


def test_outcomes_come_as_jobs_end_and_a_failure_is_its_own(service: Service, mapped: Map) -> None:
    worker = serving(service, 4, group=2)
    given = [task("a"), {"task": "nonsense"}, task("broken"), task("c"), task("d")]
    outcomes = mapped(given, max_parallel=3)
    worker.join()
    assert sorted(outcome.index for outcome in outcomes) == [0, 1, 2, 3, 4]
    by_index = {outcome.index: outcome for outcome in outcomes}
    assert [by_index[index].ok for index in range(5)] == [True, False, False, True, True]
    assert isinstance(by_index[1].error, InvalidTask)
    assert isinstance(by_index[2].error, InputUnavailable) and by_index[2].error.job is not None
    with pytest.raises(InputUnavailable):
        by_index[2].get()
    assert by_index[0].get().stats.total_scenes == 0
    assert outcomes[0].index == 1  # refused here, before anything was sent
    assert service.most_at_once <= 3


def test_no_more_at_once_than_allowed_however_many_there_are(service: Service, mapped: Map) -> None:
    worker = serving(service, 6)
    drawn: list[int] = []

    def endless() -> Iterator[DetectScenesTask]:
        for number in itertools.count():
            drawn.append(number)
            yield task(str(number))

    assert [outcome.ok for outcome in mapped(endless(), max_parallel=2, first=6)] == [True] * 6
    worker.join()
    assert service.most_at_once <= 2
    assert len(drawn) <= 8


def test_leaving_early_cancels_what_runs(service: Service, mapped: Map) -> None:
    worker = serving(service, 1)
    (only,) = mapped([task(str(number)) for number in range(9)], max_parallel=4, first=1)
    worker.join()
    assert only.ok
    assert service.unfinished() == []
    assert len(service.platform.control.hub.queue.jobs) <= 5


def test_an_error_of_the_tasks_themselves_cancels_what_runs(service: Service, mapped: Map) -> None:
    """Also a job that was not begun when it came: no coroutine is left unawaited, which pytest
    would report."""

    def tasks() -> Iterator[DetectScenesTask]:
        yield task("a")
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        mapped(tasks())
    gc.collect()
    assert service.unfinished() == []


def test_the_source_of_calls_is_closed_when_the_loop_over_them_is_left() -> None:
    closed: list[bool] = []

    async def value() -> int:
        return 1

    async def calls() -> AsyncGenerator[Coroutine[Any, Any, int], None]:
        try:
            while True:
                yield value()
        finally:
            closed.append(True)

    async def program() -> None:
        source = calls()
        async with aclosing(as_they_end(source, 2)) as values:
            assert await anext(values) == 1
        assert closed == [True]

    asyncio.run(program())


def test_what_ends_is_not_held_up_by_a_source_that_waits_for_it() -> None:
    """A slot is free, and the next call comes only when the first one's value has been seen."""
    seen = asyncio.Event()

    async def value(number: int) -> int:
        return number

    async def calls() -> AsyncGenerator[Coroutine[Any, Any, int], None]:
        yield value(1)
        await seen.wait()
        yield value(2)

    async def program() -> list[int]:
        values: list[int] = []
        async with aclosing(as_they_end(calls(), 2)) as ended:
            async for number in ended:
                values.append(number)
                seen.set()
        return values

    assert asyncio.run(asyncio.wait_for(program(), 30)) == [1, 2]


def test_the_job_of_a_blocking_clients_failure_is_a_blocking_one(service: Service) -> None:
    worker = serving(service, 1)
    platform = service.platform
    with Client(platform.endpoint_id, platform.api_key, platform.base_url) as client:
        (outcome,) = client.map([task("broken")])
        worker.join()
        assert isinstance(outcome.error, InputUnavailable) and isinstance(outcome.error.job, Job)
        assert outcome.error.job.status().state.value == "failed"


def test_nothing_to_do_and_nothing_allowed(mapped: Map) -> None:
    assert mapped([]) == []
    with pytest.raises(ConfigError, match="max_parallel"):
        mapped([task("a")], max_parallel=0)


def test_map_within_a_running_loop_as_in_a_notebook(service: Service) -> None:
    platform = service.platform

    async def cell() -> list[bool]:
        with Client(platform.endpoint_id, platform.api_key, platform.base_url) as client:
            return [outcome.ok for outcome in client.map([task("a")])]

    worker = serving(service, 1)
    assert asyncio.run(cell()) == [True]
    worker.join()
