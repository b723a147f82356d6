"""Tasks on files as objects that are made, executed, and asked how it went. They never raise for a
job that failed.

    job = SceneDetectionJob(input_path="video.mp4", threshold=30.0)
    result = job.execute()
    if result.success:
        print(result.output_path, result.metadata["stats"]["total_scenes"])

A job runs on the endpoint or on this machine, as `mode` says (`choose.py`, `settings.py`).
Analyses are written as JSON beside their input, `video.mp4.scenes.json` for example.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import (
    AsyncGenerator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from typing_extensions import Unpack

from gpu_worker_client._atomic_file import atomic_file
from gpu_worker_client._blocking import as_they_end, in_thread
from gpu_worker_client._portal import call, iterate, on_callers_thread
from gpu_worker_client.client import Client
from gpu_worker_client.commands import Compilable, create_nvenc_command
from gpu_worker_client.commands import command_args as words_of
from gpu_worker_client.errors import APIConnectionError, ConfigError, StorageError
from gpu_worker_client.filejobs.choose import Done, RunContext, may_pass, run_anywhere
from gpu_worker_client.filejobs.history import History
from gpu_worker_client.filejobs.options import JobOptions, sort_keywords
from gpu_worker_client.files.transfer import OnEvent
from gpu_worker_client.files.work import FileWork, check_output_path, is_url, render_work
from gpu_worker_client.protocol import BeatResult, TaskResult, save_analysis
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError
from gpu_worker_client.settings import Switches

_log = logging.getLogger("gpu_worker_client")


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
        report_path: where to write the result as JSON; None writes none.
        options: of every job.
    """

    def __init__(self, work: FileWork, report_path: Path | None, options: JobOptions) -> None:
        self.work = work
        self.report_path = report_path
        self.options = options

    def execute(self) -> JobResult:
        """Runs the job to its end, whatever that is. Ctrl-C cancels it."""
        return call(self.executed, on_callers_thread(self.options.get("on_event")))

    async def executed(self, on_event: OnEvent | None) -> JobResult:
        """`execute`, awaited. `on_event`, a function or a coroutine function, is called with every
        event, where one was expected."""
        started = time.monotonic()
        try:
            self._check_outputs()
            done = await self._done(on_event)
            await in_thread(partial(self.save, done.result))
        except (GpuWorkerError, OSError) as error:
            _log.warning("%s failed: %s", self.work.task, error)
            return JobResult(
                False, None, _failure(self.work, error), str(error), time.monotonic() - started
            )
        path = self.report_path or self.work.output_path
        return JobResult(True, path, _metadata(done), None, time.monotonic() - started)

    def save(self, result: TaskResult) -> None:
        """Writes what the job leaves behind besides its output."""
        if self.report_path is not None:
            write_json(result, self.report_path)

    def leaves(self) -> list[Path]:
        """The files that `save` writes."""
        return [] if self.report_path is None else [self.report_path]

    def _check_outputs(self) -> None:
        """Checks whether `save` can do its part, before the rest is paid for."""
        inputs = {path.absolute() for path in self.work.paths.values()}
        for path in self.leaves():
            check_output_path(path)
            if path.absolute() in inputs:
                raise ConfigError(f"{path.name} is the input; give the output a name of its own")

    async def _done(self, on_event: OnEvent | None) -> Done:
        options = self.options
        given = options.get("env")
        env = os.environ if given is None else given
        switches = Switches.from_env(env)
        mode = options.get("mode", switches.mode)
        with ExitStack() as closing:
            context = RunContext(
                mode=mode,
                client=None
                if mode == "local"
                else options.get("client") or _client_of(env, closing),
                history=History(switches.history),
                timeout=options.get("timeout", switches.timeout_seconds),
                on_event=on_event,
                policy=options.get("policy"),
                env=None if given is None else {**os.environ, **given},
            )
            return await run_anywhere(self.work, context)


def _client_of(env: Mapping[str, str], closing: ExitStack) -> Client | None:
    """The client that the environment describes, None when it describes none."""
    if not env.get("GPU_WORKER_ENDPOINT_ID") or not env.get("RUNPOD_API_KEY"):
        return None
    return closing.enter_context(Client(env=env))


def _metadata(done: Done) -> dict[str, Any]:
    stored = done.result.model_dump(
        mode="json", include={"task", "stats", "worker", "cost", "warnings", "deduplicated"}
    )
    found = {**stored, "where": done.where, "reason": done.reason}
    error = done.failed_remotely
    return (
        found
        if error is None
        else found | {"fallback_from": {"code": _code(error), "message": str(error)}}
    )


def _failure(work: FileWork, error: Exception) -> dict[str, Any]:
    return {"task": work.task, "code": _code(error), "retryable": _can_be_repeated(error)}


def _can_be_repeated(error: Exception) -> bool:
    """Whether the same job, executed again unchanged, can succeed."""
    untrusted = isinstance(error, APIConnectionError) and not error.transient
    return isinstance(error, GpuWorkerError) and may_pass(error) and not untrusted


def _code(error: Exception) -> str:
    return error.code if isinstance(error, JobError | StorageError) else type(error).__name__


def write_json(result: TaskResult, path: Path) -> None:
    """Writes the whole result, piece by piece and whole or not at all."""
    with atomic_file(path) as file:
        file.writelines(piece.encode() for piece in result.json_pieces())


def _output(given: str | Path | None, input_path: str | Path, ending: str) -> str | Path:
    """Where an output goes: as given, else beside the input under its whole name and the ending, so
    that the outputs of `a.mp4` and `a.mov` are two files."""
    if given is not None:
        return given
    if is_url(input_path):
        raise ConfigError("the input is a URL: say with output_path where the output goes")
    path = Path(input_path)
    return path.with_name(f"{path.name}.{ending}")


