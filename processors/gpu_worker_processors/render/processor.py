"""The render task: a command or a timeline is checked, run in FFmpeg's sandbox, and its file is
checked before it is delivered."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gpu_worker_client.protocol import (
    ErrorCode,
    RenderParams,
    RenderResult,
    RenderStats,
    ResultWarning,
    TaskError,
    WorkerInfo,
)
from gpu_worker_processors.base import LocalJob, Policy, ignore_progress
from gpu_worker_processors.render.base import Rendering
from gpu_worker_processors.render.failures import (
    damage,
    failure,
    hardware_problem,
    missing_letters,
)
from gpu_worker_processors.render.glyphs import glyph_warnings
from gpu_worker_processors.render.hardware import (
    STAND_INS,
    Choice,
    choose,
    fall_back,
    hardware_encoders,
    unavailable,
)
from gpu_worker_processors.render.progress import Report
from gpu_worker_processors.render.run import FinishedRun, run
from gpu_worker_processors.sandbox import program

if TYPE_CHECKING:
    from gpu_worker_processors.render.check import Output
    from gpu_worker_processors.render.timeline import TimelineSource

_SILENT_LUFS = -69.9
"""What ebur128 says of silence: its gate is at -70."""
_LOUD_ENOUGH_LU = 0.1
_MEASUREMENTS = 5
"""Each brings a limited peak's loss back; two do where nothing is limited."""
_DAMAGE_TAKEN = (
    "an input is damaged or cut off; the output holds what FFmpeg could read of it, as the command"
    " asks for"
)


@lru_cache(maxsize=1)
def ffmpeg_program() -> Path:
    """FFmpeg's executable: the one that `IMAGEIO_FFMPEG_EXE` names, else the one that came with the
    package."""
    from imageio_ffmpeg import get_ffmpeg_exe

    return Path(get_ffmpeg_exe()).resolve()


class RenderProcessor:
    """See `base.Processor`."""

    name = "render"

    def required_weights(
        self, params: RenderParams, inputs: Collection[str] = ()
    ) -> tuple[str, ...]:
        return ()

    def prepare(self, job: LocalJob) -> None:
        """Tries the sandbox, so that a system without one is found out while the inputs still
        come."""
        policy = job.settings.render_sandbox
        found = program.level(policy)
        if policy == "require":
            program.require(found)

    def run(self, job: LocalJob) -> RenderResult:
        started = time.perf_counter()
        params: RenderParams = job.params
        policy = job.settings.render_sandbox
        rendering, vtt = planned(job, policy)
        choice = choose(
            rendering, ffmpeg_program(), policy, require_hardware=params.require_hardware
        )
        choice, finished = _run(job, choice, policy)
        output, encoder = _checked(job, choice.rendering, finished)
        undrawn = missing_letters(finished.log)
        job.warnings.extend(glyph_warnings(rendering.drawn_texts, undrawn))
        seconds = time.perf_counter() - started
        stats = RenderStats(
            processing_time_sec=round(seconds, 3),
            encoder_used=encoder,
            fallback_reason=choice.fallback_reason,
            duration=round(output.seconds, 3),
            frames=output.frames,
            fps=round(output.frames / seconds, 2),
            sandbox=program.level(policy, gpu=choice.gpu).name,
            measurements=dict(finished.measurements),
        )
        device = "cuda:0" if choice.gpu else "cpu"
        worker = WorkerInfo(
            version="", device=device, encoder=encoder, fallback_reason=choice.fallback_reason
        )
        return RenderResult(thumbnails_vtt=vtt, stats=stats, worker=worker)


def _checked(
    job: LocalJob, rendering: Rendering, finished: FinishedRun
) -> tuple[Output, str | None]:
    """What came out, in the one file that is delivered, and the encoder of its first video.

    Raises:
        TaskError: `output_invalid`.
    """
    from gpu_worker_processors.render.archive import pack
    from gpu_worker_processors.render.check import check_output, warnings

    report, path = finished.report, rendering.output_path
    if rendering.is_archive:
        assert rendering.folder is not None, "an archive has a folder"
        has_video = {
            made: check_output(made, expected, Report(), limits=job.limits).has_video
            or not expected.is_readable
            for made, expected in rendering.made.items()
        }
        output = pack(rendering.folder, path, report)
        encoders = (
            part.video_encoder
            for part in rendering.parts
            if has_video.get(part.output_path, output.has_video)
        )
        return output, next(filter(None, encoders), None)
    if not rendering.writes_output:
        path.write_text(json.dumps(dict(finished.measurements), indent=1) + "\n", "utf-8")
    expected, copied = rendering.expected, rendering.video_encoder == "copy"
    output = check_output(path, expected, report, limits=job.limits, copied=copied)
    job.warnings.extend(warnings(output, expected, copied=copied))
    return output, rendering.video_encoder if output.has_video else None


