"""Five hundred jobs through `JobManager` and four real workers: all done, memory flat, and a
client killed halfway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import Client, JobManager

JOBS, WORKERS = 500, 4
KILL_AFTER = JOBS // 2
ALLOWED_GROWTH_KB = 8 * 1024
"""Of the client's memory from the hundredth job to the last. Results kept in memory would be some
20 kB a job, 8 MB in all."""

CLIENT = """
import json, resource, sys
from gpu_worker_client import Client, JobManager
state, tasks = sys.argv[1:]
with (
    Client() as client,
    JobManager(client, max_parallel=16, state=state) as jobs,
    open(tasks, "rb") as lines,
):
    jobs.submit_all(lines)
    for count, outcome in enumerate(jobs.results(), 1):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([count, outcome.ok, peak, outcome.key]), flush=True)
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    root = tmp_path_factory.mktemp("many")
    with LocalPlatform(data_dir=root / "platform") as platform:
        extra = {"GPU_WORKER_WORK_ROOT": str(root / "work"), "OMP_NUM_THREADS": "1"}
        for worker in [platform.start_worker(extra) for _ in range(WORKERS)]:
            platform.wait_ready(worker, 240)
        yield platform


def tasks(platform: LocalPlatform, file: Path) -> Path:
    """A selftest each, with a place for its result: by it a lost submit is found again."""
    gate = platform.gate

    def task(number: int) -> dict[str, Any]:
        name = f"results/{number}.json"
        urls = {
            "result_url": gate.presign("PUT", name),
            "result_get_url": gate.presign("GET", name),
        }
        return {"task": "selftest", "idempotency_key": f"job-{number}", **urls}

    file.write_text("".join(json.dumps(task(number)) + "\n" for number in range(JOBS)))
    return file


def start(platform: LocalPlatform, state: Path, lines: Path) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "GPU_WORKER_ENDPOINT_ID": platform.endpoint_id,
        "RUNPOD_API_KEY": platform.api_key,
        "GPU_WORKER_BASE_URL": platform.base_url,
    }
    argv = [sys.executable, "-c", CLIENT, str(state), str(lines)]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_hundred_jobs_and_a_kill_halfway(platform: LocalPlatform, tmp_path: Path) -> None:
    state, lines = tmp_path / "jobs.sqlite", tasks(platform, tmp_path / "tasks.jsonl")
    first = start(platform, state, lines)
    assert first.stdout is not None
    for _ in range(KILL_AFTER):
        assert json.loads(first.stdout.readline())[1]
    first.send_signal(signal.SIGKILL)
    first.communicate()

    second = start(platform, state, lines)
    told = [json.loads(line) for line in second.communicate(timeout=600)[0].splitlines()]
    assert second.returncode == 0
    assert len(told) == JOBS and all(ok for _, ok, _, _ in told)
    assert {key for *_, key in told} == {f"job-{number}" for number in range(JOBS)}

    jobs = list(platform.control.hub.queue.jobs.values())
    ran = Counter(
        job.input["idempotency_key"] for job in jobs if not job.answer["output"]["deduplicated"]
    )
    assert set(ran.values()) == {1} and len(ran) == JOBS
    assert all(job.deliveries == 1 for job in jobs)

    peaks = [peak for _, _, peak, _ in told]
    print(
        f"{len(jobs)} jobs at the endpoint; peak RSS {peaks[99]} kB at job 100, {peaks[-1]} kB at"
        f" job {JOBS}"
    )
    assert peaks[-1] - peaks[99] < ALLOWED_GROWTH_KB

    with (
        Client(platform.endpoint_id, platform.api_key, platform.base_url) as client,
        JobManager(client, state=state) as manager,
    ):
        assert manager.summary().completed == manager.summary().total == JOBS
