"""The job's own directory: made when the job starts, gone when it is over, whatever happened in between."""

from __future__ import annotations

import logging
import shutil
import uuid
from pathlib import Path
from types import TracebackType

logger = logging.getLogger(__name__)

PREFIX = "job-"
RESULT_NAME = "result.json"
"""Where in the directory the engine leaves the processor's result."""


class JobDirectory:
    """A fresh directory under `root`, removed with everything in it on exit. Its name holds nothing that the task chose."""

    def __init__(self, root: Path) -> None:
        self.path = root / f"{PREFIX}{uuid.uuid4().hex[:16]}"

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        return self.path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        def keep_going(_function: object, path: str, _info: object) -> None:
            logger.error("could not remove a file of a finished job under %s", Path(path).parent)

        shutil.rmtree(self.path, onerror=keep_going)


def sweep(root: Path) -> int:
    """Removes what a killed worker left under `root`. Call it once at start, before any job. Returns how many jobs' worth."""
    leftovers = list(root.glob(f"{PREFIX}*")) if root.is_dir() else []
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return len(leftovers)