def planned(job: LocalJob, policy: Policy) -> tuple[Rendering, str | None]:
    """What to run, and the text that goes with a sheet of thumbnails.

    Raises:
        TaskError: of the command, the timeline or the inputs.
    """
    params: RenderParams = job.params
    if params.timeline is None:
        from gpu_worker_processors.render.command import compile_command, suffix_warnings
        from gpu_worker_processors.render.held import check_held

        words = params.command_args or []
        output = job.output_path or job.work_dir / "measurements.json"
        command = compile_command(words, job.inputs, params.output_filename, output, job.limits)
        if command.writes_output and job.output_path is None:
            raise TaskError(
                ErrorCode.invalid_task,
                "the command writes a file before it measures: give the task an output_url",
            )
        check_held(command, job.limits)
        if job.output_path is not None:
            job.warnings.extend(suffix_warnings(command, job.output_name or output.name))
        return command, None
    from gpu_worker_processors.render.timeline import (
        SOFTWARE_ENCODERS,
        compile_timeline,
        inspect_fonts,
        inspect_inputs,
        planned_sheet,
    )

    sources = inspect_inputs(params.timeline, job.inputs, job.limits)
    works = {name for name in STAND_INS if unavailable(ffmpeg_program(), name, policy) is None}
    output = job.require_output()
    rendering = compile_timeline(
        params.timeline,
        sources,
        output,
        fonts=inspect_fonts(params.timeline, job.inputs),
        gain_db=_gain(job, sources, policy),
        encoders=SOFTWARE_ENCODERS | works,
        limits=job.limits,
    )
    sheet = planned_sheet(params.timeline, sources)
    return rendering, sheet.vtt(job.output_name or output.name) if sheet else None


def _gain(job: LocalJob, sources: Mapping[str, TimelineSource], policy: Policy) -> float | None:
    """Decibels that bring a timeline's audio to its loudness, found by measuring: the limiter takes
    away some of each. None where no loudness is asked for, or there is nothing but silence."""
    from gpu_worker_processors.render.timeline import compile_measurement

    timeline = cast(RenderParams, job.params).timeline
    if timeline is None or timeline.loudness_lufs is None:
        return None
    quiet = dataclasses.replace(job, progress=ignore_progress)
    gain = 0.0
    for _ in range(_MEASUREMENTS):
        output = job.work_dir / "loudness"
        measuring = compile_measurement(timeline, sources, output, gain, job.limits)
        if measuring is None:
            return None
        _, finished = _run(quiet, Choice(measuring), policy)
        loudness = finished.measurements.get("ebur128", {}).get("i")
        if loudness is None or loudness <= _SILENT_LUFS:
            return None
        missing_db = timeline.loudness_lufs - loudness
        gain += missing_db
        if abs(missing_db) < _LOUD_ENOUGH_LU:
            break
    return gain


def _run(job: LocalJob, choice: Choice, policy: Policy) -> tuple[Choice, FinishedRun]:
    """Runs it, a second time in software when the card turns out not to take it.

    Raises:
        TaskError: however it failed.
    """
    from gpu_worker_processors.render.archive import check_growth

    first = choice.rendering.first_pass
    if first is not None:
        _run(job, dataclasses.replace(choice, rendering=first), policy)
    total = _total_seconds(job, choice.rendering)
    folder = choice.rendering.folder

    def on_report(report: Report) -> None:
        if folder is not None:
            check_growth(folder, job.limits)
        _report(job, report, total)

    finished = run(
        choice.rendering,
        ffmpeg_program(),
        work_dir=job.work_dir,
        limits=job.limits,
        policy=policy,
        gpu=choice.gpu,
        fonts=job.inputs.values(),
        on_report=on_report,
    )
    words = cast(RenderParams, job.params).command_args or ()
    if finished.status == 0 and finished.report.ended:
        stops = choice.rendering.stops_at_errors
        problem = damage(finished.log, words, all_errors=not stops)
        if problem is not None and not choice.rendering.takes_damage:
            raise problem
        if problem is not None:
            job.warnings.append(ResultWarning(code="damaged_input", message=_DAMAGE_TAKEN))
        return choice, finished
    required = cast(RenderParams, job.params).require_hardware
    for encoder in hardware_encoders(choice.rendering):
        problem = hardware_problem(finished.log, encoder)
        if problem is not None:
            fallen = fall_back(choice.rendering, encoder, problem, require_hardware=required)
            return _run(job, fallen, policy)
    raise failure(finished.status, finished.log, words)


def _report(job: LocalJob, report: Report, total: float | None) -> None:
    """Progress in milliseconds of the output. What is asked for may be longer than what comes out,
    never shown as more."""
    done = round(report.seconds * 1000)
    if report.ended:
        job.progress("process", done, done, "milliseconds")
    else:
        job.progress(
            "process", done, max(done, round(total * 1000)) if total else None, "milliseconds"
        )


def _total_seconds(job: LocalJob, rendering: Rendering) -> float | None:
    """How long the output will be, about: as promised, else as long as the longest input, up to the
    command's own limit."""
    expected = rendering.expected
    if expected.seconds is not None:
        return expected.seconds
    longest = max(_lengths(job, rendering), default=None)
    known = [seconds for seconds in (expected.max_seconds, longest) if seconds]
    return min(known, default=None)


def _lengths(job: LocalJob, rendering: Rendering) -> Iterable[float]:
    """Seconds of those inputs that are videos or audio.

    Raises:
        TaskError: `corrupt_media`, `no_frames`, `media_limit`: one of them, which the
            message names, cannot be opened, is cut off, or has too many tags.
    """
    import av

    from gpu_worker_processors.media.container import opened, tags_of
    from gpu_worker_processors.media.open_limits import check_tags
    from gpu_worker_processors.media.sniff import sniff

    names = {path: name for name, path in job.inputs.items()}
    limits = job.limits
    if rendering.takes_damage:
        limits = dataclasses.replace(limits, on_damage="conceal")
    for path in rendering.streams:
        try:
            kind = sniff(path)
        except TaskError:  # a frame, subtitles, a font: its use was checked with the command
            continue
        try:
            with opened(path, kind, limits, decode=False) as container:
                check_tags(tags_of(container))
                yield (container.duration or 0) / av.time_base
        except TaskError as error:
            error.message = f'the input "{names[path]}": {error.message}'
            raise


PROCESSOR = RenderProcessor()
