"""What a panel of the demo is: it makes one task, says what that needs, and shows the result in the
report.

A task's panel is the `PANEL` of `<task>_panel.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import TaskResult


@dataclass(frozen=True)
class Video:
    """The clip that goes through the tasks."""

    path: Path
    width: int
    height: int
    frames: int
    """Counted, not read from the header."""
    fps: float
    cuts: tuple[int, ...] | None = None
    """First frames of the shots after the first, where known; None for the user's own clip."""


@dataclass(frozen=True)
class Desk:
    """What a panel makes its task from."""

    video: Video
    input_url: Callable[[], str]
    """Presigned GET of the clip."""
    output_url: Callable[[str], str]
    """Presigned PUT for one of the panel's `outputs`."""
    has_weights: Callable[[str], bool] = lambda _name: False
    """Whether the weights of that manifest name are here."""
    bucket: Mapping[str, str] = field(default_factory=dict[str, str])
    """The local store, as the variables by which a bucket is named."""


@dataclass(frozen=True)
class Panel:
    """One task's part of the demo."""

    task: str
    """The task's name on the wire."""
    request: Callable[[Desk], dict[str, Any]]
    """Makes the task JSON."""
    summary: Callable[[Any], str]
    """The result in a few words, for the table."""
    html: Callable[[Any, Video, Path], str]
    """The result as the panel's part of the report, from the video and the folder in which the
    task's files lie."""
    estimate_seconds: Callable[[Video], float]
    """Rough time on two CPU cores, to warn before a long run."""
    weights: tuple[str, ...] = ()
    """Manifest names without which the task cannot run."""
    unfit: Callable[[Video], str | None] = lambda _video: None
    """Why this video has nothing for the task (no audio); None when it has."""
    outputs: tuple[str, ...] = ()
    """Names of the files that the task makes; they lie beside the report."""
    run: Callable[[Desk, Path, Callable[[str], None]], TaskResult] | None = None
    """Makes the result another way than as a job of the endpoint, with the folder of the report and
    a function that shows what is going on."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what became of one task."""

    task: str
    state: str
    """ "completed", "skipped" or "failed"."""
    text: str
    seconds: float | None = None
    """From submit to result, queue and transfer included."""
    frames_per_second: float | None = None
    """Frames per second of the processor, where the task works on frames."""
    result: TaskResult | None = None
