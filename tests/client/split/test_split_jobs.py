"""The jobs of a split, with both clients, over real HTTP: the local platform, the R2 gate, and a
worker that gives every segment back as it came, so that the joined film is the source's."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import pytest
from support import clips
from support.client_surfaces import Blocking
from support.split_log import OPTIONS, SEGMENTS, Log, assert_finished, finish, shown, states
from support.toy_worker import ToyWorker, storage_of

from gpu_worker.devserver import GateLimits, LocalPlatform
from gpu_worker_client import (
    AsyncClient,
    Client,
    ConfigError,
    Job,
    JobError,
    Storage,
    Timing,
    UnsupportedMedia,
)
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.split import (
    SegmentEvent,
    SplitError,
    SplitPlan,
    SplitResult,
    plan_split,
    split_upscale_async,
)

FILM = clips.Clip(
    frames=60, options=(("crf", "20"), ("preset", "medium"), ("g", "12")), audio_seconds=2.4
)


class Killed(BaseException):
    """The process ends here."""


async def _soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.02))


TIMING = Timing(async_sleep=_soon)


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    with LocalPlatform(
        poll_seconds=30, gate_limits=GateLimits(write_interval_seconds=0)
    ) as platform:
        yield platform


@pytest.fixture
def worker(platform: LocalPlatform) -> ToyWorker:
    worker = ToyWorker(platform)
    worker.make = lambda data: data
    return worker


@pytest.fixture
def blocking_client(platform: LocalPlatform) -> Iterator[Client]:
    access = (platform.endpoint_id, platform.api_key, platform.base_url)
    with Client(*access, timing=TIMING, storage=storage_of(platform)) as client:
        yield client


@pytest.fixture
def async_client(platform: LocalPlatform) -> AsyncClient:
    return AsyncClient(
        platform.endpoint_id,
        platform.api_key,
        platform.base_url,
        timing=TIMING,
        storage=storage_of(platform),
    )


@pytest.fixture(params=["Client", "AsyncClient"])
def client(
    request: pytest.FixtureRequest, blocking_client: Client, async_client: AsyncClient
) -> Iterator[Client]:
    if request.param == "Client":
        yield blocking_client
        return
    loop = asyncio.new_event_loop()
    with Blocking(async_client, loop) as blocking:
        yield cast(Client, blocking)
    loop.close()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return clips.make(tmp_path / "in.mov", FILM)


def test_both_clients_make_the_same(
    client: Client, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    worker.serve(SEGMENTS)
    output, log, plans = film.with_name("out.mov"), Log(), list[SplitPlan]()
    result = client.upscale(
        film, output, **OPTIONS, in_flight=2, on_plan=plans.append, on_event=log
    )
    assert replace(result, seconds=0) == SplitResult(
        output, FILM.frames, SEGMENTS, 0, 0, None, 0, ()
    )
    assert [plan.frames for plan in plans] == [FILM.frames]
    assert shown(output) == shown(film)
    assert log.stages == {"uploaded": SEGMENTS, "submitted": SEGMENTS, "done": SEGMENTS}
    assert states(platform) == {"COMPLETED": SEGMENTS}
    assert sorted(path.name for path in film.parent.iterdir()) == ["in.mov", "out.mov"]
    keys = platform.gate.keys()
    assert all("/in/" in key for key in keys), "outputs and results are deleted, inputs are kept"


def test_warnings_are_those_of_every_result(client: Client, worker: ToyWorker, film: Path) -> None:
    hdr = {"code": "hdr", "message": "HDR"}
    worker.answer = lambda whole: {"output": whole | {"warnings": [hdr]}}
    worker.serve(SEGMENTS)
    result = client.upscale(film, film.with_name("out.mov"), **OPTIONS)
    assert [warning.model_dump() for warning in result.warnings] == [hdr]


def test_a_failed_segment_is_tried_again_alone(
    client: Client, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    failures = [TaskError(ErrorCode.gpu_oom, "no tile fits").body().to_wire()]
    worker.answer = lambda whole: {"error": failures.pop()} if failures else {"output": whole}
    worker.serve(SEGMENTS + 1)
    log = Log()
    client.upscale(film, film.with_name("out.mov"), **OPTIONS, on_event=log)
    assert (log.stages["submitted"], log.stages["failed"]) == (SEGMENTS + 1, 1)
    assert states(platform) == {"COMPLETED": SEGMENTS, "FAILED": 1}


def test_a_lasting_failure_ends_all(
    client: Client, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    """The others are cancelled, and the error's job is one of the client that raised it."""
    failure = TaskError(ErrorCode.corrupt_media, "frame 3 is broken").body().to_wire()
    worker.answer = lambda _: {"error": failure}

    def serve(event: SegmentEvent) -> None:
        log(event)
        if log.stages["submitted"] == SEGMENTS and event.stage == "submitted":
            worker.serve()

    log = Log()
    with pytest.raises(UnsupportedMedia) as caught:
        client.upscale(film, film.with_name("out.mov"), **OPTIONS, on_event=serve)
    assert isinstance(caught.value.job, Job | Blocking)
    assert caught.value.job.status().state.value == "failed"
    assert states(platform) == {"FAILED": 1, "CANCELLED": SEGMENTS - 1}
    assert not film.with_name("out.mov").exists()


