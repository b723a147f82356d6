"""Progress for a person: on a terminal one line that is drawn over and over, in a pipe a plain line
for every new stage."""

from __future__ import annotations

import sys
from typing import TextIO

from gpu_worker_client.events import ColdStart, Event, Finished, ProgressEvent, Queued, Started
from gpu_worker_client.files.transfer import Transfer
from gpu_worker_client.protocol.foreign import printable
from gpu_worker_client.protocol.result import bar

_MIB = 1024**2


class ProgressBar:
    """For `on_event`: `client.upscale("in.mp4", "out.mp4", on_event=ProgressBar())`.

    Args:
        stream: where to; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._stage = ""

    def __call__(self, event: Event | Transfer) -> None:
        stage, line = describe(event)
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if isinstance(event, Finished) else ""))
        elif stage != self._stage:
            self._stream.write(f"{line}\n")
        self._stage = stage
        self._stream.flush()


def describe(event: Event | Transfer) -> tuple[str, str]:
    """(stage, one line about it), without control characters. The stage changes when something new
    begins."""
    if isinstance(event, Transfer):
        share = event.done_bytes / event.total_bytes if event.total_bytes else 1.0
        amount = f"{event.done_bytes / _MIB:.1f}/{event.total_bytes / _MIB:.1f} MiB"
        name = printable(event.name)
        return f"{event.direction} {name}", f"{event.direction:8} [{bar(share)}] {amount} {name}"
    if isinstance(event, ProgressEvent):
        return printable(event.progress.stage), printable(event.progress.text())
    if isinstance(event, Queued):
        position = f", place {event.position}" if event.position else ""
        return "queued", f"queued{position}"
    if isinstance(event, ColdStart):
        return "cold start", "queued, a worker is starting"
    if isinstance(event, Started):
        return "started", "a worker has taken the job"
    return "finished", event.status.state.value
