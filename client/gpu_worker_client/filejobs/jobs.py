"""Tasks on files as objects that are made, executed, and asked how it went; many at once, too. They
never raise for a job that failed.

    job = SceneDetectionJob(input_path="video.mp4", threshold=30.0)
    result = job.execute()
    if result.success:
        print(result.output_path, result.metadata["stats"]["total_scenes"])

A job runs on the endpoint or on this machine, as `mode` says (`choose.py`, `settings.py`). All take
`JobOptions` as keywords, and all but `FFmpegRenderJob` the parameters of their task. What a job
makes goes to `output_path`; without one it stands beside the input under the input's whole name and
an ending, `video.mp4.scenes.json` for example.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, cast

from typing_extensions import Unpack

from gpu_worker_client._blocking import as_they_end, in_thread
from gpu_worker_client._portal import call, iterate, on_callers_thread
from gpu_worker_client.client import Client
from gpu_worker_client.commands import Compilable, create_nvenc_command
from gpu_worker_client.commands import command_args as words_of
from gpu_worker_client.errors import ConfigError, StorageError
from gpu_worker_client.filejobs.choose import Done, RunContext, may_pass, run_anywhere
from gpu_worker_client.filejobs.history import History
from gpu_worker_client.files.transfer import OnEvent
from gpu_worker_client.files.work import FileWork, atomic_file, is_url, render_work
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TASKS, BeatResult, TaskResult, save_analysis
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError
from gpu_worker_client.protocol.task import nearest
from gpu_worker_client.settings import MODES, Mode, Switches

DEFAULT_PARALLEL = 2
"""Jobs of `execute_all` at once: each may hold a transfer or a whole local worker."""
_log = logging.getLogger("gpu_worker_client")


class JobOptions(TypedDict, total=False):
    """What every job takes besides its own arguments."""

    client: Client
    """The endpoint's client, with the bucket; default: the environment's."""
    mode: Mode
    """Where to run; default: `GPU_WORKER_MODE`, else "auto"."""
    timeout: float
    """Seconds of wall time; default: `GPU_WORKER_TIMEOUT_SECONDS`, else none."""
    on_event: OnEvent
    """Called with every event; `ProgressBar()` draws one."""
    policy: Policy
    """How long the remote job may wait and run."""
    env: Mapping[str, str]
    """Where the defaults are read from; default: the process's environment. A local run gets these
    variables besides those of the process: `WEIGHTS_DIR`, `GPU_WORKER_JOB_TIME_LIMIT_SECONDS`,
    ..."""


@dataclass(frozen=True)
class JobResult:
    """How a job ended. True when it succeeded."""

    success: bool
    output_path: Path | None = None
    """The JSON of an analysis, else the video that was made; None when the job failed."""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """`task`, `where` ("remote" or "local") and `reason`; `stats`, `worker`, `cost`, `warnings` of
    the result; `fallback_from` {code, message} when the endpoint failed and this machine did it;
    `code` and `retryable` of a failure."""
    error: str | None = None
    """One sentence; None when it succeeded."""
    duration_seconds: float = 0.0
    """From start to end, transfers included."""

    def __bool__(self) -> bool:
        return self.success


class FileJob:
    """A task on files. Made by its subclasses.

    Args:
        work: what to do.
        keywords: `JobOptions`, and more parameters of the task, which are not checked yet. Any
            other one is refused: dropped in silence, it would be paid for.
        report_path: where to write the result as JSON; None writes none.

    Raises:
        TypeError: a keyword that there is not; the message names the nearest one that there is.
        ConfigError: a mode that there is not, or the report's path is a URL.
    """

    takes_params = True
    """Whether parameters of the task may be among the keywords."""

    def __init__(
        self,
        work: FileWork,
        keywords: Mapping[str, Any],
        report_path: str | Path | None = None,
    ) -> None:
        options = JobOptions.__optional_keys__
        known = list(TASKS[work.task].params.model_fields) if self.takes_params else []
        for name in keywords:
            if name not in options and name not in known:
                hint = nearest(name, [*known, *sorted(options)])
                raise TypeError(f"{type(self).__name__} takes no {name!r}.{hint}")
        if keywords.get("mode", "auto") not in MODES:
            raise ConfigError(f"mode must be one of {', '.join(MODES)}")
        if report_path is not None and is_url(report_path):
            raise ConfigError(
                "output_path is a URL: the JSON of an analysis goes to a path on this machine"
            )
        given = {name: value for name, value in keywords.items() if name not in options}
        self.work = replace(work, params={**work.params, **given})
        rest = {name: value for name, value in keywords.items() if name in options}
        self.options = cast(JobOptions, rest)
        self.report_path = None if report_path is None else Path(report_path)

    def execute(self) -> JobResult:
        """Runs the job to its end, whatever that is. Ctrl-C cancels it."""
        return call(self.executed, on_callers_thread(self.options.get("on_event")))

    async def executed(self, on_event: OnEvent | None) -> JobResult:
        """`execute`, awaited. `on_event`, a function or a coroutine function, is called with every
        event, where one was expected."""
        started = time.monotonic()
        try:
            for path in self.leaves():  # before the rest is paid for
                self.work.check_target(path)
            done = await self._done(on_event)
            await in_thread(partial(self.save, done.result))
        except (GpuWorkerError, OSError) as error:
            _log.warning("%s failed: %s", self.work.task, error)
            retryable = may_pass(error) and getattr(error, "transient", True)
            metadata = {"task": self.work.task, "code": _code(error), "retryable": retryable}
            return JobResult(False, None, metadata, str(error), time.monotonic() - started)
        names = {"task", "stats", "worker", "cost", "warnings", "deduplicated"}
        metadata = done.result.model_dump(mode="json", include=names)
        metadata |= {"where": done.where, "reason": done.reason}
        if (failed := done.failed_remotely) is not None:
            metadata["fallback_from"] = {"code": _code(failed), "message": str(failed)}
        path = self.report_path or self.work.output_path
        return JobResult(True, path, metadata, None, time.monotonic() - started)

    def save(self, result: TaskResult) -> None:
        """Writes what the job leaves behind besides its output."""
        if self.report_path is not None:
            with atomic_file(self.report_path) as file:
                file.writelines(piece.encode() for piece in result.json_pieces())

    def leaves(self) -> list[Path]:
        """The files that `save` writes."""
        return [] if self.report_path is None else [self.report_path]

    async def _done(self, on_event: OnEvent | None) -> Done:
        options = self.options
        given = options.get("env")
        env = os.environ if given is None else given
        switches = Switches.from_env(env)
        mode = options.get("mode", switches.mode)
        with ExitStack() as closing:
            client = options.get("client")
            is_set_up = env.get("GPU_WORKER_ENDPOINT_ID") and env.get("RUNPOD_API_KEY")
            if client is None and mode != "local" and is_set_up:
                client = closing.enter_context(Client(env=env))
            context = RunContext(
                mode=mode,
                client=client,
                history=History(switches.history),
                timeout=options.get("timeout", switches.timeout_seconds),
                on_event=on_event,
                policy=options.get("policy"),
                env=None if given is None else {**os.environ, **given},
            )
            return await run_anywhere(self.work, context)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, JobError | StorageError) else type(error).__name__


def _output(given: str | Path | None, input_path: str | Path, ending: str) -> str | Path:
    """Where an output goes. The input's whole name is in it, so that the outputs of `a.mp4` and
    `a.mov` are two files."""
    if given is not None:
        return given
    if is_url(input_path):
        raise ConfigError("the input is a URL: say with output_path where the output goes")
    path = Path(input_path)
    return path.with_name(f"{path.name}.{ending}")


class SceneDetectionJob(FileJob):
    """Where one shot ends and the next begins. Writes `VIDEO.mp4.scenes.json`: `scenes` with frames
    and times, `stats`."""

    def __init__(
        self,
        input_path: str | Path,
        threshold: float = 30.0,
        *,
        output_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        params = {"threshold": float(threshold)}
        work = FileWork("detect_scenes", params, {"input_url": input_path})
        super().__init__(work, keywords, _output(output_path, input_path, "scenes.json"))


class BeatAnalysisJob(FileJob):
    """Beats, tempo and loudness of a video or audio file. Writes `MUSIC.wav.beats.json`, the whole
    result.

    Args:
        analysis_path: where to write `analysis.json` as well: `tempo`, `beat_times`, `energy`,
            `duration`, `sample_rate` only.
        clicks_path: where to write the audio with a click on every beat.
    """

    def __init__(
        self,
        input_path: str | Path,
        *,
        output_path: str | Path | None = None,
        analysis_path: str | Path | None = None,
        clicks_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        self._analysis = None if analysis_path is None else Path(analysis_path)
        work = FileWork("beat", {}, {"input_url": input_path}, output=clicks_path)
        super().__init__(work, keywords, _output(output_path, input_path, "beats.json"))

    def save(self, result: TaskResult) -> None:
        super().save(result)
        if self._analysis is not None:
            save_analysis(cast(BeatResult, result), self._analysis)

    def leaves(self) -> list[Path]:
        return super().leaves() + ([] if self._analysis is None else [self._analysis])


class FFmpegRenderJob(FileJob):
    """An FFmpeg command on files, in which they go by their names.

    Args:
        input_paths: the files that the command names.
        command_args: what follows `ffmpeg`, a word each, or a stream of `ffmpeg-python`; the last
            word is the output's name.
        output_filename: where the output goes; its name is the command's last word.
        require_hardware: fail where the hardware encoder that is asked for is not there.

    Raises:
        TypeError: the command is no list of words.
        ConfigError: two inputs have one name, or the command does not end with the output's.
    """

    takes_params = False

    def __init__(
        self,
        input_paths: Sequence[str | Path],
        command_args: Sequence[str] | Compilable,
        output_filename: str | Path,
        *,
        require_hardware: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        words = words_of(command_args)
        work = render_work(words, input_paths, output_filename, require_hardware)
        if words[-1:] != [Path(output_filename).name]:
            raise ConfigError(
                f"the command's last word must be the output's name, {Path(output_filename).name}"
            )
        super().__init__(work, options)

    create_nvenc_command = staticmethod(create_nvenc_command)


class UpscaleJob(FileJob):
    """A video enlarged, .mp4, .mov or .mkv: `VIDEO.mp4.upscaled.mp4`."""

    def __init__(
        self, input_path: str | Path, output_path: str | Path | None = None, **keywords: Any
    ) -> None:
        output = _output(output_path, input_path, "upscaled.mp4")
        super().__init__(
            FileWork("upscale", {}, {"input_url": input_path}, output=output), keywords
        )


class TrackJob(FileJob):
    """People, balls and other things followed. Writes `VIDEO.mp4.tracks.json`.

    Args:
        video_path: where to write the video with boxes drawn into it.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        *,
        video_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        work = FileWork("track", {}, {"input_url": input_path}, output=video_path)
        super().__init__(work, keywords, _output(output_path, input_path, "tracks.json"))


