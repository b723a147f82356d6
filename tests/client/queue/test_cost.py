"""What a worker asks of the bucket, counted: R2 bills writes and lists (class A), and reads (class
B) at a twelfth."""

from __future__ import annotations

import asyncio
import random

from support.bucket_sim import Bucket, Machine, run_virtually

from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.documents import Manifest
from gpu_worker_client.queue.finder import LIST_SECONDS, POLL_SECONDS, Finder
from gpu_worker_client.queue.lease import Lease, Taker

DAY_SECONDS = 86_400.0
CLASS_A_A_MONTH = 20_000


def finder_of(bucket: Bucket) -> tuple[Machine, Finder]:
    machine = Machine("w", bucket, random.Random(1))
    return machine, Finder(Taker(machine, machine.timing(), "w"))


def test_an_idle_worker_costs_little() -> None:
    bucket = Bucket()

    async def idle() -> None:
        _, finder = finder_of(bucket)
        end = asyncio.get_running_loop().time() + DAY_SECONDS
        while asyncio.get_running_loop().time() < end:
            assert await finder.poll() is None
            await asyncio.sleep(finder.pause_seconds())

    run_virtually(idle())
    class_a = 30 * (bucket.requests["put"] + bucket.requests["list"])
    class_b = 30 * (bucket.requests["get"] + bucket.requests["head"])
    assert 0.9 * 30 * DAY_SECONDS / LIST_SECONDS < class_a < CLASS_A_A_MONTH
    assert class_b < 300_000


def test_a_submit_wakes_an_idle_worker() -> None:
    async def story() -> float:
        bucket = Bucket()
        machine, finder = finder_of(bucket)
        loop = asyncio.get_running_loop()
        for _ in range(20):
            await finder.poll()
            await asyncio.sleep(finder.pause_seconds())
        await jobs.submit(machine, Manifest(job_id="a"), machine.timing())
        lists, start = bucket.requests["list"], loop.time()
        while not isinstance(await finder.poll(), Lease):
            await asyncio.sleep(finder.pause_seconds())
        assert bucket.requests["list"] <= lists + 2
        return loop.time() - start

    assert run_virtually(story()) < 8 * POLL_SECONDS


def test_a_job_costs_a_handful_of_writes() -> None:
    async def story() -> tuple[int, int]:
        bucket = Bucket()
        machine, finder = finder_of(bucket)
        await jobs.submit(machine, Manifest(job_id="a"), machine.timing())
        submitted = bucket.requests["put"]
        lease = await finder.poll()
        assert isinstance(lease, Lease)
        return submitted, bucket.requests["put"] - submitted

    assert run_virtually(story()) == (3, 2)
