"""What only an event loop has: cancellation of tasks, many calls at once on few threads; and what
Ctrl-C does to a blocking call. That both clients otherwise behave alike is held by the tests that
take the `client` fixture."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.hostile_endpoint import Conversation, HostileEndpoint, hostile_endpoint
from support.scripted_server import FakeTime

from gpu_worker_client import AsyncClient, Client, Finished, Started, Timing, _portal
from gpu_worker_client._portal import MAX_THREADS, Threads

TASK = {"task": "selftest"}
QUEUED, RUNNING, CANCELLED = (
    {"id": "j", "status": status} for status in ("IN_QUEUE", "IN_PROGRESS", "CANCELLED")
)
DONE = {"id": "j", "status": "COMPLETED", "output": {"task": "track"}}


@pytest.fixture
def server() -> Iterator[HostileEndpoint]:
    with hostile_endpoint() as server:
        server.statuses = [RUNNING]
        yield server


def async_client(server: HostileEndpoint, timing: Timing | None = None) -> AsyncClient:
    return AsyncClient("ep1", "key", server.url, timing=timing or FakeTime().timing())


class Interrupted:
    """A submit that is interrupted while its answer is on the way: the answer comes once the flow
    is cleaning up."""

    def __init__(self, server: HostileEndpoint, interrupt: Callable[[], object]) -> None:
        self.time = FakeTime()
        self._struck = False
        self._cleaning_up = threading.Event()
        self._interrupt = interrupt
        server.fault, server.times = self._strike, 1

    def timing(self) -> Timing:
        return Timing(clock=self._clock, sleep=self.time.sleep, async_sleep=self.time.async_sleep)

    def _clock(self) -> float:
        if self._struck:
            self._cleaning_up.set()
        return self.time.seconds

    def _strike(self, conversation: Conversation) -> None:
        self._struck = True
        self._interrupt()
        assert self._cleaning_up.wait(10)
        conversation.say(QUEUED)


def test_ctrl_c_during_a_submit_cancels_the_job_it_queued(server: HostileEndpoint) -> None:
    scene = Interrupted(server, lambda: os.kill(os.getpid(), signal.SIGINT))
    with (
        Client("ep1", "key", server.url, timing=scene.timing()) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        client.submit(TASK)
    assert server.asked == ["run", "cancel"]


def test_ctrl_c_just_when_a_submit_begins_cancels_the_job_too(
    server: HostileEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is on its way to the event loop, and the caller does not wait for it yet."""
    loop, asked = _portal._portal.loop(), threading.Event()
    begin = loop.call_soon_threadsafe

    def interrupted(*arguments: Any) -> Any:
        begun = begin(*arguments)
        if not asked.is_set():
            assert asked.wait(30)
            raise KeyboardInterrupt
        return begun

    def answer(conversation: Conversation) -> None:
        asked.set()
        conversation.say(QUEUED)

    server.fault, server.times = answer, 1
    with Client("ep1", "key", server.url) as client, pytest.raises(KeyboardInterrupt):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", interrupted)
            client.submit(TASK)
    assert server.asked == ["run", "cancel"]


def test_a_task_cancelled_during_a_submit_cancels_the_job_it_queued(
    server: HostileEndpoint,
) -> None:
    async def program() -> None:
        loop = asyncio.get_running_loop()
        scene = Interrupted(server, lambda: loop.call_soon_threadsafe(submitting.cancel))
        async with async_client(server, scene.timing()) as client:
            submitting = asyncio.create_task(client.submit(TASK))
            with pytest.raises(asyncio.CancelledError):
                await submitting

    asyncio.run(program())
    assert server.asked == ["run", "cancel"]


