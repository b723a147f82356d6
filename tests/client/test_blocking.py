"""Calls in a thread beside an event loop: a cancelled asyncio task ends them, wherever they are."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from support import clips

from gpu_worker_client import Storage, StorageError, Timing, _blocking
from gpu_worker_client._blocking import Notify, Stopped, checkpoint, in_thread, in_thread_notifying
from gpu_worker_client._portal import MAX_THREADS, Threads
from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_client.split import SplitPlan, plan_split
from gpu_worker_client.split.remux import check_output, cut_segments, join, read_piece
from gpu_worker_client.split.source import read_source


def test_a_call_gives_its_value_or_its_error() -> None:
    def fail() -> None:
        raise LookupError

    async def program() -> None:
        assert await in_thread(lambda: threading.current_thread()) is not threading.current_thread()
        with pytest.raises(LookupError):
            await in_thread(fail)

    asyncio.run(program())
    checkpoint()  # outside of such a call it is nothing


class Endless:
    """A call made over and over, that ends when it is stopped; or by the test, when that does not
    work."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.begun, self.ended, self.given_up = (threading.Event() for _ in range(3))
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            while not self.given_up.is_set():
                self._call()
                self.begun.set()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    async def cancelled(self) -> None:
        """Begins it, and cancels the task that waits."""
        work = asyncio.create_task(in_thread(self))
        await asyncio.to_thread(self.begun.wait, 30)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> SplitPlan:
    spec = clips.Clip(
        frames=60, options=(("crf", "20"), ("preset", "medium"), ("g", "12")), audio_seconds=2.4
    )
    return plan_split(
        clips.make(tmp_path_factory.mktemp("film") / "in.mp4", spec),
        UpscaleParams(model="lite"),
        segments=3,
    )