def _report(given: str | Path | None, input_path: str | Path, ending: str) -> Path:
    """As `_output`, for what is written here."""
    path = _output(given, input_path, ending)
    if is_url(path):
        raise ConfigError(
            "output_path is a URL: the JSON of an analysis goes to a path on this machine"
        )
    return Path(path)


class SceneDetectionJob(FileJob):
    """Where one shot ends and the next begins. Writes `VIDEO.mp4.scenes.json`: `scenes` with frames
    and times, `stats`.

    Args:
        input_path: a video.
        threshold: of the task `detect_scenes`.
        output_path: of the JSON; default: beside the input.
        keywords: more parameters of the task, and `JobOptions`.
    """

    def __init__(
        self,
        input_path: str | Path,
        threshold: float = 30.0,
        *,
        output_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        params, options = sort_keywords("SceneDetectionJob", keywords, "detect_scenes")
        params = {"threshold": float(threshold), **params}
        work = FileWork("detect_scenes", params, {"input_url": input_path})
        super().__init__(work, _report(output_path, input_path, "scenes.json"), options)


class BeatAnalysisJob(FileJob):
    """Beats, tempo and loudness of a video or audio file. Writes `MUSIC.wav.beats.json`, the whole
    result.

    Args:
        input_path: a video or an audio file.
        output_path: of the JSON; default: beside the input.
        analysis_path: where to write `analysis.json` as well: `tempo`, `beat_times`, `energy`,
            `duration`, `sample_rate` only.
        clicks_path: where to write the audio with a click on every beat.
        keywords: parameters of the task `beat`, and `JobOptions`.
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
        params, options = sort_keywords("BeatAnalysisJob", keywords, "beat")
        self._analysis = None if analysis_path is None else Path(analysis_path)
        work = FileWork("beat", params, {"input_url": input_path}, output=clicks_path)
        super().__init__(
            work,
            _report(output_path, input_path, "beats.json"),
            options,
        )

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
        options: of every job.

    Raises:
        TypeError: the command is no list of words.
        ConfigError: two inputs have one name, or the command does not end with the output's.
    """

    def __init__(
        self,
        input_paths: Sequence[str | Path],
        command_args: Sequence[str] | Compilable,
        output_filename: str | Path,
        *,
        require_hardware: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        sort_keywords("FFmpegRenderJob", options)
        words = words_of(command_args)
        work = render_work(words, input_paths, output_filename, require_hardware)
        if words[-1:] != [Path(output_filename).name]:
            raise ConfigError(
                f"the command's last word must be the output's name, {Path(output_filename).name}"
            )
        super().__init__(work, None, options)

    @staticmethod
    def create_nvenc_command(
        input_file: str, output_file: str, bitrate: str = "5M", codec: str = "h264_nvenc"
    ) -> list[str]:
        """See `create_nvenc_command`."""
        return create_nvenc_command(input_file, output_file, bitrate, codec)


class UpscaleJob(FileJob):
    """A video enlarged.

    Args:
        input_path: a video.
        output_path: .mp4, .mov or .mkv; default: beside the input, `VIDEO.mp4.upscaled.mp4`.
        keywords: parameters of the task `upscale` (`model`, `scale`, ...), and `JobOptions`.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        params, options = sort_keywords("UpscaleJob", keywords, "upscale")
        output = _output(output_path, input_path, "upscaled.mp4")
        work = FileWork("upscale", params, {"input_url": input_path}, output=output)
        super().__init__(work, None, options)


class TrackJob(FileJob):
    """People, balls and other things followed. Writes `VIDEO.mp4.tracks.json`.

    Args:
        input_path: a video.
        output_path: of the JSON; default: beside the input.
        video_path: where to write the video with boxes drawn into it.
        keywords: parameters of the task `track`, and `JobOptions`.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        *,
        video_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        params, options = sort_keywords("TrackJob", keywords, "track")
        work = FileWork("track", params, {"input_url": input_path}, output=video_path)
        super().__init__(
            work,
            _report(output_path, input_path, "tracks.json"),
            options,
        )


class AutoCropJob(FileJob):
    """A video in another aspect ratio.

    Args:
        input_path: a video.
        output_path: .mp4, .mov or .mkv; default: beside the input, `VIDEO.mp4.cropped.mp4`.
        tracks_path: a `TrackJob`'s JSON, so that nothing is detected twice.
        keywords: parameters of the task `auto_crop`, and `JobOptions`.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        *,
        tracks_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        params, options = sort_keywords("AutoCropJob", keywords, "auto_crop")
        output = _output(output_path, input_path, "cropped.mp4")
        reads = {"input_url": input_path, "tracks_url": tracks_path}
        super().__init__(FileWork("auto_crop", params, reads, output=output), None, options)


DEFAULT_PARALLEL = 2
"""Jobs of `execute_all` at once: each may hold a transfer or a whole local worker."""


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

    async def calls() -> AsyncGenerator[Coroutine[Any, Any, tuple[FileJob, JobResult]], None]:
        for job in list(jobs):
            yield _executed(job)

    return iterate(as_they_end(calls(), parallel))


async def _executed(job: FileJob) -> tuple[FileJob, JobResult]:
    listener = job.options.get("on_event")

    async def on_event(event: Any) -> None:
        if listener is not None:  # on a thread: between two results nobody waits on the caller's
            await in_thread(partial(listener, event))

    return job, await job.executed(on_event)
