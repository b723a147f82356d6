"""The methods of `files.py` for `AsyncClient`: the same work, staged and collected in a thread, run
on the event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

from gpu_worker_client._blocking import in_thread, in_thread_notifying
from gpu_worker_client._stage import FileWork, Place, stage
from gpu_worker_client.commands import Compilable
from gpu_worker_client.events import Event
from gpu_worker_client.files import (
    HasStorage,
    OnEvent,
    one_output,
    render_work,
    split_arguments,
)
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TaskBase, TaskResult
from gpu_worker_client.protocol.errors import JobError
from gpu_worker_client.storage import Storage

if TYPE_CHECKING:
    from gpu_worker_client.async_client import AsyncClient
    from gpu_worker_client.protocol import (
        AutoCropResult,
        BeatResult,
        DetectScenesResult,
        RenderResult,
        TrackResult,
        UpscaleResult,
    )
    from gpu_worker_client.split import SegmentEvent, SplitPlan, SplitResult


class _AsyncRuns(Protocol):
    """What `AsyncFileTasks` needs of a client."""

    @property
    def storage(self) -> Storage: ...

    async def run(
        self,
        task: TaskBase,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> Any: ...


class AsyncFileTasks(HasStorage):
    """`FileTasks` for `AsyncClient`: the same methods, awaitable. `on_event` may be a coroutine
    function. Cancelling the asyncio task stops a transfer, and cancels the remote job."""

    @overload
    async def upscale(
        self: _AsyncRuns,
        input: Place,
        output: Place,
        *,
        split: Literal[False] = False,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> UpscaleResult: ...
    @overload
    async def upscale(
        self: _AsyncRuns,
        input: Place,
        output: Place,
        *,
        split: Literal[True],
        segments: int = ...,
        in_flight: int = ...,
        max_usd: float | None = ...,
        gpu: str | None = ...,
        prices: Mapping[str, float] | None = ...,
        on_plan: Callable[[SplitPlan], object] | None = ...,
        on_event: Callable[[SegmentEvent], object] | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> SplitResult: ...
    async def upscale(
        self: _AsyncRuns,
        input: Place,
        output: Place,
        *,
        split: bool = False,
        timeout: float | None = None,
        on_event: Any = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> UpscaleResult | SplitResult:
        """As `FileTasks.upscale`. `on_plan` may be a coroutine function too."""
        if not split:
            work = FileWork("upscale", params, {"input_url": input}, output=output)
            result = await run_files_async(self, work, timeout, on_event, policy)
            return cast("UpscaleResult", result)
        await in_thread(_load_split)
        from gpu_worker_client.split import split_upscale_async

        arguments = split_arguments(input, output, timeout, params)
        storage = await in_thread(lambda: self.storage)
        client = cast("AsyncClient", self)
        return await split_upscale_async(
            client, storage, on_event=on_event, policy=policy, **arguments
        )

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
        work = FileWork("track", params, {"input_url": input}, output=output)
        return cast(
            "TrackResult",
            await run_files_async(self, work, timeout, on_event, policy),
        )

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
        reads = {"input_url": input, "tracks_url": tracks}
        work = FileWork("auto_crop", params, reads, output=output)
        return cast("AutoCropResult", await run_files_async(self, work, timeout, on_event, policy))

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
        work = FileWork("detect_scenes", params, {"input_url": input})
        return cast(
            "DetectScenesResult",
            await run_files_async(self, work, timeout, on_event, policy),
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
        work = FileWork("beat", params, {"input_url": input}, output=output)
        return cast(
            "BeatResult",
            await run_files_async(self, work, timeout, on_event, policy),
        )

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
        work = render_work(command, inputs, one_output(output, output_url), require_hardware)
        return cast("RenderResult", await run_files_async(self, work, timeout, on_event, policy))


async def run_files_async(
    client: _AsyncRuns,
    work: FileWork,
    timeout: float | None,
    on_event: OnEvent | None,
    policy: Policy | None,
) -> TaskResult:
    """As `run_files`; what blocks does so in a thread."""
    staging = partial(stage, work, lambda: client.storage, policy)
    staged = await in_thread_notifying(staging, on_event)
    try:
        result = await client.run(staged.task, timeout, on_event, policy=policy)
        await in_thread_notifying(partial(staged.collect, result), on_event)
    except JobError:
        await in_thread(staged.clean_up)
        raise
    await in_thread(staged.clean_up)
    return cast(TaskResult, result)


def _load_split() -> None:
    """PyAV takes a while to import: not on the event loop, and not before it is needed."""
    import gpu_worker_client.split as _  # noqa: F401
