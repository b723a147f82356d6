"""The local stand-ins for a URL: a file read in, a file put in place whole. Only where the policy allows local files."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gpu_worker.transfer.guard import Guard
from gpu_worker.transfer.limits import MIB
from gpu_worker_client.protocol import ErrorCode, TaskError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room, no quota, or over the process's file size limit."""


@contextmanager
def disk_errors() -> Generator[None]:
    """Turns a failed write into `disk_full`, or `resource_exhausted` for another reason."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = "the worker's disk is full; use a larger container disk or smaller inputs"
            raise TaskError(ErrorCode.disk_full, message) from error
        name = errno.errorcode.get(error.errno or 0, "unknown")
        raise TaskError(ErrorCode.resource_exhausted, f"the worker cannot write to its disk ({name})") from error


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
        raise TaskError(ErrorCode.input_not_found, f"{where}: no readable file at this path", path=where) from error


def copy_bytes(source: BinaryIO, dest: BinaryIO, guard: Guard, done: Callable[[int], None]) -> None:
    """Copies to the end. Never links: the reader of the copy must not be able to write to the original."""
    while piece := source.read(MIB):
        guard.check()
        with disk_errors():
            dest.write(piece)
        done(len(piece))
    with disk_errors():
        dest.flush()


@contextmanager
def atomic_file(path: Path, where: str) -> Generator[BinaryIO]:
    """A file that appears under its name when the block ends well, whole, and not at all otherwise."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise TaskError(ErrorCode.upload_failed, f"{where}: cannot write into the folder of this path", path=where) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
