"""Files on their way out: written whole or not at all, and what a disk says as typed
errors."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
        raise TaskError(
            ErrorCode.resource_exhausted, f"the worker cannot write to its disk ({name})"
        ) from error


@contextmanager
def atomic_file(path: Path, where: str) -> Generator[BinaryIO]:
    """A file that appears under its name when the block ends well, whole, and not at all
    otherwise."""
    try:
        handle, name = tempfile.mkstemp(prefix=".gpu-worker-", dir=path.parent)
    except OSError as error:
        raise TaskError(
            ErrorCode.upload_failed,
            f"{where}: cannot write into the folder of this path",
            path=where,
        ) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
