"""The local stand-in for a URL that is read: a file, copied. Only where the policy allows local
files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gpu_worker.transfer.limits import MIB
from gpu_worker.transfer.watchdog import Guard
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.atomic_file import disk_errors


def open_input(path: Path, where: str) -> BinaryIO:
    """Opens a regular file for reading.

    Raises:
        TaskError: `input_not_found`.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError
        return path.open("rb")
    except OSError as error:
        raise TaskError(
            ErrorCode.input_not_found, f"{where}: no readable file at this path", path=where
        ) from error


def copy_bytes(source: BinaryIO, dest: BinaryIO, guard: Guard, done: Callable[[int], None]) -> None:
    """Copies to the end. Never links: the reader of the copy must not be able to write to the
    original."""
    while piece := source.read(MIB):
        guard.check()
        with disk_errors():
            dest.write(piece)
        done(len(piece))
    with disk_errors():
        dest.flush()
