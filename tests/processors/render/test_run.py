"""The render task from a command to a checked file: what a status of 0 hides, what is reported, how
a run is ended."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from support import clips, music
from support.render_kit import plain

from gpu_worker_client.protocol import ErrorCode, RenderParams, RenderResult, TaskError
from gpu_worker_processors.base import Limits, LocalJob, ProcessorSettings
from gpu_worker_processors.render import run as run_module
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.check import check_output
from gpu_worker_processors.render.failures import failure
from gpu_worker_processors.render.processor import PROCESSOR, ffmpeg_program
from gpu_worker_processors.render.progress import Report, reports
from gpu_worker_processors.sandbox import landlock
from gpu_worker_processors.sandbox.program import Confinement

pytestmark = pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)

FAST = ("-c:v", "libx264", "-preset", "ultrafast")


@dataclass
class Bench:
    """One job directory and what is reported of it."""

    folder: Path
    seen: list[tuple[int, int | None, str]] = field(
        default_factory=list[tuple[int, int | None, str]]
    )

    def clip(self, name: str = "a.mp4", clip: clips.Clip = clips.Clip(audio_seconds=2)) -> Path:  # noqa: B008 - frozen
        return clips.make(self.folder / name, clip)

    def job(
        self,
        *words: str,
        limits: Limits = Limits(),  # noqa: B008
        suffix: str = ".mp4",
        **inputs: Path,
    ) -> LocalJob:
        named = {f"{name}{path.suffix}": path for name, path in inputs.items()}
        return LocalJob(
            id="t",
            params=RenderParams(command_args=list(words)),
            work_dir=self.folder,
            inputs=named,
            output_path=self.folder / f"output{suffix}",
            limits=limits,
            progress=lambda stage, done, total=None, unit="": self.seen.append((done, total, unit)),  # noqa: ARG005
        )

    def render(
        self,
        *words: str,
        limits: Limits = Limits(),  # noqa: B008
        suffix: str = ".mp4",
        **inputs: Path,
    ) -> RenderResult:
        return PROCESSOR.run(self.job(*words, limits=limits, suffix=suffix, **inputs))

    def refused(
        self,
        *words: str,
        limits: Limits = Limits(),  # noqa: B008
        suffix: str = ".mp4",
        **inputs: Path,
    ) -> TaskError:
        with pytest.raises(TaskError) as caught:
            self.render(*words, limits=limits, suffix=suffix, **inputs)
        return caught.value


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_command_becomes_a_file(bench: Bench) -> None:
    result = bench.render(
        "-i", "a.mp4", "-vf", "scale=32:24,hflip", *FAST, "-c:a", "copy", "out.mp4", a=bench.clip()
    )
    stats = result.stats
    assert (stats.frames, stats.encoder_used, stats.fallback_reason, stats.sandbox) == (
        50,
        "libx264",
        None,
        "full",
    )
    assert stats.duration == pytest.approx(2.0, abs=0.03)
    assert result.worker is not None and (result.worker.encoder, result.worker.device) == (
        "libx264",
        "cpu",
    )
    with av.open(str(bench.folder / "output.mp4")) as output:
        first = next(output.decode(output.streams.video[0]))
        assert (first.width, first.height, len(output.streams.audio)) == (32, 24, 1)


@pytest.mark.parametrize(
    ("outputs", "suffix", "encoder", "said"),
    [
        pytest.param(["clip.mp4"], ".webm", "libx264", "the file is .mp4", id="another container"),
        pytest.param(["x.mp4", "y.mp3"], ".mp4", "libx264", "is a ZIP archive", id="two outputs"),
        pytest.param(["y.mp3", "x.mp4"], ".zip", "libx264", "", id="audio first"),
        pytest.param(["x.mp4", "y.wav"], ".tar", "libx264", "", id="audio last"),
        pytest.param(["clip.mp4"], ".m4v", "libx264", "", id="one format of two names"),
    ],
)
def test_a_name_that_says_another_format_is_warned_of(
    bench: Bench, outputs: list[str], suffix: str, encoder: str, said: str
) -> None:
    clip = bench.clip(clip=clips.Clip(frames=5, audio_seconds=0.2))
    job = bench.job("-i", "a.mp4", *outputs, suffix=suffix, a=clip)
    assert PROCESSOR.run(job).stats.encoder_used == encoder
    warned = {one.code: one.message for one in job.warnings}
    assert said in warned.get("suffix_mismatch", "") and bool(said) == bool(warned)


def test_progress_ends_at_the_whole(bench: Bench) -> None:
    bench.render("-i", "a.mp4", *FAST, "out.mp4", a=bench.clip())
    done, total, unit = bench.seen[-1]
    assert done == total == pytest.approx(2000, abs=30)
    assert unit == "milliseconds"
    assert all(done <= (total or done) for done, total, _ in bench.seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "suffix"),
    [
        pytest.param(("-i", "a.mp4", "-vn", "out.mp3"), ".mp3", id="sound alone"),
        pytest.param(("-i", "a.mp4", "-frames:v", "1", "out.jpg"), ".jpg", id="a picture"),
        pytest.param(("-i", "a.mp4", "-vf", "fps=10", "out.gif"), ".gif", id="a GIF"),
        pytest.param(("-i", "a.mp4", "-c", "copy", "out.mkv"), ".mkv", id="copied streams"),
        pytest.param(("-i", "a.mp4", *FAST, "out.ts"), ".ts", id="a transport stream"),
        pytest.param(
            ("-i", "a.mp4", "-c:v", "libwebp_anim", "-an", "out.webp"),
            ".webp",
            id="an animated WebP",
        ),
        pytest.param(
            ("-f", "lavfi", "-i", "testsrc2=duration=1", *FAST, "out.mp4"),
            ".mp4",
            id="no input at all",
        ),
    ],
)
def test_every_kind_of_output_passes_the_check(
    bench: Bench, words: Sequence[str], suffix: str
) -> None:
    result = bench.render(*words, suffix=suffix, a=bench.clip())
    assert (bench.folder / f"output{suffix}").stat().st_size > 100
    assert result.status == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_a_cut_off_input_is_never_a_success(bench: Bench, suffix: str) -> None:
    """FFmpeg returns 0 for some of these: a file that looks right and is short."""
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    whole = bench.clip(f"a{suffix}", clips.Clip(width=320, height=240, codec=codec, options=()))
    cut_in_a_packet(whole)
    error = bench.refused("-i", f"a{suffix}", *FAST, "out.mp4", a=whole)
    assert error.code is ErrorCode.corrupt_media


@pytest.mark.parametrize("place", [0.6, 0.5, 0.4])
def test_an_ogg_that_is_cut_in_a_page_is_never_a_success(bench: Bench, place: float) -> None:
    whole = music.save(
        bench.folder / "a.ogg", music.clicks([0.5, 1.5, 2.5], 20.0, 48_000), rate=48_000
    )
    bench.render("-i", "a.ogg", "out.m4a", suffix=".m4a", a=whole)
    cut_in_a_packet(whole, place)
    assert (
        bench.refused("-i", "a.ogg", "out.m4a", suffix=".m4a", a=whole).code
        is ErrorCode.corrupt_media
    )


def cut_in_a_packet(path: Path, place: float = 0.6) -> None:
    """Keeps the first part of a file, to no multiple of a transport stream's packet."""
    size = int(path.stat().st_size * place)
    os.truncate(path, size - size % 188 + 50)


