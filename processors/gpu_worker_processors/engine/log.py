"""What an engine writes to its standard error, passed on to the worker's.

The engine parses what strangers sent, so it gets a pipe and not the worker's log: it can neither
cut that file nor write a line in the worker's name, nor fill the disk with it.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

PREFIX = "engine: "
MAX_LINE_BYTES = 2000
"""A longer line is cut into several. The longest of ours is a traceback's, with a path in it."""
MAX_BYTES_A_COMMAND = 256 * 1024
"""Passed on for one command; more is dropped. A traceback of a deep recursion has some 30 KB."""


class EngineLog:
    """Reads a pipe to its end in a thread of its own, so that the writer never waits."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        self._left = MAX_BYTES_A_COMMAND
        self._thread = threading.Thread(target=self._pass_on, name="engine-log", daemon=True)

    def start(self) -> None:
        """To be called when the engine has its end of the pipe."""
        os.close(self.writing)
        self._thread.start()

    def next_command(self) -> None:
        """What the next command may write is counted anew."""
        self._left = MAX_BYTES_A_COMMAND

    def close(self, seconds: float) -> None:
        """Waits until all is passed on, when the engine has ended."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _pass_on(self) -> None:
        with os.fdopen(self._reading, "rb") as pipe:
            while line := pipe.readline(MAX_LINE_BYTES):
                had, self._left = self._left, self._left - len(line)
                if self._left >= 0:
                    _write(_printable(line))
                elif had >= 0:
                    _write("(this command has written too much; the rest is dropped)")


def _printable(line: bytes) -> str:
    """On one line, with no character that moves a cursor."""
    text = line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # the worker's own stream may be closed at its end
        sys.stderr.write(f"{PREFIX}{text}\n")
        sys.stderr.flush()