def test_what_a_listener_raises_cancels_the_jobs_and_the_next_call_goes_on(
    client: Client, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    first, then = Log(), Log()

    def die(event: SegmentEvent) -> None:
        first(event)
        if first.half_way:
            raise Killed

    worker.serve()
    with pytest.raises(Killed):
        client.upscale(film, film.with_name("out.mov"), **OPTIONS, on_event=die)
    assert states(platform) == {"COMPLETED": 1, "CANCELLED": SEGMENTS - 1}
    finish(client, worker, film, then)
    assert_finished(film, platform, worker, first, then)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_usd": 1e-9, "gpu": "RTX 4090"}, SplitError),
        ({"max_usd": math.nan, "gpu": "RTX 4090"}, SplitError),
        ({"max_usd": 1.0}, SplitError),
        ({"in_flight": 0}, ConfigError),
        ({"timeout": 5}, ConfigError),
        ({"policy": {"ttl": 60_000}}, ConfigError),
        ({"segments": 0}, ConfigError),
        ({"scael": 4}, JobError),
    ],
    ids=[
        "too dear",
        "no number",
        "no price",
        "none in flight",
        "timeout",
        "policy as a dict",
        "no segment",
        "misspelt",
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(
    client: Client,
    platform: LocalPlatform,
    film: Path,
    options: dict[str, Any],
    expected: type[Exception],
) -> None:
    with pytest.raises(expected):
        client.upscale(film, film.with_name("out.mov"), **{**OPTIONS, **options})
    assert not platform.gate.log and not platform.control.log
    assert [path.name for path in film.parent.iterdir()] == ["in.mov"]


def test_a_plan_that_is_refused_ends_the_call(
    client: Client, platform: LocalPlatform, film: Path
) -> None:
    def refuse(_: SplitPlan) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        client.upscale(film, film.with_name("out.mov"), **OPTIONS, on_plan=refuse)
    assert not platform.gate.log and not platform.control.log


def test_ctrl_c_cancels_the_jobs_and_the_next_call_goes_on(
    blocking_client: Client, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    first, then = Log(), Log()

    def interrupt(event: SegmentEvent) -> None:
        first(event)
        if first.half_way:
            os.kill(os.getpid(), signal.SIGINT)

    worker.serve()
    with pytest.raises(KeyboardInterrupt):
        blocking_client.upscale(film, film.with_name("out.mov"), **OPTIONS, on_event=interrupt)
    assert states(platform) == {"COMPLETED": 1, "CANCELLED": SEGMENTS - 1}
    finish(blocking_client, worker, film, then)
    assert_finished(film, platform, worker, first, then)


def test_a_cancelled_asyncio_task_cancels_the_jobs_and_the_next_call_goes_on(
    async_client: AsyncClient, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    first, then = Log(), Log()
    output = film.with_name("out.mov")

    async def program() -> None:
        half_way = asyncio.Event()

        async def listen(event: SegmentEvent) -> None:
            await asyncio.sleep(0)
            first(event)
            if first.half_way:
                half_way.set()

        worker.serve()
        work = asyncio.create_task(async_client.upscale(film, output, **OPTIONS, on_event=listen))
        await half_way.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert states(platform) == {"COMPLETED": 1, "CANCELLED": SEGMENTS - 1}
        assert not output.exists() and output.with_name("out.mov.split").is_dir()
        worker.serve(SEGMENTS - 1)
        result = await async_client.upscale(film, output, **OPTIONS, on_event=then)
        assert result.segments == SEGMENTS

    asyncio.run(program())
    assert_finished(film, platform, worker, first, then)


def test_coroutine_functions_hear_on_the_event_loop_one_at_a_time(
    async_client: AsyncClient, worker: ToyWorker, film: Path
) -> None:
    threads: set[threading.Thread] = set()
    speaking: list[object] = []
    heard: list[str] = []

    async def hear(what: SegmentEvent | SplitPlan) -> None:
        assert not speaking
        speaking.append(what)
        threads.add(threading.current_thread())
        await asyncio.sleep(0.01)
        heard.append(what.stage if isinstance(what, SegmentEvent) else "plan")
        speaking.pop()

    async def program() -> SplitResult:
        plan = await asyncio.to_thread(plan_split, film, segments=SEGMENTS)
        storage = async_client.storage
        return await split_upscale_async(
            async_client, storage, plan, film.with_name("o.mov"), on_plan=hear, on_event=hear
        )

    worker.serve(SEGMENTS)
    result = asyncio.run(program())
    assert result.segments == SEGMENTS
    assert threads == {threading.current_thread()}
    assert heard[0] == "plan" and Counter(heard[1:]) == dict.fromkeys(
        ["uploaded", "submitted", "done"], SEGMENTS
    )


def test_a_time_limit_of_the_caller_ends_a_listener_too(
    async_client: AsyncClient, platform: LocalPlatform, film: Path
) -> None:
    async def hear(event: SegmentEvent) -> None:
        if event.stage == "submitted":
            submitted.set()
            await asyncio.Event().wait()

    async def program(seconds: float) -> None:
        call = async_client.upscale(film, film.with_name("out.mov"), **OPTIONS, on_event=hear)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, seconds)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    submitted = threading.Event()
    seconds = 0.1
    while not submitted.is_set():  # a busy machine gets more
        asyncio.run(program(seconds))
        seconds *= 2
    assert set(states(platform)) == {"CANCELLED"}


def test_two_at_once_do_not_disturb_each_other(
    async_client: AsyncClient, worker: ToyWorker, film: Path
) -> None:
    other = clips.make(film.with_name("other.mov"), replace(FILM, frames=48, audio_seconds=2.0))

    async def program() -> list[SplitResult]:
        works = [(film, "a.mov"), (other, "b.mov")]
        return await asyncio.gather(
            *(async_client.upscale(source, film.with_name(to), **OPTIONS) for source, to in works)
        )

    worker.serve(2 * SEGMENTS)
    assert [result.frames for result in asyncio.run(program())] == [60, 48]
    assert shown(film.with_name("a.mov")) == shown(film)
    assert shown(film.with_name("b.mov")) == shown(other)


def test_two_at_once_for_one_output_are_one_too_many(
    async_client: AsyncClient, worker: ToyWorker, platform: LocalPlatform, film: Path
) -> None:
    output = film.with_name("out.mov")

    async def program() -> tuple[SplitResult | BaseException, ...]:
        one, other = (async_client.upscale(film, output, **OPTIONS) for _ in range(2))
        return tuple(await asyncio.gather(one, other, return_exceptions=True))

    worker.serve(SEGMENTS)
    made, refused = sorted(
        asyncio.run(program()), key=lambda value: isinstance(value, BaseException)
    )
    assert isinstance(made, SplitResult) and isinstance(refused, SplitError)
    assert refused.reason == "busy"
    assert states(platform) == {"COMPLETED": SEGMENTS}
    assert shown(output) == shown(film)


def test_nothing_that_takes_time_is_done_on_the_event_loop(
    async_client: AsyncClient, worker: ToyWorker, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file is opened as a video, hashed, sent, fetched and deleted."""
    where: dict[str, set[threading.Thread]] = {}

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def seen(*args: Any, **kwargs: Any) -> Any:
            where.setdefault(name, set()).add(threading.current_thread())
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, seen)

    watch(av, "open")
    for name in ("upload", "content_key", "download", "delete", "presign_put"):
        watch(Storage, name)
    worker.serve(SEGMENTS)
    asyncio.run(async_client.upscale(film, film.with_name("out.mov"), **OPTIONS))
    assert set(where) == {"open", "upload", "content_key", "download", "delete", "presign_put"}
    assert threading.current_thread() not in set[threading.Thread]().union(*where.values())


def test_a_notebook_that_has_an_event_loop_may_block(
    blocking_client: Client, worker: ToyWorker, film: Path
) -> None:
    async def cell() -> SplitResult:
        return blocking_client.upscale(film, film.with_name("out.mov"), **OPTIONS)

    worker.serve(SEGMENTS)
    assert asyncio.run(cell()).frames == FILM.frames
