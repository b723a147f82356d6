"""Progress on stderr: a bar that overwrites itself on a terminal, a plain line per stage and per
five seconds otherwise."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

from gpu_worker_client.protocol import Progress

PLAIN_INTERVAL_SECONDS = 5.0


class Bar:
    """The progress of one task. Leaving the context wipes the bar; plain lines stay."""

    def __init__(self, label: str, out: TextIO) -> None:
        self._label = label
        self._out = out
        self._stage = ""
        self._shown = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._out.isatty():
            self._put("\r\x1b[K")

    def say(self, text: str) -> None:
        """Shows a state without a measure: "queued", "starting"."""
        self._put(
            f"\r\x1b[K{self._label:14} {text}" if self._out.isatty() else f"{self._label}: {text}\n"
        )

    def show(self, progress: Progress) -> None:
        """Shows one report of the worker."""
        if self._out.isatty():
            self._put(f"\r\x1b[K{self._label:14} {progress.text()}")
        elif (
            progress.stage != self._stage
            or time.monotonic() - self._shown >= PLAIN_INTERVAL_SECONDS
        ):
            self._stage, self._shown = progress.stage, time.monotonic()
            self._put(f"{self._label}: {progress.text()}\n")

    def _put(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