def steps(plan: SplitPlan, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a split does in threads, each for itself."""
    cut = list(cut_segments(plan, folder))
    pieces = [read_piece(segment, path) for segment, path in cut]
    copied, _ = join(plan, pieces, folder / "whole.mp4")
    yield "read", lambda: read_source(plan.source.path)
    yield "cut", lambda: list(cut_segments(plan, folder))
    yield "look", lambda: read_piece(*cut[0])
    yield "join", lambda: join(plan, pieces, folder / "joined.mp4")
    yield "check", lambda: check_output(plan, folder / "whole.mp4", copied)
    storage = Storage(
        "http://127.0.0.1:9", "bucket", "id", "secret", timing=Timing(sleep=lambda _: None)
    )
    yield "hash", lambda: storage.content_key(plan.source.path)
    yield "ask a bucket that does not answer", lambda: _failed(storage)


def _failed(storage: Storage) -> None:
    with suppress(StorageError):
        storage.head("key")


@pytest.mark.parametrize(
    "name", ["read", "cut", "look", "join", "check", "hash", "ask a bucket that does not answer"]
)
def test_a_cancel_ends_every_step_of_a_split(name: str, plan: SplitPlan, tmp_path: Path) -> None:
    call = Endless(dict(steps(plan, tmp_path))[name])
    try:
        asyncio.run(call.cancelled())
        assert call.ended.is_set(), "it was waited for"
        assert isinstance(call.error, Stopped)
    finally:
        call.given_up.set()


def test_a_call_that_comes_to_no_checkpoint_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocking, "STOP_SECONDS", 0.05)
    begun, stuck = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        stuck.wait()

    async def program() -> None:
        work = asyncio.create_task(in_thread(call))
        await asyncio.to_thread(begun.wait, 30)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    try:
        asyncio.run(program())
        assert not stuck.is_set()
    finally:
        stuck.set()


def test_a_call_that_has_not_begun_never_does() -> None:
    gate, begun = threading.Event(), list[int]()

    async def program() -> None:
        busy = [asyncio.create_task(in_thread(gate.wait)) for _ in range(MAX_THREADS)]
        await asyncio.sleep(0)
        late = asyncio.create_task(in_thread(lambda: begun.append(1)))
        await asyncio.sleep(0)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        gate.set()
        assert all(await asyncio.gather(*busy))
        await in_thread(lambda: None)

    asyncio.run(program())
    assert begun == []


def test_a_listener_is_cancelled_with_the_call_that_waits_for_it() -> None:
    """It neither holds up the cancel nor stays behind."""
    ends: list[str] = []

    def call(tell: Notify) -> None:
        try:
            tell("begun")
        except Stopped:
            ends.append("stopped")
            raise

    async def program() -> None:
        heard = asyncio.Event()

        async def hear(_: Any) -> None:
            heard.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        work = asyncio.create_task(in_thread_notifying(call, hear))
        await heard.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(program())
    assert sorted(ends) == ["cancelled", "stopped"]


def test_a_listener_hears_on_the_event_loop_in_the_context_of_the_call() -> None:
    request: ContextVar[str] = ContextVar("request", default="lost")
    heard: list[tuple[Any, str, bool]] = []

    async def program() -> None:
        here = threading.current_thread()

        async def hear(value: Any) -> None:
            heard.append((value, request.get(), threading.current_thread() is here))

        request.set("seven")
        await in_thread_notifying(lambda tell: tell(1), hear)
        await in_thread_notifying(lambda tell: tell(2), None)
        with pytest.raises(TimeoutError, match="the listener's own"):
            await in_thread_notifying(lambda tell: tell(3), fail)

    async def fail(_: Any) -> None:
        raise TimeoutError("the listener's own")

    asyncio.run(program())
    assert heard == [(1, "seven", True)]


def test_listeners_may_need_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many calls as there are threads, all of them waiting for listeners that make such a call
    themselves."""
    monkeypatch.setattr(_blocking, "POLL_SECONDS", 0.01)
    together = threading.Barrier(MAX_THREADS)

    async def hear(_: Any) -> None:
        await in_thread(lambda: None)

    def call(tell: Notify) -> None:
        together.wait(30)
        tell(1)

    async def program() -> None:
        await asyncio.wait_for(
            asyncio.gather(*(in_thread_notifying(call, hear) for _ in range(MAX_THREADS))), 60
        )

    asyncio.run(program())


def test_an_event_loop_that_was_closed_ends_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was cancelled, nobody will ever wait: the threads are free again."""
    monkeypatch.setattr(_blocking, "POLL_SECONDS", 0.01)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # of the tasks that are dropped unfinished
    silent, heard, ended = loop.create_future(), threading.Event(), threading.Event()
    working = Endless(lambda: _blocking.checkpoint())

    def waiting(tell: Notify) -> None:
        try:
            tell(1)
        finally:
            ended.set()

    async def hear(_: Any) -> None:
        heard.set()
        await silent

    async def program() -> None:
        tasks.append(asyncio.create_task(in_thread(working)))
        tasks.append(asyncio.create_task(in_thread_notifying(waiting, hear)))
        assert await asyncio.to_thread(working.begun.wait, 30)
        assert await asyncio.to_thread(heard.wait, 30)

    tasks: list[asyncio.Task[None]] = []
    try:
        loop.run_until_complete(program())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert working.ended.wait(30) and ended.wait(30)
        assert isinstance(working.error, Stopped)
    finally:
        working.given_up.set()
        tasks.clear()
        gc.collect()


def test_nobody_complains_of_a_call_that_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocking, "STOP_SECONDS", 0.0)
    monkeypatch.setattr(_blocking, "_threads", threads := Threads())
    complaints: list[dict[str, Any]] = []
    begun, gate = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        gate.wait(30)
        raise LookupError

    async def program() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        work = asyncio.create_task(in_thread(call))
        await asyncio.to_thread(begun.wait, 30)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        del work
        gate.set()
        while threads._alive:  # until the call has ended
            await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(program())
    gc.collect()
    assert complaints == []
