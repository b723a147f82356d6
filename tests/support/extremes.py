"""The ends of the ranges of FFmpeg's own numbers, and how a command with one of them may end."""

from __future__ import annotations

import re
from pathlib import Path

from gpu_worker_client.protocol import RenderParams, TaskError
from gpu_worker_processors.base import Limits, LocalJob
from gpu_worker_processors.render.command.values import Number
from gpu_worker_processors.render.processor import PROCESSOR

INT_MAX = 2**31 - 1
SECONDS = 60
"""Of one run on 64x48 pixels; a second on an idle machine."""
VIDEO = "testsrc2=size=64x48:duration=0.2"
AUDIO = "sine=duration=0.2,aformat=channel_layouts=stereo"


def ends(entry: Number) -> tuple[float, float]:
    """Of its range; those of C's int where it has none."""
    return max(entry.low, -INT_MAX), min(entry.high, INT_MAX)


def check(words: list[str], work: Path) -> None:
    """The command ends in time, well or with an error that says what is wrong."""
    job = LocalJob(
        id="t",
        params=RenderParams(command_args=words),
        work_dir=work,
        limits=Limits(max_seconds=SECONDS),
    )
    try:
        PROCESSOR.run(job)
    except TaskError as error:
        assert "crash" not in error.message, words
        assert not re.search(r"status \d", error.message), words
        assert error.code.value not in ("time_limit", "internal"), words
