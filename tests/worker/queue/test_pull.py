"""What the worker's loop makes of a job: given back, given up, published; and when it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.bucket_sim import Bucket, Machine, run_virtually

from gpu_worker.queue.command import NOTHING_TO_DO, exit_code
from gpu_worker.queue.pull import Perform, Puller, Tally, failed
from gpu_worker_client import StorageError
from gpu_worker_client.protocol.errors import ErrorBody
from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.documents import Manifest, ResultDocument
from gpu_worker_client.queue.finder import POLL_SECONDS, Finder
from gpu_worker_client.queue.keys import manifest_key, open_key
from gpu_worker_client.queue.lease import LEASE_SECONDS, MAX_TRIES, RENEW_SECONDS, Lease, Taker
from gpu_worker_client.queue.states import QueueState

ID = "job"


class Scene:
    """A bucket with one job, a submitter and a worker."""

    def __init__(self, perform: Perform) -> None:
        self.bucket = Bucket()
        self.home, self.worker = (Machine(n, self.bucket, random.Random(n)) for n in ("h", "w"))
        taker = Taker(self.worker, self.worker.timing(), "w")
        self.puller = Puller(taker, Finder(taker), perform)
        self.cancelled_at: list[float] = []

    async def submit(self) -> None:
        await jobs.submit(self.home, Manifest(job_id=ID, video_id=7), self.home.timing())

    async def state(self) -> QueueState:
        found = await jobs.view(self.home, ID)
        assert found is not None
        return found.state

    async def result(self) -> ResultDocument:
        found = await jobs.read_result(self.home, ID)
        assert found is not None
        return found


async def done(lease: Lease, manifest: Manifest) -> ResultDocument:
    await asyncio.sleep(30)
    return ResultDocument(job_id=manifest.job_id, frames_processed=5)


async def endless(lease: Lease, _: Manifest) -> ResultDocument:
    await asyncio.sleep(1e6)
    raise AssertionError("the worker let it run on")


def failing(retryable: bool) -> Perform:
    async def perform(lease: Lease, _: Manifest) -> ResultDocument:
        error = ErrorBody(code="some_code", message=f"try {lease.attempt}", retryable=retryable)
        return failed(lease.job_id, error)

    return perform


def played(perform: Perform, story: Callable[[Scene], Any]) -> Scene:
    async def play() -> Scene:
        scene = Scene(perform)
        await scene.submit()
        await story(scene)
        return scene

    return run_virtually(play())


def test_one_job_and_out() -> None:
    async def story(scene: Scene) -> None:
        assert await scene.puller.run(once=True) == Tally(completed=1, attempts=1)
        result = await scene.result()
        assert (result.video_id, result.frames_processed) == (7, 5)
        assert result.completed_at is not None
        view = await jobs.view(scene.home, ID)
        assert view is not None and view.status is not None
        assert (view.status.final, view.status.current) == (QueueState.completed, 5)
        assert await scene.puller.run(once=True) == Tally(completed=1, attempts=1)

    played(done, story)


def test_a_stop_gives_the_job_back_at_once() -> None:
    async def story(scene: Scene) -> None:
        running = asyncio.create_task(scene.puller.run())
        await asyncio.sleep(100)
        assert await scene.state() is QueueState.processing
        scene.puller.stop.set()
        tally = await asyncio.wait_for(running, 5)
        assert tally.was_stopped and await scene.state() is QueueState.pending
        view = await jobs.view(scene.home, ID)
        assert view is not None and view.lease is not None and view.lease.tries == 0

    played(endless, story)


def test_another_takes_over_within_a_lease_and_a_poll() -> None:
    async def story(scene: Scene) -> None:
        running = asyncio.create_task(scene.puller.run())
        await asyncio.sleep(100)
        scene.worker.is_gone = True
        lost_at = asyncio.get_running_loop().time()
        other = Machine("other", scene.bucket, random.Random(2))
        taker = Taker(other, other.timing(), "other")
        second = asyncio.create_task(Puller(taker, Finder(taker), done).run(idle_exit_seconds=300))
        while not any(write.key == "claims/job/2" for write in scene.bucket.writes):
            await asyncio.sleep(1)
        taken_after = asyncio.get_running_loop().time() - lost_at
        assert taken_after < LEASE_SECONDS + 1.25 * POLL_SECONDS + 3
        assert (await second).completed == 1
        await asyncio.gather(running, return_exceptions=True)

    played(endless, story)


def test_a_cancel_ends_the_work_within_one_renewal() -> None:
    async def story(scene: Scene) -> None:
        running = asyncio.create_task(scene.puller.run(once=True))
        await asyncio.sleep(100)
        await jobs.cancel(scene.home, ID, "c", scene.home.timing())
        tally = await asyncio.wait_for(running, RENEW_SECONDS + 5)
        assert tally == Tally(attempts=1)
        assert await scene.state() is QueueState.cancelled

    played(endless, story)


def test_a_failure_that_may_pass_is_tried_three_times() -> None:
    async def story(scene: Scene) -> None:
        tally = await scene.puller.run(idle_exit_seconds=300)
        assert tally.attempts == MAX_TRIES
        result = await scene.result()
        assert result.status is QueueState.failed
        assert result.error is not None and result.error.message == "try 3"
        assert scene.bucket.keys("open/") == []

    played(failing(retryable=True), story)


def test_a_broken_machine_leaves_the_queue_to_others() -> None:
    async def story(scene: Scene) -> None:
        for number in range(5):
            manifest = Manifest(job_id=f"job-{number}")
            await jobs.submit(scene.home, manifest, scene.home.timing())
            await asyncio.sleep(2)
        tally = await scene.puller.run(idle_exit_seconds=300)
        assert tally.is_broken and tally.attempts <= 5 and exit_code(tally) == 1
        assert scene.bucket.keys("results/") == []

    played(failing(retryable=True), story)


def test_a_failure_that_stays_ends_the_job() -> None:
    async def story(scene: Scene) -> None:
        assert await scene.puller.run(once=True) == Tally(failed=1, attempts=1)
        result = await scene.result()
        assert result.error is not None and result.error.message == "try 1"

    played(failing(retryable=False), story)


def test_a_manifest_that_is_none_fails() -> None:
    async def story(scene: Scene) -> None:
        await scene.home.put(manifest_key("broken"), b'{"job_id": 5}')
        await scene.home.put(open_key("broken"), b"")
        await scene.puller.run(idle_exit_seconds=1)
        result = await jobs.read_result(scene.home, "broken")
        assert result is not None and result.error is not None
        assert result.error.code == "invalid_task"

    played(done, story)


def test_a_bucket_that_refuses_ends_the_worker() -> None:
    async def story(scene: Scene) -> None:
        async def denied(key: str) -> None:
            raise StorageError("the key pair", code="denied", retryable=False)

        scene.worker.head = denied  # type: ignore[method-assign]
        with pytest.raises(StorageError, match="key pair"):
            await scene.puller.run()

    played(done, story)


def test_a_bucket_in_trouble_is_asked_again() -> None:
    async def story(scene: Scene) -> None:
        head, failures = scene.worker.head, iter(range(5))

        async def busy(key: str) -> Any:
            if next(failures, None) is not None:
                raise StorageError("503", code="unavailable", retryable=True)
            return await head(key)

        scene.worker.head = busy  # type: ignore[method-assign]
        assert (await scene.puller.run(idle_exit_seconds=200)).completed == 1

    played(done, story)


def test_exit_codes() -> None:
    assert exit_code(Tally()) == NOTHING_TO_DO
    assert exit_code(Tally(was_stopped=True)) == 0
    assert exit_code(Tally(completed=2, attempts=2)) == 0
    assert exit_code(Tally(attempts=1)) == 0  # given back, or another's
    assert exit_code(Tally(completed=2, failed=1, attempts=3)) == 1
