"""One run of FFmpeg in its sandbox: started, listened to, ended in time, and how it ended. Success
here is not yet a good file."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.base import Limits, Policy
from gpu_worker_processors.render import measure, progress
from gpu_worker_processors.render.base import Rendering
from gpu_worker_processors.render.fonts import set_up
from gpu_worker_processors.render.long_words import short_words
from gpu_worker_processors.render.measure import Meter
from gpu_worker_processors.render.progress import Report
from gpu_worker_processors.sandbox import program
from gpu_worker_processors.sandbox.program import Confinement, Leashed

_LOG_BYTES = 64 * 1024
"""Of FFmpeg's log, half from its beginning and half from its end: the cause stands in one of
them."""
_MEMORY_SHARE = 0.8
"""Of the machine's or container's memory that FFmpeg may fill with data, before the system picks a
process to end."""
_CPU_MARGIN_SECONDS = 5
"""Of processor time beyond what all cores can give until the clock ends the run. The clock knows
what to say, but on a busy machine it may be late; the kernel's limit is for when no process is left
that watches the clock."""
_MEMORY_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class FinishedRun:
    """How a run ended."""

    status: int
    """As `Popen.returncode`."""
    log: str
    """FFmpeg's own words, for `failures` only: never shown."""
    report: Report
    """The last one; `ended` when FFmpeg closed the file itself."""
    measurements: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the filters of `measure.FILTERS` found."""


def run(
    rendering: Rendering,
    ffmpeg: Path,
    *,
    work_dir: Path,
    limits: Limits,
    policy: Policy,
    gpu: bool,
    fonts: Iterable[Path] = (),
    on_report: Callable[[Report], None],
) -> FinishedRun:
    """Runs it to its end. Call it from a thread that outlives the run; the output file is made
    here, anew.

    Args:
        fonts: files that may be fonts, for texts that ask for one by its name.

    Raises:
        TaskError: `sandbox_unavailable`; `time_limit` when it was ended for running too long.
    """
    output = rendering.output_path
    output.unlink(missing_ok=True)
    os.close(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if rendering.folder is not None:
        rendering.folder.mkdir(mode=0o700, exist_ok=True)
    setup = set_up(work_dir, fonts)
    argv, written = short_words(rendering.argv(), work_dir)
    confinement = Confinement(
        work_dir,
        readable=(*rendering.files, *written, *setup.folders),
        writable=(output,),
        folder=rendering.folder,
        openings=rendering.openings,
        max_file_bytes=limits.max_output_bytes,
        max_memory_bytes=round(_MEMORY_SHARE * memory_bytes()),
        max_cpu_seconds=round(limits.max_seconds * (os.cpu_count() or 1)) + _CPU_MARGIN_SECONDS,
        gpu=gpu,
        variables=tuple(setup.variables.items()),
        policy=policy,
    )
    level = measure.LOGLEVEL if rendering.measures else "warning"
    words = (*progress.WORDS, "-hide_banner", "-loglevel", level, *argv)
    child = program.start(
        ffmpeg, words, confinement, os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    meter = measure.Meter() if rendering.measures else None
    return _listen(child, limits.max_seconds, on_report, meter)


def _listen(
    child: Leashed,
    max_seconds: float,
    on_report: Callable[[Report], None],
    meter: Meter | None,
) -> FinishedRun:
    assert child.stdout is not None and child.stderr is not None
    late = threading.Event()
    log = _Log(child.stderr, meter)

    def end() -> None:
        late.set()
        child.kill()

    clock = threading.Timer(max_seconds, end)
    clock.daemon = True
    with child:  # closes the pipes and waits
        clock.start()
        try:
            last = Report()
            for last in progress.reports(_lines(child.stdout)):
                on_report(last)
            status = child.wait()
        except BaseException:
            program.stop(child)
            raise
        finally:
            clock.cancel()
            text = log.text()
    if late.is_set() and status != 0:
        message = (
            f"the command ran longer than the limit of {max_seconds:g} s; shorten it or choose a"
            " faster preset"
        )
        raise TaskError(ErrorCode.time_limit, message, limit_seconds=max_seconds)
    return FinishedRun(status, text, last, meter.result() if meter else {})


def _lines(pipe: IO[bytes]) -> Iterator[bytes]:
    """Its lines, none longer than FFmpeg writes: a program gone wrong fills no memory here."""
    return iter(lambda: pipe.readline(progress.MAX_LINE_BYTES), b"")


class _Log:
    """Reads a pipe to its end in a thread of its own, so that the writer never waits, and keeps the
    beginning and the end."""

    def __init__(self, pipe: IO[bytes], meter: Meter | None) -> None:
        self._head = b""
        self._tail = b""
        self._meter = meter
        self._thread = threading.Thread(
            target=self._read, args=(pipe,), name="ffmpeg-log", daemon=True
        )
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        half = _LOG_BYTES // 2
        if self._meter is not None:
            while line := pipe.readline(half):
                self._keep(self._meter.rest(line))
            return
        while chunk := os.read(pipe.fileno(), half):
            self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        half = _LOG_BYTES // 2
        room = half - len(self._head)
        self._head += chunk[:room]
        self._tail = (self._tail + chunk[room:])[-half:] if len(chunk) > room else self._tail

    def text(self) -> str:
        """The two halves of the log; waits for the writer's end."""
        self._thread.join()
        return (self._head + b"\n" + self._tail).decode("utf-8", "replace")


def memory_bytes() -> int:
    """Of this machine, or of the container where that has less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _MEMORY_FILES:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        limit = parse_integer(text)
        if limit is not None:
            found.append(limit)
    return min(found)