def _flipped(data: bytes) -> bytes:
    content = bytearray(data)
    for at in range(3000, len(content) - 3000, 997):
        content[at] ^= 0x55
    return bytes(content)


def test_a_damaged_input_is_never_a_success(bench: Bench) -> None:
    damaged = bench.clip(clip=clips.Clip(width=320, height=240))
    damaged.write_bytes(_flipped(damaged.read_bytes()))
    assert bench.refused("-i", "a.mp4", *FAST, "out.mp4", a=damaged).code is ErrorCode.corrupt_media


def test_a_start_behind_the_end_is_an_empty_output(bench: Bench) -> None:
    error = bench.refused("-ss", "100", "-i", "a.mp4", *FAST, "out.mp4", a=bench.clip())
    assert (error.code, error.details["reason"]) == (ErrorCode.output_invalid, "empty_output")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-ss 100 -i a.mp4 -frames:v 1 out.jpg", "the command writes nothing: check its -ss"),
        ("-ss 0.4 -to 0.2 -i a.mp4 -c copy out.mp4", "-to lies before -ss"),
        ("-i a.mp4 -vf drawtext=text=50% out.mp4", "a % that begins no %{...}"),
        ("-i a.mp4 -i b.mp4 -map 0:v -map 1:v out.mkv", 'the input "b.mp4" is damaged'),
        ("-i a.mp4 -i c.mp4 -map 1:v -c copy out.mp4", 'the input "c.mp4": the file is cut off'),
    ],
)
def test_the_fault_is_named(bench: Bench, line: str, says: str) -> None:
    clip = bench.clip()
    cut, damaged = bench.folder / "cut.mp4", bench.folder / "damaged.mp4"
    plain("-i", str(clip), "-c", "copy", "-movflags", "+faststart", str(cut))
    damaged.write_bytes(_flipped(cut.read_bytes()))
    cut_in_a_packet(cut, 0.8)
    error = bench.refused(*line.split(), suffix=Path(line).suffix, a=clip, b=damaged, c=cut)
    assert says in error.message


