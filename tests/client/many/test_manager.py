"""`JobManager` against the local platform over HTTP, the worker played by a thread: many jobs,
retries, crashes."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.crew import Crew, done, failed, scenes, submits

from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import (
    AuthenticationError,
    Client,
    ConfigError,
    InvalidTask,
    JobCancelled,
    JobExpired,
    JobManager,
    OutOfMemory,
    Policy,
    UnsupportedMedia,
)
from gpu_worker_client.many.state_file import Store
from gpu_worker_client.protocol import BeatTask, DetectScenesTask, ErrorCode


@pytest.mark.parametrize("said", ["argument", "variable"])
def test_all_are_done_and_no_more_at_once_than_allowed(
    client: Client, crew: Crew, platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("MAX_PARALLEL_JOBS", "3" if said == "variable" else "5")
    crew.hold.clear()
    with JobManager(client, max_parallel=3 if said == "argument" else None) as jobs:
        assert jobs.submit_all(scenes(n) for n in range(20)) == 20
        assert platform.wait_until(lambda: True if len(crew.took) == 3 else None)
        summary = jobs.summary()
        assert summary.running + summary.waiting == 20
        assert len(platform.control.hub.queue.jobs) == 3
        crew.hold.set()
        outcomes = list(jobs.results())
        assert sorted(outcome.index for outcome in outcomes) == list(range(20))
        assert all(outcome.ok and outcome.get().task == "detect_scenes" for outcome in outcomes)
        assert jobs.summary().completed == jobs.summary().attempts == 20
        assert [outcome.key for outcome in jobs.results()] == [outcome.key for outcome in outcomes]
    assert submits(platform) == 20


def test_one_failure_ends_its_own_job_alone(client: Client, crew: Crew) -> None:
    crew.answer = lambda task: (
        failed(ErrorCode.not_media) if "/1.mp4" in task["input_url"] else done(task)
    )
    with JobManager(client) as jobs:
        jobs.submit_all(scenes(n) for n in range(3))
        found = {outcome.index: outcome for outcome in jobs.results()}
        assert [found[n].ok for n in range(3)] == [True, False, True]
        assert isinstance(found[1].error, UnsupportedMedia)
        assert (found[1].attempts, jobs.summary().failed) == (1, 1)


@pytest.mark.parametrize(("failures", "ok", "attempts"), [(2, True, 3), (3, False, 3)])
def test_what_may_pass_is_tried_again(
    client: Client, crew: Crew, failures: int, ok: bool, attempts: int
) -> None:
    crew.answer = lambda task: (
        failed(ErrorCode.gpu_oom) if len(crew.took) <= failures else done(task)
    )
    with JobManager(client, retries=2) as jobs:
        jobs.submit(scenes(1))
        (outcome,) = jobs.results()
    assert (outcome.ok, outcome.attempts) == (ok, attempts)
    assert ok or isinstance(outcome.error, OutOfMemory)


def test_a_task_is_refused_before_it_is_written(client: Client) -> None:
    with JobManager(client) as jobs:
        with pytest.raises(InvalidTask, match="treshold"):
            jobs.submit(
                {"task": "detect_scenes", "input_url": "https://h/a", "params": {"treshold": 3}}
            )
        assert jobs.summary().total == 0
        assert list(jobs.results()) == []


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"executionTimeout": 60_000}, "must be a Policy"),
        (Policy(execution_timeout_seconds=1), "must be 5 to"),
    ],
)
def test_a_policy_that_is_none_is_refused_before_it_is_written(
    client: Client, policy: Any, said: str
) -> None:
    with JobManager(client) as jobs:
        with pytest.raises(ConfigError, match=said):
            jobs.submit({"task": "selftest"}, policy=policy)
        assert jobs.summary().waiting == 0


def test_a_task_signed_anew_is_the_same_job(
    client: Client, crew: Crew, platform: LocalPlatform
) -> None:
    with JobManager(client) as jobs:
        first = jobs.submit(scenes(1))
        again = jobs.submit(DetectScenesTask(input_url="https://h/1.mp4?X-Amz-Signature=OTHER"))
        other = jobs.submit(
            DetectScenesTask(input_url="https://h/1.mp4", params={"threshold": 31.0})
        )  # type: ignore[arg-type]
        assert first == again != other
        assert jobs.submit(scenes(1), key="mine") == "mine"
        assert len(list(jobs.results())) == 3
        with pytest.raises(ConfigError, match="another kind|key is known"):
            jobs.submit(BeatTask(input_url="https://h/1.mp3"), key="mine")
    assert submits(platform) == 3


def test_the_next_manager_takes_up_what_runs(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    crew.hold.clear()
    with JobManager(client, 2, state) as jobs:
        jobs.submit_all(scenes(n) for n in range(5))
        assert platform.wait_until(lambda: True if len(crew.took) == 2 else None)
    assert all(
        job.status.value == "IN_PROGRESS" for job in platform.control.hub.queue.jobs.values()
    )
    crew.hold.set()
    with JobManager(client, 2, state) as jobs:
        jobs.submit_all(scenes(n) for n in range(5))
        assert sorted((outcome.index, outcome.ok) for outcome in jobs.results()) == [
            (n, True) for n in range(5)
        ]
    assert submits(platform) == 5
    with JobManager(client, 2, state) as jobs:
        assert len(list(jobs.results())) == 5
    assert submits(platform) == 5


def test_errors_come_back_from_the_file_as_they_were(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    crew.answer = lambda task: failed(ErrorCode.gpu_oom)
    with JobManager(client, state=state, retries=0) as jobs:
        jobs.submit(scenes(1))
        (first,) = jobs.results()
    with JobManager(client, state=state) as jobs:
        (again,) = jobs.results()
    assert first.error is not None and again.error is not None
    assert (type(again.error), str(again.error)) == (type(first.error), str(first.error))
    assert (again.key, again.job_id, again.attempts) == (first.key, first.job_id, 1)


def test_a_job_the_endpoint_forgot_is_not_run_again(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    crew.hold.clear()
    with JobManager(client, state=state) as jobs:
        jobs.submit(scenes(1))
        assert platform.wait_until(lambda: True if crew.took else None)
    platform.control.hub.queue.jobs.clear()
    with JobManager(client, state=state) as jobs:
        (outcome,) = jobs.results()
    assert isinstance(outcome.error, JobExpired)
    assert submits(platform) == 1


def test_an_endpoint_that_refuses_us_ends_the_run_and_loses_nothing(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    with (
        Client(platform.endpoint_id, "wrong", platform.base_url) as stranger,
        JobManager(stranger, state=state) as jobs,
    ):
        jobs.submit(scenes(1))
        with pytest.raises(AuthenticationError):
            list(jobs.results())
        assert (jobs.summary().waiting, jobs.summary().attempts) == (1, 0)
    with JobManager(client, state=state) as jobs:
        assert [outcome.ok for outcome in jobs.results()] == [True]


def test_an_outage_of_the_endpoint_does_not_use_up_the_jobs(
    client: Client, platform: LocalPlatform
) -> None:
    platform.faults.add(Fault.status(503, path="run", times=None))
    with JobManager(client, 1) as jobs:
        jobs.submit_all(scenes(n) for n in range(20))
        with pytest.raises(Exception, match="503"):
            list(jobs.results())
        assert jobs.summary().waiting == 14


def test_the_platforms_limit_on_requests_is_waited_out(
    client: Client, crew: Crew, platform: LocalPlatform
) -> None:
    limited = platform.faults.add(
        Fault.status(429, path="run", times=8, headers={"Retry-After": "1"})
    )
    with JobManager(client, 2) as jobs:
        jobs.submit_all(scenes(n) for n in range(3))
        assert [outcome.ok for outcome in jobs.results()] == [True] * 3
    assert limited.hits == 8


def test_leaving_by_an_exception_cancels_what_nobody_could_take_up(
    client: Client, crew: Crew, platform: LocalPlatform
) -> None:
    crew.hold.clear()
    with pytest.raises(KeyboardInterrupt), JobManager(client, 2) as jobs:
        jobs.submit_all(scenes(n) for n in range(5))
        assert platform.wait_until(lambda: True if len(crew.took) == 2 else None)
        raise KeyboardInterrupt
    assert [job.status.value for job in platform.control.hub.queue.jobs.values()] == [
        "CANCELLED"
    ] * 2


@pytest.mark.parametrize("ends_as", ["CANCELLED", "IN_PROGRESS"])
def test_ctrl_c_while_results_are_waited_for(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path, ends_as: str
) -> None:
    crew.hold.clear()

    def interrupt() -> None:
        platform.wait_until(lambda: True if len(crew.took) == 2 else None)
        os.kill(os.getpid(), signal.SIGINT)

    keeps = state if ends_as == "IN_PROGRESS" else None
    with pytest.raises(KeyboardInterrupt), JobManager(client, 2, keeps) as jobs:
        jobs.submit_all(scenes(n) for n in range(5))
        threading.Thread(target=interrupt).start()
        list(jobs.results())
    assert [job.status.value for job in platform.control.hub.queue.jobs.values()] == [ends_as] * 2


FORKING = """
import os, sys
from gpu_worker_client import Client, JobManager
endpoint, key, url, state = sys.argv[1:]
with Client(endpoint, key, url) as client:
    child = None
    with JobManager(client, 1, state) as jobs:
        jobs.submit({"task": "detect_scenes", "input_url": "https://h/1.mp4"})
        child = os.fork()
        if child != 0:
            assert os.waitpid(child, 0)[1] == 0
            assert jobs.wait().completed == 1
    if child == 0:
        with JobManager(client) as jobs:
            jobs.submit({"task": "detect_scenes", "input_url": "https://h/2.mp4"})
            os._exit(jobs.wait().completed != 1)
