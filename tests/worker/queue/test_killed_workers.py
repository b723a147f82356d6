"""Real processes on the strict gate, killed at any moment: each job is published whole and once."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.toy_worker import storage_of

from gpu_worker.devserver import LocalPlatform
from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.documents import Manifest, ResultDocument
from gpu_worker_client.queue.states import QueueState

JOBS, WORKERS = 200, 4
CLAIMS_A_KILL = 12
SCRIPT = Path(__file__).parents[2] / "support" / "toy_puller.py"
DEADLINE_SECONDS = 840.0
"""Under a load of 15 on two cores it takes 310."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_that_are_killed_lose_nothing() -> None:
    chance = random.Random(4)
    with LocalPlatform() as platform:
        gate, started = platform.gate, Counter[str]()
        ids = [f"job-{n:03d}" for n in range(JOBS)]
        for job_id in ids:  # as `jobs.submit` writes them
            gate.put(f"jobs/{job_id}.json", Manifest(job_id=job_id).to_bytes())
            gate.put(f"open/{job_id}.json", b"")
        env = {
            "PATH": os.environ["PATH"],
            "R2_ENDPOINT_URL": gate.base_url,
            "R2_BUCKET_NAME": gate.bucket,
            "R2_ACCESS_KEY_ID": gate.credentials.access_key,
            "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
        }

        def start() -> subprocess.Popen[bytes]:
            started["processes"] += 1
            name = f"w{started['processes']}"
            return subprocess.Popen([sys.executable, str(SCRIPT), name], env=env)

        workers = [start() for _ in range(WORKERS)]
        try:
            end, next_kill = time.monotonic() + DEADLINE_SECONDS, CLAIMS_A_KILL
            while (done := gate_count(platform, "results/")) < JOBS:
                assert time.monotonic() < end, f"{done} of {JOBS} done"
                time.sleep(0.05)
                if gate_count(platform, "claims/") < next_kill or next_kill > JOBS:
                    continue
                next_kill += CLAIMS_A_KILL
                victim = chance.randrange(WORKERS)
                workers[victim].kill()
                workers[victim].wait()
                workers[victim] = start()
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        check(platform, ids)
        assert started["processes"] > WORKERS + 5


def gate_count(platform: LocalPlatform, prefix: str) -> int:
    return sum(key.startswith(prefix) for key in platform.gate.keys())  # noqa: SIM118


def check(platform: LocalPlatform, ids: list[str]) -> None:
    gate = platform.gate
    created = Counter(seen.key for seen in gate.log if seen.method == "PUT" and seen.status == 200)
    for job_id in ids:
        key = f"results/{job_id}.json"
        result = ResultDocument.read(gate.read(key))
        assert result is not None and created[key] == 1
        if result.status is QueueState.completed:
            assert gate.read(result.output_key or "") == result.nonce.encode() * 1000
        else:
            assert result.error is not None and "workers were lost" in result.error.message
    store = BucketStore(storage_of(platform, prefix=""))
    states = asyncio.run(states_of(store))
    assert sorted(states) == ids


async def states_of(store: BucketStore) -> list[str]:
    return [view.job_id async for view in jobs.views(store) if view.state.is_final]