class AutoCropJob(FileJob):
    """A video in another aspect ratio, .mp4, .mov or .mkv: `VIDEO.mp4.cropped.mp4`.

    Args:
        tracks_path: a `TrackJob`'s JSON, so that nothing is detected twice.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        *,
        tracks_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        output = _output(output_path, input_path, "cropped.mp4")
        reads = {"input_url": input_path, "tracks_url": tracks_path}
        super().__init__(FileWork("auto_crop", {}, reads, output=output), keywords)


def execute_all(
    jobs: Iterable[FileJob], max_parallel: int | None = None
) -> Iterator[tuple[FileJob, JobResult]]:
    """Executes many jobs and yields each with its result, first done first. One that fails ends no
    other. Leaving the loop early, by `break`, an exception or Ctrl-C, cancels the jobs that run, on
    the endpoint too, and starts no other one. For hundreds of jobs, and to go on after a crash:
    `JobManager`.

    Args:
        jobs: of any kind.
        max_parallel: at once; default: `GPU_WORKER_MAX_PARALLEL_JOBS`, else 2.
    """
    parallel = max_parallel or Switches.from_env(os.environ).max_parallel_jobs or DEFAULT_PARALLEL

    async def executed(job: FileJob) -> tuple[FileJob, JobResult]:
        listener = job.options.get("on_event")

        async def on_event(event: Any) -> None:
            if listener is not None:  # on a thread: between two results the caller's is not here
                await in_thread(partial(listener, event))

        return job, await job.executed(on_event)

    async def calls() -> AsyncGenerator[Coroutine[Any, Any, tuple[FileJob, JobResult]], None]:
        for job in list(jobs):
            yield executed(job)

    return iterate(as_they_end(calls(), parallel))
