"""Blocking calls over one event loop: how short the way to the socket is, on which thread callbacks
run, and what a fork and the end of the interpreter do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from inspect import iscoroutine
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import requests
from support.hostile_endpoint import Conversation, HostileEndpoint, hostile_endpoint

import gpu_worker_client
from gpu_worker_client import Client, _portal
from gpu_worker_client.protocol import SelftestTask

MAX_HOPS, MAX_FILES = 8, 4
RUNNING, DONE = (
    {"id": "j", "status": "IN_PROGRESS"},
    {"id": "j", "status": "COMPLETED", "output": {"task": "track"}},
)


@pytest.fixture
def server() -> Iterator[HostileEndpoint]:
    with hostile_endpoint() as server:
        server.statuses = [RUNNING]
        yield server


def ours(frames: list[FrameType]) -> list[tuple[str, str]]:
    """File and name of those of our functions."""
    package = str(Path(gpu_worker_client.__file__).parent)
    codes = [frame.f_code for frame in frames]
    return [
        (Path(code.co_filename).name, code.co_name)
        for code in codes
        if code.co_filename.startswith(package)
    ]


def stack(frame: FrameType | None) -> list[FrameType]:
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def awaited(coroutine: Any) -> list[FrameType]:
    frames: list[FrameType] = []
    while iscoroutine(coroutine):
        frames.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return frames


def test_a_submit_is_few_hops_from_the_socket(
    server: HostileEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our functions that are at work when `requests` is called: on the caller's thread, on the
    event loop, on the thread that sends."""
    hops: list[tuple[str, str]] = []
    caller, send = threading.get_ident(), requests.Session.request

    def sent(session: Any, *args: Any, **kwargs: Any) -> Any:
        hops.extend(ours(stack(sys._current_frames()[caller])))
        for task in asyncio.all_tasks(_portal._portal._loop):
            hops.extend(ours(awaited(task.get_coro())))
        hops.extend(ours(stack(sys._getframe())))
        return send(session, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", sent)
    with Client("ep1", "key", server.url) as client:
        client.submit(SelftestTask())
    print(hops)
    assert {"client.py", "async_client.py", "_http.py"} <= {file for file, _ in hops}
    assert len(hops) <= MAX_HOPS
    assert len({file for file, _ in hops}) <= MAX_FILES


def test_a_task_is_serialised_once(
    server: HostileEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumped: list[str] = []
    for name in ("model_dump", "model_dump_json"):
        original = getattr(SelftestTask, name)

        def noted(
            self: Any, *args: Any, _name: str = name, _call: Any = original, **kw: Any
        ) -> Any:
            dumped.append(_name)
            return _call(self, *args, **kw)

        monkeypatch.setattr(SelftestTask, name, noted)
    with Client("ep1", "key", server.url) as client:
        client.submit(SelftestTask())
    assert dumped == ["model_dump"]


def test_callbacks_run_on_the_callers_thread_and_may_call_the_client(
    server: HostileEndpoint,
) -> None:
    server.statuses = [RUNNING, DONE]
    threads: set[threading.Thread] = set()

    def on_event(_: object) -> None:
        threads.add(threading.current_thread())
        client.health()

    with Client("ep1", "key", server.url) as client:
        client.job("j").wait()
        server.statuses = [RUNNING, DONE]
        with pytest.raises(gpu_worker_client.ResultUnreadable):
            client.run({"task": "detect_scenes", "input_url": "https://h/i"}, on_event=on_event)
    assert threads == {threading.current_thread()}


def test_the_tasks_of_a_map_may_call_the_client(server: HostileEndpoint) -> None:
    """They are made while jobs run, on a thread that may block."""
    server.statuses = [DONE]

    def tasks() -> Iterator[dict[str, str]]:
        for _ in range(3):
            client.health()
            yield {"task": "selftest"}

    with Client("ep1", "key", server.url) as client:
        assert len(list(client.map(tasks(), max_parallel=2))) == 3
    assert server.asked.count("health") == 3


def test_a_blocking_call_on_the_event_loop_itself_is_refused(server: HostileEndpoint) -> None:
    async def within(client: Client) -> None:
        client.health()

    with Client("ep1", "key", server.url) as client:
        with pytest.raises(RuntimeError, match="would wait for itself"):
            _portal.call(within, client)


def test_a_client_within_a_running_loop_as_in_a_notebook(server: HostileEndpoint) -> None:
    async def cell() -> dict[str, Any]:
        with Client("ep1", "key", server.url) as client:
            return client.health()

    assert asyncio.run(cell()) == {"jobs": {}, "workers": {}}


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_forked_processes_get_their_own_answers(server: HostileEndpoint) -> None:
    """A client in use before the fork, by four children and their parent at once: the children
    share neither its connections nor its event loop."""

    def own_answer(conversation: Conversation) -> None:
        job_id = conversation.path.rsplit("/", 1)[-1]
        conversation.say({"id": job_id, "status": "CANCELLED"})

    server.fault = own_answer
    program = """
import os, sys
from gpu_worker_client import Client
client = Client("e", "k", sys.argv[1])
client.job("before").status()
def ask(name):
    for number in range(20):
        job_id = f"{name}-{number}"
        assert client.job(job_id).status().raw["id"] == job_id
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        ask(f"child{child}")
        os._exit(7)
    children.append(pid)
ask("parent")
assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children} == {7}
"""
    done = python(program, server.url)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("left", ["a job's events", "a map", "a thread that waits"])
def test_the_interpreter_ends_whatever_was_left(server: HostileEndpoint, left: str) -> None:
    server.statuses = [RUNNING]
    program = """
import sys, threading
from gpu_worker_client import Client
client = Client("e", "k", sys.argv[1])
if sys.argv[2] == "a job's events":
    events = client.job("j").events()
    next(events)
elif sys.argv[2] == "a map":
    outcomes = client.map([{"task": "selftest"}, {"task": "unknown"}])
    next(outcomes)
else:
    threading.Thread(target=client.job("j").wait, daemon=True).start()
"""
    done = python(program, server.url, left)
    assert (done.returncode, done.stderr) == (0, "")
