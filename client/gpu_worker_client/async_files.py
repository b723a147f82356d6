"""The methods of `files.py` for `AsyncClient`: the same work, staged and collected in a thread, run on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Protocol, TypeVar, cast

from gpu_worker_client._stage import FileWork, Place, Tell, Transfer, stage
from gpu_worker_client.commands import Compilable
from gpu_worker_client.events import Event
from gpu_worker_client.exceptions import JobError
from gpu_worker_client.files import (
    HasStorage,
    OnEvent,
    auto_crop_work,
    beat_work,
    detect_scenes_work,
    one_output,
    render_work,
    track_work,
    upscale_work,
)
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import (
    AutoCropResult,
    BeatResult,
    DetectScenesResult,
    RenderResult,
    TaskResult,
    TrackResult,
    UpscaleResult,
)
from gpu_worker_client.storage import Storage

STOP_SECONDS = 5.0
"""Longest that the cancellation of an asyncio task is held up by a transfer in a thread."""
T = TypeVar("T")


class _AsyncRuns(Protocol):
    """What `AsyncFileTasks` needs of a client."""

    @property
    def storage(self) -> Storage: ...

    async def run(
        self,
        task: Mapping[str, Any],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> Any: ...


class AsyncFileTasks(HasStorage):
    """`FileTasks` for `AsyncClient`: the same methods, awaitable. `on_event` may be a coroutine function. Cancelling the
    asyncio task stops a transfer, and cancels the remote job."""

    async def upscale(
        self: _AsyncRuns,
        input: Place,
        output: Place,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> UpscaleResult:
        """As `FileTasks.upscale`."""
        return cast(UpscaleResult, await run_files_async(self, upscale_work(input, output, params), timeout, on_event, policy))

    async def track(
        self: _AsyncRuns,
        input: Place,
        output: Place | None = None,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> TrackResult:
        """As `FileTasks.track`."""
        return cast(TrackResult, await run_files_async(self, track_work(input, output, params), timeout, on_event, policy))

    async def auto_crop(
        self: _AsyncRuns,
        input: Place,
        output: Place | None = None,
        *,
        tracks: Place | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> AutoCropResult:
        """As `FileTasks.auto_crop`."""
        return cast(
            AutoCropResult,
            await run_files_async(self, auto_crop_work(input, output, tracks, params), timeout, on_event, policy),
        )

    async def detect_scenes(
        self: _AsyncRuns,
        input: Place,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> DetectScenesResult:
        """As `FileTasks.detect_scenes`."""
        return cast(
            DetectScenesResult, await run_files_async(self, detect_scenes_work(input, params), timeout, on_event, policy)
        )

    async def beat(
        self: _AsyncRuns,
        input: Place,
        output: Place | None = None,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> BeatResult:
        """As `FileTasks.beat`."""
        return cast(BeatResult, await run_files_async(self, beat_work(input, output, params), timeout, on_event, policy))

    async def render(
        self: _AsyncRuns,
        command: Sequence[str] | Compilable,
        inputs: Mapping[str, Place] | Sequence[Place],
        output: Place | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        *,
        output_url: Place | None = None,
        require_hardware: bool = False,
        policy: Policy | None = None,
    ) -> RenderResult:
        """As `FileTasks.render`."""
        work = render_work(command, inputs, one_output(output, output_url), require_hardware=require_hardware)
        return cast(RenderResult, await run_files_async(self, work, timeout, on_event, policy))


async def run_files_async(
    client: _AsyncRuns, work: FileWork, timeout: float | None, on_event: OnEvent | None, policy: Policy | None
) -> TaskResult:
    """As `run_files`; what blocks does so in a thread."""
    staged = await _in_thread(partial(stage, work, lambda: client.storage, policy), on_event)
    try:
        result = await client.run(staged.task, timeout, on_event, policy=policy)
        await _in_thread(partial(staged.collect, result), on_event)
    except JobError:
        await asyncio.to_thread(staged.clean_up)
        raise
    await asyncio.to_thread(staged.clean_up)
    return cast(TaskResult, result)


class _Stopped(Exception):
    """The asyncio task that waits for a transfer was cancelled."""


async def _in_thread(call: Callable[[Tell], T], on_event: OnEvent | None) -> T:
    """Makes a call that blocks and tells. A cancel ends it when it next tells, and it is waited for a little: a transfer should
    not go on unseen."""
    loop = asyncio.get_running_loop()
    stopped = threading.Event()
    told: set[asyncio.Future[Any]] = set()

    def show(transfer: Transfer) -> None:
        answer = on_event(transfer) if on_event is not None else None
        if isawaitable(answer):
            told.add(asyncio.ensure_future(answer))

    def tell(transfer: Transfer) -> None:
        if stopped.is_set():
            raise _Stopped
        loop.call_soon_threadsafe(show, transfer)

    work = asyncio.ensure_future(asyncio.to_thread(call, tell))
    try:
        value = await asyncio.shield(work)
    except asyncio.CancelledError:
        stopped.set()
        done, _ = await asyncio.wait({work}, timeout=STOP_SECONDS)
        for ended in done:
            ended.exception()  # seen: it was stopped
        raise
    await asyncio.gather(*told)
    return value
