"""Path in, path out, awaited: over real HTTP, as in test_files.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.toy_worker import ToyWorker, inputs_in, storage_of

from gpu_worker.devserver import LocalPlatform
from gpu_worker_client import AsyncClient, JobError, Queued, Transfer
from gpu_worker_client.protocol import ErrorCode, TaskError


def test_awaited(
    async_client: AsyncClient, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    told: list[Any] = []

    async def listen(event: object) -> None:
        told.append(event)

    async def both() -> None:
        async with async_client:
            out = clip.with_name("out.mp4")
            scenes, big = await asyncio.gather(
                async_client.detect_scenes(clip), async_client.upscale(clip, out, on_event=listen)
            )
            assert (scenes.stats.total_scenes, big.stats.tiles) == (0, 1)

    worker.serve(2)
    asyncio.run(both())
    assert clip.with_name("out.mp4").read_bytes() == clip.read_bytes()[::-1]
    assert told[-1] == Transfer("download", "out.mp4", 3000, 3000)
    assert platform.gate.keys() == inputs_in(platform)


def test_an_awaited_failure_leaves_nothing_behind(
    async_client: AsyncClient, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    worker.answer = lambda _: {
        "error": TaskError(ErrorCode.gpu_oom, "no tile fits").body().to_wire()
    }
    worker.serve()
    with pytest.raises(JobError):
        asyncio.run(async_client.upscale(clip, clip.with_name("out.mp4")))
    assert platform.gate.keys() == inputs_in(platform)


def test_cancelling_the_asyncio_task_cancels_the_remote_job(
    async_client: AsyncClient, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    queued = asyncio.Event()

    async def listen(event: object) -> None:
        if isinstance(event, Queued):
            queued.set()

    async def cancelled() -> None:
        work = asyncio.create_task(
            async_client.upscale(clip, clip.with_name("out.mp4"), on_event=listen)
        )
        await queued.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    (job,) = platform.control.hub.queue.jobs.values()
    assert job.status == "CANCELLED"


def test_cancelling_the_asyncio_task_stops_an_upload(
    async_client: AsyncClient, platform: LocalPlatform, tmp_path: Path
) -> None:
    path = tmp_path / "big.mp4"
    path.write_bytes(bytes(60 * 1024**2))
    begun = asyncio.Event()

    async def listen(event: object) -> None:
        if isinstance(event, Transfer) and event.done_bytes:
            begun.set()

    async def cancelled() -> None:
        async_client.storage = storage_of(platform, part_bytes=5 * 1024**2, parallel=1)
        work = asyncio.create_task(async_client.detect_scenes(path, on_event=listen))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    assert platform.gate.keys() == [] and not platform.control.log
    assert len(platform.gate.open_uploads()) == 1, "to be gone on with"


def test_what_a_listener_raises_ends_an_awaited_transfer(
    async_client: AsyncClient, platform: LocalPlatform, clip: Path
) -> None:
    def refuse(event: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(async_client.detect_scenes(clip, on_event=refuse))
    assert platform.gate.keys() == [] and not platform.control.log
