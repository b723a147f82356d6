"""Path in, path out: every task as a method on files, for `Client`; `async_files.py` has the same
for `AsyncClient`.

    client.upscale("in.mp4", "out.mp4", scale=4)
    scenes = client.detect_scenes("in.mp4").scenes

An input is uploaded unless the bucket has it already, the task is submitted with presigned URLs,
and the output appears under its path whole or not at all. Afterwards the objects are deleted. A URL
in place of a path is passed on as it is. A call that failed on the way, or was killed, can be made
again with the same arguments: what is uploaded, computed or fetched is not done twice. Needs a
bucket (`Storage`) and the extra `storage`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

from gpu_worker_client._stage import FileWork, Place, Tell, Transfer, is_url, stage
from gpu_worker_client.commands import Compilable, command_args, plainly_named
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.events import Event
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TaskBase, TaskResult
from gpu_worker_client.protocol.errors import JobError
from gpu_worker_client.storage import Storage

if TYPE_CHECKING:
    from gpu_worker_client.client import Client
    from gpu_worker_client.protocol import (
        AutoCropResult,
        BeatResult,
        DetectScenesResult,
        RenderResult,
        TrackResult,
        UpscaleResult,
        UpscaleTask,
    )
    from gpu_worker_client.split import SegmentEvent, SplitPlan, SplitResult

__all__ = ["FileTasks", "FileWork", "HasStorage", "OnEvent", "Place", "Transfer"]

OnEvent = Callable[[Event | Transfer], object]
"""Called with the job's events, and with `Transfer`s before and after them."""


class HasStorage:
    """A client's bucket for files: given, or the environment's when it is first needed."""

    _storage: Storage | None = None
    _env: Mapping[str, str] | None = None

    @property
    def storage(self) -> Storage:
        """Raises ConfigError: none was given, and the environment names none."""
        if self._storage is None:
            self._storage = Storage.from_env(self._env)
        return self._storage

    @storage.setter
    def storage(self, storage: Storage | None) -> None:
        self._storage = storage


