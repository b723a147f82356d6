"""Opens what the engine made. The engine parses hostile media, so its files are read as if an
attacker had laid them out."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from gpu_worker_client.protocol import ErrorCode, TaskError


def open_made(path: Path) -> BinaryIO:
    """A regular file under its own name: no link to a file that only the worker may read, no pipe
    that blocks its reader.

    Raises:
        TaskError: `output_invalid`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TaskError(
            ErrorCode.output_invalid, f"the engine left no readable file {path.name}"
        ) from error
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        os.close(fd)
        raise TaskError(
            ErrorCode.output_invalid, f"what the engine left as {path.name} is no file of its own"
        )
    return os.fdopen(fd, "rb")