def test_ctrl_c_while_waiting_cancels_the_job(server: HostileEndpoint) -> None:
    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    with (
        Client("ep1", "key", server.url, timing=Timing(sleep=ctrl_c)) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        client.run(TASK)
    assert server.asked == ["run", "status", "cancel"]


@pytest.mark.parametrize("within", ["run", "async with"])
def test_a_cancelled_task_cancels_the_job(server: HostileEndpoint, within: str) -> None:
    async def wait_for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def program() -> None:
        async with async_client(server, Timing(async_sleep=wait_for_ever)) as client:
            if within == "run":
                await client.run(TASK)
            async with await client.submit(TASK) as job:
                await job.wait()

    async def outer() -> None:
        nonlocal waiting
        waiting = asyncio.Event()
        task = asyncio.create_task(program())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    waiting: Any = None
    asyncio.run(outer())
    assert server.asked == ["run", "status", "cancel"]


def test_a_coroutine_function_hears_the_events_and_may_end_the_run(server: HostileEndpoint) -> None:
    heard: list[str] = []

    async def hear(event: object) -> None:
        await asyncio.sleep(0)
        heard.append(type(event).__name__)
        if isinstance(event, Started):
            raise LookupError

    async def program() -> None:
        async with async_client(server) as client:
            await client.run(TASK, on_event=hear)

    server.statuses = [QUEUED, RUNNING]
    with pytest.raises(LookupError):
        asyncio.run(program())
    assert heard == ["Queued", "Started"]
    assert server.asked[-1] == "cancel"


def test_many_calls_are_in_flight_at_once(server: HostileEndpoint) -> None:
    together = threading.Barrier(MAX_THREADS)

    def wait_for_the_others(conversation: Conversation) -> None:
        together.wait(30)  # broken, and the test with it, when they come one after another
        conversation.say(DONE)

    async def program() -> None:
        async with async_client(server) as client:
            await asyncio.gather(*(client.job("j").wait() for _ in range(2 * MAX_THREADS)))

    server.fault = wait_for_the_others
    before = set(threading.enumerate())
    asyncio.run(program())
    assert server.asked == ["status"] * 2 * MAX_THREADS
    ours = [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name == "gpu-worker-client"
    ]
    assert len(ours) <= MAX_THREADS


def test_the_events_of_an_async_job(server: HostileEndpoint) -> None:
    async def program() -> list[Any]:
        async with async_client(server) as client:
            return [event async for event in client.job("j").events()]

    server.statuses = [RUNNING, DONE]
    told = asyncio.run(program())
    assert [type(event) for event in told] == [Started, Finished]


def test_a_client_lives_on_from_one_loop_to_the_next(server: HostileEndpoint) -> None:
    client = async_client(server)
    for _ in range(2):
        assert asyncio.run(client.health()) == {"jobs": {}, "workers": {}}
    asyncio.run(client.aclose())


def test_a_call_that_has_not_begun_can_be_taken_back() -> None:
    threads, gate = Threads(), threading.Event()
    busy = [threads.start(gate.wait) for _ in range(MAX_THREADS)]
    begun: list[int] = []
    late = threads.start(lambda: begun.append(1))
    assert late.cancel()
    gate.set()
    assert all(one.result(10) for one in busy)
    assert threads.start(lambda: 5).result(10) == 5
    assert begun == []


def test_a_forked_process_starts_threads_of_its_own() -> None:
    """The child has none of its parent's, whatever their count says. In a process of its own, as
    pytest's has threads."""
    program = """
import os
from gpu_worker_client._portal import Threads
threads = Threads()
assert threads.start(lambda: 1).result(30) == 1
child = os.fork()
if child == 0:
    os._exit(threads.start(lambda: 7).result(30))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 7


def test_a_job_is_cancelled_though_whoever_cancels_it_is_cancelled_too(
    server: HostileEndpoint,
) -> None:
    """A second cancel, while the first one's request has not begun: it goes out all the same. A
    look would be taken back."""

    async def program() -> None:
        async with async_client(server) as client:
            threads, gate = client.connection.http.threads, threading.Event()
            busy = [threads.start(gate.wait) for _ in range(MAX_THREADS)]
            calls = [
                asyncio.create_task(client.job("j").cancel()),
                asyncio.create_task(client.job("j").status()),
            ]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            for call in calls:
                with pytest.raises(asyncio.CancelledError):
                    await call
            await asyncio.sleep(0)  # what is taken back is so now
            gate.set()
            assert all(one.result(10) for one in busy)
            await client.health()

    server.statuses = [RUNNING]
    asyncio.run(program())
    assert sorted(server.asked) == ["cancel", "health"]
