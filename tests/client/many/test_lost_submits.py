"""A submit whose answer never came: `JobManager` finds its result or its job, or sends it again."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from support.crew import RESULT_1, Crew, done, scenes, submits

from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import Client, JobManager, SubmitInDoubt
from gpu_worker_client.many.state_file import SUBMITTING, Store
from gpu_worker_client.protocol import DetectScenesTask


def kept(platform: LocalPlatform, number: int) -> DetectScenesTask:
    gate, name = platform.gate, f"results/{number}.json"
    urls = {"result_url": gate.presign("PUT", name), "result_get_url": gate.presign("GET", name)}
    return scenes(number, idempotency_key=f"k{number}", **urls)


def in_doubt(state: Path, task: DetectScenesTask) -> None:
    """Leaves the state file as a kill between a submit and its answer does."""
    with closing(Store(state)) as store:
        store.add([("k", task, None)])
        row = store.next([])
        assert row is not None
        store.move(row, SUBMITTING, attempts=1)


def test_a_lost_submit_without_a_place_to_look_is_not_repeated(
    client: Client, platform: LocalPlatform, state: Path
) -> None:
    in_doubt(state, scenes(1))
    with JobManager(client, state=state) as jobs:
        (outcome,) = jobs.results()
    assert isinstance(outcome.error, SubmitInDoubt)
    assert submits(platform) == 0


def test_unless_the_caller_wants_it(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    in_doubt(state, scenes(1))
    with JobManager(client, state=state, in_doubt="resubmit") as jobs:
        (outcome,) = jobs.results()
    assert (outcome.ok, outcome.attempts, submits(platform)) == (True, 2, 1)


def test_the_result_of_a_lost_submit_is_found(
    client: Client, platform: LocalPlatform, state: Path
) -> None:
    in_doubt(state, kept(platform, 1))
    platform.gate.put("results/1.json", RESULT_1)
    with JobManager(client, state=state) as jobs:
        (outcome,) = jobs.results()
    assert (outcome.ok, outcome.job_id, submits(platform)) == (True, None, 0)


def test_a_lost_submit_that_never_arrived_is_sent(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    in_doubt(state, kept(platform, 1))
    with JobManager(client, state=state) as jobs:
        (outcome,) = jobs.results()
    assert (outcome.ok, submits(platform), len(crew.took)) == (True, 1, 1)


def test_a_lost_submit_that_still_runs_is_waited_for(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    task = kept(platform, 1)
    in_doubt(state, task)
    crew.hold.clear()
    client.submit(task)
    assert platform.wait_until(lambda: True if crew.took else None)

    def finish(task: dict[str, Any]) -> dict[str, Any]:
        platform.gate.put("results/1.json", RESULT_1)
        return done(task)

    crew.answer = finish
    with JobManager(client, state=state) as jobs:
        jobs.submit(task, key="k")
        assert platform.wait_until(lambda: True if _looks(platform) > 1 else None)
        crew.hold.set()
        (outcome,) = jobs.results()
    assert (outcome.ok, submits(platform), len(crew.took)) == (True, 1, 1)


def _looks(platform: LocalPlatform) -> int:
    return len([call for call in platform.control.log if call.path == "health"])


SENDER = """
import json, sys
from gpu_worker_client import Client, JobManager
with Client(*sys.argv[1:4]) as client, JobManager(client, state=sys.argv[4]) as jobs:
    jobs.submit(json.loads(sys.stdin.read()))
    jobs.wait()
"""


def test_a_kill_between_a_submit_and_its_answer(
    client: Client, crew: Crew, platform: LocalPlatform, state: Path
) -> None:
    platform.faults.add(Fault.slow_download(bytes_per_interval=1, interval_seconds=0.2, path="run"))
    task = kept(platform, 1)
    argv = [
        sys.executable,
        "-c",
        SENDER,
        platform.endpoint_id,
        platform.api_key,
        platform.base_url,
        str(state),
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, text=True) as sender:
        assert sender.stdin is not None
        sender.stdin.write(
            task.model_dump_json(exclude_unset=True).replace("{", '{"task": "detect_scenes", ', 1)
        )
        sender.stdin.close()
        assert platform.wait_until(lambda: True if crew.took else None)
        sender.kill()
    platform.gate.put("results/1.json", RESULT_1)
    with JobManager(client, state=state) as jobs:
        assert jobs.summary().in_doubt == 1
        (outcome,) = jobs.results()
    assert (outcome.ok, outcome.attempts, submits(platform), len(crew.took)) == (True, 1, 1, 1)


def test_a_submit_whose_answer_is_lost_holds_up_no_other(
    client: Client, crew: Crew, platform: LocalPlatform
) -> None:
    platform.faults.add(Fault.lose_response(path="run"))
    with JobManager(client, 1) as jobs:
        jobs.submit_all(scenes(n) for n in range(3))
        outcomes = list(jobs.results())
    assert [outcome.ok for outcome in outcomes] == [True, True, False]
    assert isinstance(outcomes[-1].error, SubmitInDoubt)
    assert submits(platform) == 3