def test_an_index_at_the_front_is_moved_without_harm(bench: Bench) -> None:
    """Onto a pipe FFmpeg would write a broken file and return 0; here it always writes to a
    file."""
    bench.render("-i", "a.mp4", "-c", "copy", "-movflags", "+faststart", "out.mp4", a=bench.clip())
    content = (bench.folder / "output.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        pytest.param(
            ("-vf", "crop=4000:4000"),
            ErrorCode.invalid_task,
            None,
            id="a crop larger than the picture",
        ),
        pytest.param(
            ("-vf", "scale=33:25", "-pix_fmt", "yuv420p"),
            ErrorCode.invalid_task,
            None,
            id="an odd size",
        ),
        pytest.param(
            ("-map", "0:s"),
            ErrorCode.invalid_task,
            "no_such_stream",
            id="a stream that is not there",
        ),
        pytest.param(
            ("-c:v", "copy", "-f", "webm"),
            ErrorCode.invalid_task,
            "container",
            id="a wrong container",
        ),
    ],
)
def test_what_ffmpeg_refuses_is_said_in_our_words(
    bench: Bench, words: Sequence[str], code: ErrorCode, reason: str | None
) -> None:
    suffix = ".webm" if "webm" in words else ".mp4"
    error = bench.refused(
        "-i", "a.mp4", "-an", *words, f"out{suffix}", suffix=suffix, a=bench.clip()
    )
    assert (error.code, error.details.get("reason")) == (code, reason)
    assert str(bench.folder) not in error.message
    assert "@ 0x" not in error.message


def test_a_file_above_the_limit_is_refused_whole(bench: Bench) -> None:
    words = ("-i", "a.mp4", "-c:v", "mpeg4", "-q:v", "1", "-s", "640x480", "out.mp4")
    error = bench.refused(*words, limits=Limits(max_output_bytes=30_000), a=bench.clip())
    assert error.code is ErrorCode.output_too_large


def test_a_run_that_takes_too_long_is_ended(bench: Bench) -> None:
    words = ("-f", "lavfi", "-i", "testsrc2=size=1280x720:duration=600", *FAST, "out.mp4")
    error = bench.refused(*words, limits=Limits(max_seconds=0.5))
    assert (error.code, error.details["limit_seconds"]) == (ErrorCode.time_limit, 0.5)


def test_the_clock_ends_a_run_before_its_processor_time_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the clock's error says what the limit was."""
    start, confined = run_module.program.start, list[Confinement]()

    def seen(
        program: Path, words: Sequence[str], confinement: Confinement, *rest: Any, **more: Any
    ) -> Any:
        confined.append(confinement)
        return start(program, words, confinement, *rest, **more)

    monkeypatch.setattr(run_module.program, "start", seen)
    bench.render("-i", "a.mp4", *FAST, "out.mp4", a=bench.clip(), limits=Limits(max_seconds=60.4))
    assert (confined[0].max_cpu_seconds or 0) > 60.4 * (os.cpu_count() or 1) + 1


def test_a_sigterm_leaves_no_file_that_counts(bench: Bench) -> None:
    """FFmpeg then closes its file properly: a valid, short video. Only its status tells."""
    children: list[int] = []
    ready = threading.Event()

    def end(report: Report) -> None:
        if report.frames and not ready.is_set():
            ready.set()
            children[:] = [int(pid) for pid in _children(os.getpid())]
            for pid in children:
                os.kill(pid, 15)

    job = bench.job("-f", "lavfi", "-i", "testsrc2=size=320x240:duration=600", *FAST, "out.mp4")
    from gpu_worker_processors.render.command import compile_command

    rendering = compile_command(job.params.command_args, job.inputs, None, job.require_output())
    finished = run_module.run(
        rendering,
        ffmpeg_program(),
        work_dir=bench.folder,
        limits=Limits(),
        policy="require",
        gpu=False,
        on_report=end,
    )
    assert children
    assert finished.status != 0
    with av.open(str(bench.folder / "output.mp4")) as short:
        assert next(short.decode(video=0)) is not None


def _children(pid: int) -> list[str]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for one in lists for child in one.read_text().split()]


