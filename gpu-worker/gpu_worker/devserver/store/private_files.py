"""Files that no other user of the machine may read: a presigned URL is a secret for as long as it
lives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def create(path: Path) -> BinaryIO:
    """A new file for writing, that only this user can read. A file of that name is removed first:
    other users may have it open."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb")


def write_text(path: Path, text: str) -> None:
    with create(path) as file:
        file.write(text.encode())
