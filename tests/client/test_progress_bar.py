"""Progress as a person sees it, on a terminal and in a pipe."""

from __future__ import annotations

import io
from typing import Any

from gpu_worker_client import Finished, ProgressBar, ProgressEvent, Queued, State, Transfer
from gpu_worker_client.protocol import Progress
from gpu_worker_client.status import JobStatus


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


EVENTS: list[Any] = [
    Transfer("upload", "in.mp4", 0, 2 * 1024**2),
    Transfer("upload", "in.mp4", 1024**2, 2 * 1024**2),
    Queued(JobStatus("j", State.queued), 3),
    ProgressEvent(
        Progress(
            seq=1,
            stage="process",
            fraction=0.5,
            done=50,
            total=100,
            unit="frames",
            fps=12.5,
            eta_sec=4.0,
        )
    ),
    Finished(JobStatus("j", State.completed)),
]


def test_a_bar_is_drawn_over_on_a_terminal() -> None:
    stream = Terminal()
    bar = ProgressBar(stream)
    for event in EVENTS:
        bar(event)
    lines = stream.getvalue().split("\r\x1b[K")[1:]
    assert lines[1] == "upload   [" + "#" * 15 + "." * 15 + "] 1.0/2.0 MiB in.mp4"
    assert lines[2] == "queued, place 3"
    assert (
        lines[3] == "process  [" + "#" * 15 + "." * 15 + "] 50/100 frames, 12.5 frames/s, 4 s left"
    )
    assert lines[4] == "completed\n"


def test_a_pipe_gets_a_line_for_each_stage() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for event in EVENTS:
        bar(event)
    assert [line.split()[0].rstrip(",") for line in stream.getvalue().splitlines()] == [
        "upload",
        "queued",
        "process",
        "completed",
    ]


def test_a_stage_without_a_total_has_no_bar() -> None:
    assert Progress(seq=1, stage="load", done=3, unit="files").text() == "load     3 files"
    done = Progress(seq=2, stage="fetch", fraction=1.0, done=8, total=8, unit="bytes", eta_sec=0.0)
    assert done.text() == "fetch    [" + "#" * 30 + "] 8/8 bytes"