class _Runs(Protocol):
    """What `FileTasks` needs of a client."""

    @property
    def storage(self) -> Storage: ...

    def run(
        self,
        task: TaskBase,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> Any: ...


def render_work(
    command: Sequence[str] | Compilable,
    inputs: Mapping[str, Place] | Sequence[Place],
    output: Place,
    require_hardware: bool,
) -> FileWork:
    """
    Args:
        inputs: paths, which the command says by the names of their files, whatever those are; or
            names that the task takes.

    Raises:
        TypeError: the command is no list of words.
        ConfigError: two files in a list of paths have one name.
    """
    words, named = command_args(command), inputs
    if not isinstance(named, Mapping):
        words, named = plainly_named(words, _by_name(named), Path(fspath(output)).name)
    params = {"command_args": words, "require_hardware": require_hardware}
    return FileWork("render", params, {}, inputs=dict(named), output=output)


def one_output(output: Place | None, output_url: Place | None) -> Place:
    """The one that is given."""
    if (output is None) == (output_url is None):
        raise TypeError("give exactly one of output and output_url")
    return cast(Place, output_url if output is None else output)


def _by_name(paths: Sequence[Place]) -> dict[str, Place]:
    if isinstance(paths, str):
        raise TypeError("inputs is one text: give a list of paths, or a mapping of names")
    named = {Path(fspath(path)).name: path for path in paths}
    if len(named) != len(paths):
        raise ConfigError("two inputs have the same file name: give a mapping with a name for each")
    return named


class FileTasks(HasStorage):
    """The tasks on files. All take, besides what they name, the parameters of their task
    (docs/tasks.md) and:

    Args:
        timeout: seconds of wall time for the job; transfers have time limits of their own.
        on_event: called with every `Event` and `Transfer`; `ProgressBar()` draws one.
        policy: how long the job may wait and run.

    Raises:
        InvalidTask: a parameter does not fit; nothing was sent.
        JobError: the job ended without a result; its class says why.
        StorageError: a file could not be uploaded or downloaded.
        OSError: a file cannot be read or written here.
        WaitTimeout, ConfigError, APIConnectionError, APIError: as of `Client.run`.
    """

    @overload
    def upscale(
        self: _Runs,
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
    def upscale(
        self: _Runs,
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
    def upscale(
        self: _Runs,
        input: Place,
        output: Place,
        *,
        split: bool = False,
        timeout: float | None = None,
        on_event: Any = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> UpscaleResult | SplitResult:
        """A video enlarged, frame for frame. `output`'s suffix chooses the container: .mp4, .mov or
        .mkv.

        Args:
            split: cut it into segments for many workers and join what they make; paths only, needs
                the extra `split`.
            segments, in_flight, max_usd, gpu, prices, on_plan: of `split.split_upscale`.
        """
        if not split:
            work = FileWork("upscale", params, {"input_url": input}, output=output)
            return cast(
                "UpscaleResult",
                run_files(self, work, timeout, on_event, policy),
            )
        from gpu_worker_client.split import split_upscale  # here: it loads PyAV

        arguments = split_arguments(input, output, timeout, params)
        return split_upscale(
            cast("Client", self), self.storage, on_event=on_event, policy=policy, **arguments
        )

    def track(
        self: _Runs,
        input: Place,
        output: Place | None = None,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> TrackResult:
        """People, balls and other things followed. `output`, when given, is the video with boxes
        drawn into it."""
        work = FileWork("track", params, {"input_url": input}, output=output)
        return cast(
            "TrackResult",
            run_files(self, work, timeout, on_event, policy),
        )

    def auto_crop(
        self: _Runs,
        input: Place,
        output: Place | None = None,
        *,
        tracks: Place | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> AutoCropResult:
        """A video in another aspect ratio. `output` is left out with `dry_run=True`; `tracks` is a
        saved result of `track`."""
        reads = {"input_url": input, "tracks_url": tracks}
        work = FileWork("auto_crop", params, reads, output=output)
        return cast("AutoCropResult", run_files(self, work, timeout, on_event, policy))

    def detect_scenes(
        self: _Runs,
        input: Place,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> DetectScenesResult:
        """Where one shot ends and the next begins."""
        work = FileWork("detect_scenes", params, {"input_url": input})
        return cast(
            "DetectScenesResult",
            run_files(self, work, timeout, on_event, policy),
        )

    def beat(
        self: _Runs,
        input: Place,
        output: Place | None = None,
        *,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        policy: Policy | None = None,
        **params: Any,
    ) -> BeatResult:
        """Beats, tempo and loudness of a video or audio file. `output`, when given, is the sound
        with a click on every beat."""
        work = FileWork("beat", params, {"input_url": input}, output=output)
        return cast(
            "BeatResult",
            run_files(self, work, timeout, on_event, policy),
        )

    def render(
        self: _Runs,
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
        work = render_work(command, inputs, one_output(output, output_url), require_hardware)
        return cast("RenderResult", run_files(self, work, timeout, on_event, policy))


_SPLIT_OPTIONS = frozenset({"segments", "in_flight", "max_usd", "gpu", "prices", "on_plan"})


def split_arguments(
    input: Place, output: Place, timeout: float | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of `split_upscale` for `upscale(..., split=True)`, which takes its options and
    the task's parameters by name.

    Raises:
        InvalidTask, FileNotFoundError, OSError: as of `FileWork.check`.
        ConfigError: as of it, or a URL or a timeout is given.
    """
    if timeout is not None or is_url(input) or is_url(output):
        raise ConfigError("split=True works on paths and has no timeout; a policy limits its jobs")
    options = {name: value for name, value in given.items() if name in _SPLIT_OPTIONS}
    params = {name: value for name, value in given.items() if name not in _SPLIT_OPTIONS}
    work = FileWork("upscale", params, {"input_url": input}, output=output)
    checked = cast("UpscaleTask", work.check()).params
    return {"source": Path(input), "output": Path(output), "params": checked, **options}


def run_files(
    client: _Runs,
    work: FileWork,
    timeout: float | None,
    on_event: OnEvent | None,
    policy: Policy | None,
) -> TaskResult:
    """Stages the work, runs it, collects the output. Arguments and errors as of `FileTasks`."""
    tell: Tell = on_event or _drop
    staged = stage(work, lambda: client.storage, policy, tell)
    try:
        result = client.run(staged.task, timeout, on_event, policy=policy)
        staged.collect(result, tell)
    except JobError:
        staged.clean_up()
        raise
    staged.clean_up()
    return cast(TaskResult, result)


def _drop(_: Transfer) -> None:
    """Tells nobody."""
