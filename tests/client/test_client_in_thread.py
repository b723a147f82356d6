"""Calls in a thread beside an event loop: a cancelled asyncio task ends them, wherever they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import clips
import pytest

from gpu_worker_client import _in_thread
from gpu_worker_client._in_thread import Stopped, checkpoint, in_thread
from gpu_worker_client._threads import MAX_THREADS
from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_client.split import SplitPlan, plan_split
from gpu_worker_client.split.check import check_output
from gpu_worker_client.split.cut import cut_segments
from gpu_worker_client.split.join import join, read_piece
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
    """A call made over and over, that ends when it is stopped; or by the test, when that does not work."""

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
    spec = clips.Clip(frames=60, options=(("crf", "20"), ("preset", "medium"), ("g", "12")), audio_seconds=2.4)
    return plan_split(clips.make(tmp_path_factory.mktemp("film") / "in.mp4", spec), UpscaleParams(model="lite"), segments=3)


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


@pytest.mark.parametrize("name", ["read", "cut", "look", "join", "check"])
def test_a_cancel_ends_every_step_of_a_split(name: str, plan: SplitPlan, tmp_path: Path) -> None:
    call = Endless(dict(steps(plan, tmp_path))[name])
    try:
        asyncio.run(call.cancelled())
        assert call.ended.is_set(), "it was waited for"
        assert isinstance(call.error, Stopped)
    finally:
        call.given_up.set()


def test_a_call_that_comes_to_no_checkpoint_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_in_thread, "STOP_SECONDS", 0.05)
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
