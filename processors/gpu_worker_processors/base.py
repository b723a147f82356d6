"""What a processor is: a name, typed parameters, and one function from local paths to a typed
result.

A processor never sees a URL, a secret or the network. It runs in the engine child, which may be
killed at any moment: it writes only into `LocalJob.work_dir` and keeps nothing that another process
would miss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from gpu_worker_client.protocol import ResultWarning, Stage, TaskResult
from gpu_worker_client.protocol.task import OnDamage

Policy = Literal["require", "best_effort", "off"]
"""What to do where a sandbox cannot be had: refuse to run, run with what there is, or use none."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what one job may decode or write, and how strict it is. Exceeding a bound is
    `media_limit`, `time_limit` or `output_too_large`."""

    max_pixels: int = 36_000_000
    """Pixels of one input frame. 36 MP is 8K UHD (33.2 MP) with room for its padding."""
    max_frames: int = 2_000_000
    """Frames of one input: 9 hours at 60 frames/s."""
    max_streams: int = 64
    """Streams of one container. FFmpeg itself stops at 1000."""
    max_open_seconds: float = 10.0
    """CPU time that opening one input may take. An honest file takes milliseconds, an MP4 of nine
    hours one second."""
    max_open_bytes: int = 512 * 1024**2
    """Memory that reading the header of one input may take."""
    max_output_bytes: int = 64 * 1024**3
    """Size of the output file."""
    max_seconds: float = 6 * 3600
    """Wall time of a program that a processor starts."""
    on_damage: OnDamage = "fail"
    """What a damaged input does: it ends the job, or is decoded as far as it goes and the warnings
    say where. The task's own parameter of that name."""

    @property
    def decoder_max_pixels(self) -> int:
        """What FFmpeg's own `max_pixels` must allow for that: it counts each row as padded to 64
        pixels, of up to 65,535 rows."""
        return self.max_pixels + 64 * 65_536


@dataclass(frozen=True)
class ProcessorSettings:
    """What an operator chooses that processors act on. No secret is among it."""

    weights_dir: Path | None = None
    """Folder of model weights; None: only those that come with this package."""
    device: str = "auto"
    """ "auto", "cpu", "cuda" or "cuda:N"."""
    cuda_graphs: bool = False
    """Whether super-resolution on a GPU records its kernels and replays them."""
    render_sandbox: Policy = "require"
    """Whether FFmpeg must be confined to run a stranger's command."""
    manifest: Path | None = None
    """The manifest of the weights; None: the one that comes with this package."""


class ProgressSink(Protocol):
    """Where a processor reports how far it is. Cheap to call once a frame: the worker throttles."""

    def __call__(
        self, stage: Stage, done: int, total: int | None = None, unit: str = "frames"
    ) -> None: ...


def ignore_progress(
    stage: Stage, done: int, total: int | None = None, unit: str = "frames"
) -> None:
    """A `ProgressSink` that drops every report."""


@dataclass(frozen=True)
class LocalJob:
    """One run of a task on local files."""

    id: str
    params: Any
    """The task's validated params model."""
    work_dir: Path
    """The job's own directory; everything in it is deleted after the answer."""
    input_path: Path | None = None
    """The fetched input; its name says nothing about its format."""
    inputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Extra inputs by the name the task gave them."""
    output_path: Path | None = None
    """Where to write the file, when the task makes one; its suffix is the container that was asked
    for (".mp4" by default)."""
    output_name: str = ""
    """What the delivered file is called, as a relative URL says it (percent-encoded): the last part
    of its address."""
    limits: Limits = Limits()
    progress: ProgressSink = ignore_progress
    warnings: list[ResultWarning] = field(default_factory=list[ResultWarning])
    """Append what the caller should know about a result that is right all the same."""
    settings: ProcessorSettings = ProcessorSettings()

    def require_input(self) -> Path:
        assert self.input_path is not None, "the task declares an input"
        return self.input_path

    def require_output(self) -> Path:
        assert self.output_path is not None, "the task declares an output file"
        return self.output_path


class Processor(Protocol):
    """One task's code. A module-level instance of it stands in the registry."""

    name: str
    """The task's name on the wire."""

    def required_weights(self, params: Any, inputs: Collection[str] = ()) -> tuple[str, ...]:
        """Manifest names of the weights that these parameters and extra inputs (the names of
        `LocalJob.inputs`) need. Cheap: the worker's parent
        process asks before it starts the engine, so a processor's module imports torch and its like
        inside functions only."""
        ...

    def prepare(self, job: LocalJob) -> None:
        """Loads what the job needs and keeps it warm for the next one (a network on the device).
        May run while the input is still being fetched, so it must not touch `job.input_path`."""
        ...

    def run(self, job: LocalJob) -> TaskResult:
        """Does the work. Fills only the task's own fields; the worker adds URLs, timings, cost.

        Raises:
            TaskError: anything the caller should see, typed.
        """
        ...