"""


def test_a_forked_process_leaves_its_parents_jobs_alone_and_may_run_its_own(
    crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    access = [platform.endpoint_id, platform.api_key, platform.base_url]
    subprocess.run([sys.executable, "-c", FORKING, *access, str(state)], timeout=60, check=True)
    assert len(crew.took) == 2
    with closing(Store(state)) as store:
        assert store.summary().completed == store.summary().total == 1


def test_cancel_ends_every_job(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    crew.hold.clear()
    with JobManager(client, 2, state) as jobs:
        jobs.submit_all(scenes(n) for n in range(5))
        assert platform.wait_until(lambda: True if len(crew.took) == 2 else None)
        jobs.cancel()
        outcomes = list(jobs.results())
    assert len(outcomes) == 5 and all(
        isinstance(outcome.error, JobCancelled) for outcome in outcomes
    )
    assert [job.status.value for job in platform.control.hub.queue.jobs.values()] == [
        "CANCELLED"
    ] * 2


def test_the_file_is_the_owners_and_forgets_signatures(
    client: Client, crew: Crew, state: Path
) -> None:
    with JobManager(client, state=state) as jobs:
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        jobs.submit_all(scenes(n) for n in range(3))
        with pytest.raises(ConfigError, match="another process"):
            JobManager(client, state=state)
        assert jobs.wait().completed == 3
    assert b"CANARY" not in state.read_bytes()
    assert sorted(path.name for path in state.parent.iterdir()) == [state.name]


def test_files_that_are_none(client: Client, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database, but long enough to be looked at as one " * 20)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE other (a)")
    db.close()
    for path in (text, foreign, tmp_path / "no" / "folder.sqlite", tmp_path):
        with pytest.raises(ConfigError, match="state file|no state"):
            JobManager(client, state=path)


@pytest.mark.parametrize("arguments", [{"max_parallel": 0}, {"retries": -1}])
def test_numbers_out_of_range(client: Client, arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        JobManager(client, **arguments)  # type: ignore[arg-type]