def test_the_check_finds_what_is_missing(bench: Bench) -> None:
    path = bench.clip(clip=clips.Clip(frames=50))
    nothing = Expectation()
    assert check_output(path, nothing, Report(50, 2.0, True)).frames == 50
    cases = [
        (nothing, Report(51, 2.04, True), "50 frames of 51"),
        (Expectation(audio=True), Report(), "no audio"),
        (Expectation(frames=49), Report(), "instead of 49"),
        (Expectation(max_frames=10), Report(), "10 were asked for"),
        (Expectation(seconds=2.2), Report(), "instead of 2.2"),
    ]
    for expected, written, words in cases:
        with pytest.raises(TaskError, match=words) as caught:
            check_output(path, expected, written)
        assert caught.value.code is ErrorCode.output_invalid
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(TaskError, match="cannot be read back|does not decode|frames of"):
        check_output(path, nothing, Report(50, 2.0, True))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (-9, ErrorCode.resource_exhausted),
        (-25, ErrorCode.output_too_large),
        (-24, ErrorCode.time_limit),
        (-11, ErrorCode.corrupt_media),
        (1, ErrorCode.invalid_task),
    ],
)
def test_ends_by_signal(status: int, code: ErrorCode) -> None:
    assert failure(status, "").code is code


@pytest.mark.parametrize(
    ("graph", "reason", "says"),
    [
        ("scale=0:zz", "expression", "of the filter scale cannot"),
        ("format=gray,crop=w=qq:h=8", "expression", "of the filter crop cannot"),
    ],
)
def test_a_filter_that_cannot_start_is_named(
    bench: Bench, graph: str, reason: str, says: str
) -> None:
    clip = bench.clip(clip=clips.Clip(frames=5))
    with pytest.raises(TaskError) as caught:
        PROCESSOR.run(bench.job("-i", "a.mp4", "-vf", graph, *FAST, "out.mp4", a=clip))
    assert caught.value.code is ErrorCode.invalid_task
    assert caught.value.details["reason"] == reason
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ("[0:v][1:v]concat=n=2", "concat joins frames .* 96x64 and .* 64x48"),
        ("[0:v][1:v]hstack", "hstack takes inputs of one height; here one has 64 and another 48"),
        ("[0:v][1:v]blend", "blend takes two inputs of one size; here they have 64x48 and 96x64"),
        ("[0:v]pad=10:10", "pad makes frames larger"),
        ("[0:v]hwdownload,format=nv12", "hwdownload works on frames of the other memory"),
        ("[0:v][1:v]xfade=offset=0.1:duration=0.1", "xfade takes two inputs of one size"),
        ("amerge=inputs=2", "no audio stream .* filter amerge"),
    ],
)
def test_a_filter_and_its_cause_are_named(bench: Bench, graph: str, says: str) -> None:
    small = bench.clip("a.mp4", clips.Clip(frames=5))
    large = bench.clip("b.mp4", clips.Clip(frames=5, width=96, height=64))
    error = bench.refused(
        *("-i", "a.mp4", "-i", "b.mp4", "-filter_complex", graph, *FAST, "out.mp4"),
        a=small,
        b=large,
    )
    assert error.code is ErrorCode.invalid_task
    assert re.search(says, error.message), error.message


@pytest.mark.parametrize("status", [1, 8, 187, 234, -11])
def test_no_number_of_a_status_is_told(status: int) -> None:
    error = failure(status, "nothing that is known")
    assert not re.search(r"\d", error.message + str(error.details))


def test_ffmpegs_words_never_leave() -> None:
    """A filter that could be made to read a file would say the file's content in its error."""
    log = (
        "[AVFilterGraph @ 0x55] No such filter: 'SECRET_LINE_42'\nError : Filter not"
        " found\n/srv/job-1/in.mp4: x"
    )
    error = failure(8, log)
    assert "SECRET" not in error.message + str(error.details)
    assert "/work" not in error.message


def test_progress_reads_what_ffmpeg_writes() -> None:
    lines = [
        b"frame=0\n",
        b"out_time_us=N/A\n",
        b"progress=continue\n",
        b"frame=25\n",
        b"fps=50.0\n",
        b"out_time_us=1000000\n",
        b"out_time_ms=1000000\n",
        b"progress=continue\n",
        b"frame=50\n",
        b"out_time_us=2000000\n",
        b"progress=end\n",
        b"frame=51\n",
    ]
    assert list(reports(lines)) == [
        Report(0, 0.0, False, has_video=True),
        Report(25, 1.0, False, has_video=True),
        Report(50, 2.0, True, has_video=True),
    ]


def test_off_is_a_choice_that_is_said(bench: Bench) -> None:
    job = bench.job(
        "-i", "a.mp4", *FAST, "out.mp4", a=bench.clip(clip=clips.Clip(frames=5, rate=Fraction(25)))
    )
    result = PROCESSOR.run(replace(job, settings=ProcessorSettings(render_sandbox="off")))
    assert result.stats.sandbox == "off"
