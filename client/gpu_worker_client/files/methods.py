"""Every task as a method on files, for `AsyncClient` and, on the portal, for `Client`.

    client.upscale("in.mp4", "out.mp4", scale=4)
    scenes = client.detect_scenes("in.mp4").scenes

An input is uploaded unless the bucket has it already, the task is submitted with presigned URLs,
and the output appears under its path whole or not at all. Afterwards the objects are deleted. A URL
instead of a path is passed on as it is. A call that failed on the way, or was killed, can be made
again with the same arguments: what is uploaded, computed or fetched is not done twice. Needs a
bucket (`Storage`) and the extra `storage`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, overload

import gpu_worker_client.protocol as protocol
import gpu_worker_client.split as splitting
from gpu_worker_client._blocking import in_thread
from gpu_worker_client._portal import blocking
from gpu_worker_client.commands import Compilable
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.files.transfer import OnEvent, TaskClient, run_files
from gpu_worker_client.files.work import FileOrUrl, FileWork, is_url, render_work
from gpu_worker_client.policy import Policy

T = TypeVar("T")
Awaited = Coroutine[Any, Any, T]
Whole_co = TypeVar("Whole_co", covariant=True)
Parts_co = TypeVar("Parts_co", covariant=True)
_SPLIT_OPTIONS = frozenset({"segments", "in_flight", "max_usd", "gpu", "prices", "on_plan"})


class _Upscale(Protocol, Generic[Whole_co, Parts_co]):
    """The ways to call `upscale`, awaited or not: in one piece, and split."""

    @overload
    def __call__(
        self,
        input: FileOrUrl,
        output: FileOrUrl,
        *,
        split: Literal[False] = False,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> Whole_co: ...
    @overload
    def __call__(
        self,
        input: FileOrUrl,
        output: FileOrUrl,
        *,
        split: Literal[True],
        segments: int = ...,
        in_flight: int = ...,
        max_usd: float | None = ...,
        gpu: str | None = ...,
        prices: Mapping[str, float] | None = ...,
        on_plan: Callable[[splitting.SplitPlan], object] | None = ...,
        on_event: Callable[[splitting.SegmentEvent], object] | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> Parts_co: ...


async def _upscale(
    client: TaskClient,
    input: FileOrUrl,
    output: FileOrUrl,
    *,
    split: bool = False,
    timeout: float | None = None,
    on_event: Any = None,
    policy: Policy | None = None,
    **params: Any,
) -> protocol.UpscaleResult | splitting.SplitResult:
    """A video enlarged, frame for frame. `output`'s suffix chooses the container: .mp4, .mov or
    .mkv.

    Args:
        split: cut it into segments for many workers and join what they make; paths only, needs the
            extra `split`.
        segments, in_flight, max_usd, gpu, prices, on_plan: of `split.split_upscale`.
    """
    options = {name: params.pop(name) for name in _SPLIT_OPTIONS & params.keys()} if split else {}
    work = FileWork[protocol.UpscaleResult]("upscale", params, {"input_url": input}, output=output)
    if not split:
        return await run_files(client, work, timeout, on_event, policy)
    if timeout is not None or is_url(input) or is_url(output):
        raise ConfigError("split=True works on paths and has no timeout; a policy limits its jobs")
    task = cast("protocol.UpscaleTask", work.check())
    # PyAV takes a while to import, and a bucket's client: not on the event loop.
    split_upscale = await in_thread(lambda: splitting.split_upscale_async)
    storage = await in_thread(lambda: client.storage)
    options |= {"on_event": on_event, "policy": policy}
    return await split_upscale(client, storage, Path(input), Path(output), task.params, **options)


class AsyncFileTasks(TaskClient):
    """The tasks on files. A cancel of the asyncio task stops a transfer, and cancels the remote
    job. All take, besides what they name, the parameters of their task (docs/tasks.md) and:

    Args:
        timeout: seconds of wall time for the job; transfers have time limits of their own.
        on_event: called with every `Event` and `Transfer`, and may be a coroutine function;
            `ProgressBar()` draws one.
        policy: how long the job may wait and run.

    Raises:
        InvalidTask: a parameter does not fit; nothing was sent.
        JobError: the job ended without a result; its class says why.
        StorageError: a file could not be uploaded or downloaded.
        OSError: a file cannot be read or written here.
        WaitTimeout, ConfigError, APIConnectionError, APIError: as of `Client.run`.
    """

    upscale = cast(
        "_Upscale[Awaited[protocol.UpscaleResult], Awaited[splitting.SplitResult]]", _upscale
    )

    async def track(
        self,
        input: FileOrUrl,
        output: FileOrUrl | None = None,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> protocol.TrackResult:
        """People, balls and other things followed. `output`, when given, is the video with boxes
        drawn into it."""
        work = FileWork[protocol.TrackResult]("track", params, {"input_url": input}, output=output)
        return await run_files(self, work, timeout, on_event, policy)

    async def auto_crop(
        self,
        input: FileOrUrl,
        output: FileOrUrl | None = None,
        *,
        tracks: FileOrUrl | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> protocol.AutoCropResult:
        """A video in another aspect ratio. `output` is left out with `dry_run=True`; `tracks` is a
        saved result of `track`."""
        reads = {"input_url": input, "tracks_url": tracks}
        work = FileWork[protocol.AutoCropResult]("auto_crop", params, reads, output=output)
        return await run_files(self, work, timeout, on_event, policy)

    async def detect_scenes(
        self,
        input: FileOrUrl,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> protocol.DetectScenesResult:
        """Where one shot ends and the next begins."""
        work = FileWork[protocol.DetectScenesResult]("detect_scenes", params, {"input_url": input})
        return await run_files(self, work, timeout, on_event, policy)

    async def beat(
        self,
        input: FileOrUrl,
        output: FileOrUrl | None = None,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> protocol.BeatResult:
        """Beats, tempo and loudness of a video or audio file. `output`, when given, is the audio
        with a click on every beat."""
        work = FileWork[protocol.BeatResult]("beat", params, {"input_url": input}, output=output)
        return await run_files(self, work, timeout, on_event, policy)

    async def render(
        self,
        command: Sequence[str] | Compilable,
        inputs: Mapping[str, FileOrUrl] | Sequence[FileOrUrl],
        output: FileOrUrl | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        *,
        output_url: FileOrUrl | None = None,
        require_hardware: bool = False,
        policy: Policy | None = None,
    ) -> protocol.RenderResult:
        """Runs an FFmpeg command. With presigned URLs instead of paths no bucket is needed.

        Args:
            command: what follows `ffmpeg`, a word each; or a stream of `ffmpeg-python` or
                `typed-ffmpeg`.
            inputs: path, or presigned GET, by the name that the command uses; or a list of paths,
                which go by their file names.
            output: a path, or a presigned PUT.
            output_url: the same, by the name that it has in the task.
            require_hardware: fail where the hardware encoder that is asked for is not there.

        Raises:
            TypeError: the command is no list of words, or not exactly one of `output` and
                `output_url` is given.
        """
        target = output_url if output is None else output
        if target is None or (output is not None and output_url is not None):
            raise TypeError("give exactly one of output and output_url")
        work = render_work(command, inputs, target, require_hardware)
        return await run_files(self, work, timeout, on_event, policy)


class FileTasks:
    """`AsyncFileTasks` for callers that wait."""

    upscale = cast("_Upscale[protocol.UpscaleResult, splitting.SplitResult]", blocking(_upscale))
    track = blocking(AsyncFileTasks.track)
    auto_crop = blocking(AsyncFileTasks.auto_crop)
    detect_scenes = blocking(AsyncFileTasks.detect_scenes)
    beat = blocking(AsyncFileTasks.beat)
    render = blocking(AsyncFileTasks.render)
