"""The queue's objects and rules, one at a time."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pytest
from support.bucket_sim import Bucket, Machine, run_virtually

from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.documents import Manifest, ResultDocument
from gpu_worker_client.queue.keys import new_job_id
from gpu_worker_client.queue.lease import (
    LEASE_SECONDS,
    MAX_TRIES,
    Lease,
    LeaseLost,
    NotTaken,
    Taker,
)
from gpu_worker_client.queue.states import TRANSITIONS, QueueState, WrongState

ID = "20260122T100000000-0000000001"


class Scene:
    """A bucket with one job in it, and machines that do one thing at a time."""

    def __init__(self) -> None:
        self.bucket = Bucket()
        self.home = self.machine("home")

    def machine(self, name: str) -> Machine:
        return Machine(name, self.bucket, random.Random(name))

    async def submit(self, job_id: str = ID) -> None:
        await jobs.submit(self.home, Manifest(job_id=job_id), self.home.timing())

    async def take(self, worker: str) -> Lease | NotTaken:
        machine = self.machine(worker)
        return await Taker(machine, machine.timing(), worker).take(ID, f"{worker}.1")

    async def leased(self, worker: str) -> Lease:
        lease = await self.take(worker)
        assert isinstance(lease, Lease)
        return lease

    async def state(self) -> QueueState:
        found = await jobs.view(self.home, ID)
        assert found is not None
        return found.state

    async def wait(self, seconds: float) -> None:
        await self.home.timing().async_sleep(seconds)


def test_ids_are_in_order_of_time() -> None:
    times = [
        datetime(2026, 1, 22, 10, 0, second, micro, timezone.utc)
        for second, micro in ((0, 0), (0, 999_999), (1, 0), (59, 1_000))
    ]
    ids = [new_job_id(time, lambda: 0.5) for time in times]
    assert ids == sorted(ids) and ids[0] == "20260122T100000000-8000000000"


def test_the_manifest_of_the_first_design_is_read() -> None:
    manifest = Manifest.read(
        b'{"job_id": "abc-123", "video_id": 1, "status": "pending", "more": [1],'
        b' "created_at": "2026-01-22T10:00:00Z",'
        b' "parameters": {"sample_interval": 1, "confidence_threshold": 0.25}}'
    )
    assert manifest is not None
    assert manifest.inputs == {"input_url": "videos/abc-123.mp4"}
    assert manifest.params == {"frame_stride": 1, "confidence_threshold": 0.25}
    assert (manifest.task, manifest.video_id) == ("track", 1)


def test_a_foreign_object_is_no_document() -> None:
    for body in (b"", b"[]", b"\xff", b'{"job_id": "../etc"}', b'{"job_id": 5}'):
        assert Manifest.read(body) is None
        assert ResultDocument.read(body) is None


def test_from_submit_to_import() -> None:
    async def story() -> list[QueueState]:
        scene, seen = Scene(), []
        await scene.submit()
        seen.append(await scene.state())
        lease = await scene.leased("a")
        assert await scene.take("b") is NotTaken.busy
        seen.append(await scene.state())
        await lease.commit(ResultDocument(job_id=ID, frames_processed=5))
        assert await scene.take("b") is NotTaken.ended
        seen.append(await scene.state())
        await jobs.mark_imported(scene.home, ID, scene.home.timing())
        await jobs.mark_imported(scene.home, ID, scene.home.timing())
        seen.append(await scene.state())
        result = await jobs.read_result(scene.home, ID)
        assert result is not None and result.nonce == "a.1" and result.worker == "a"
        assert [view.state async for view in jobs.views(scene.home)] == seen[-1:]
        assert scene.bucket.keys("open/") == []
        return seen

    seen = run_virtually(story())
    assert [state.value for state in seen] == ["pending", "processing", "completed", "imported"]
    for now, wanted in zip(seen, seen[1:], strict=False):
        assert wanted in TRANSITIONS[now]


def test_a_worker_that_lost_its_lease_publishes_nothing() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.submit()
        first = await scene.leased("a")
        await scene.wait(LEASE_SECONDS + 2)
        assert await scene.state() is QueueState.pending
        second = await scene.leased("b")
        assert second.attempt == 2
        with pytest.raises(LeaseLost, match="claimed by another"):
            await first.commit(ResultDocument(job_id=ID))
        assert await scene.state() is QueueState.processing
        await second.commit(ResultDocument(job_id=ID))
        with pytest.raises(LeaseLost, match="ended by another"):
            await first.commit(ResultDocument(job_id=ID))

    run_virtually(story())


def test_three_workers_lost_are_enough() -> None:
    async def story() -> ResultDocument | None:
        scene = Scene()
        await scene.submit()
        for number in range(MAX_TRIES):
            await scene.leased(f"w{number}")
            await scene.wait(LEASE_SECONDS + 2)
        assert await scene.take("last") is NotTaken.ended
        return await jobs.read_result(scene.home, ID)

    result = run_virtually(story())
    assert result is not None and result.status is QueueState.failed
    assert result.error is not None and "3 workers were lost" in result.error.message


def test_a_shutdown_is_no_try() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.submit()
        for number in range(2 * MAX_TRIES):
            lease = await scene.leased(f"w{number}")
            await lease.release()
            assert await scene.state() is QueueState.pending
            await scene.wait(2)
        assert lease.attempt == 2 * MAX_TRIES

    run_virtually(story())


def test_a_cancel_ends_a_job_and_its_worker_sees_it_at_the_next_renewal() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.submit()
        lease = await scene.leased("a")
        await jobs.cancel(scene.home, ID, "c1", scene.home.timing())
        assert await scene.state() is QueueState.cancelled
        with pytest.raises(LeaseLost):
            await lease.renew()
        await jobs.cancel(scene.home, ID, "c2", scene.home.timing())  # it is, already

    run_virtually(story())


def test_what_has_ended_is_not_cancelled() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.submit()
        lease = await scene.leased("a")
        await lease.commit(ResultDocument(job_id=ID))
        with pytest.raises(WrongState, match="completed and cannot become cancelled"):
            await jobs.cancel(scene.home, ID, "c", scene.home.timing())

    run_virtually(story())


def test_an_entry_without_a_manifest_is_not_claimed() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.home.put(f"open/{ID}.json", b"")
        assert await scene.take("a") is NotTaken.busy
        assert scene.bucket.keys("claims/") == []

    run_virtually(story())


def test_submitted_again_it_is_the_same_job_and_not_another() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.submit()
        await scene.submit()
        with pytest.raises(ValueError, match="another job"):
            other = Manifest(job_id=ID, task="beat")
            await jobs.submit(scene.home, other, scene.home.timing())

    run_virtually(story())
