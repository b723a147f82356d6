"""The job's own directory: made when the job starts, gone when it is over, whatever happened in
between.

Several workers may share a work root. Every name in it holds the process id of its worker, so that
each sweeps up after the dead and never after the living.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

logger = logging.getLogger(__name__)

JOB, ENGINE = "job", "engine"
LOCAL = "gpu_worker"
"""Of a run without a worker: it stands in a folder that is not ours, mostly the system's for
temporary files."""
_OURS = re.compile(r"[a-z_]+-(?P<owner>[0-9]{1,10})(-[0-9a-f]{16})?")
"""What `JobDirectory` and `engine_home` call theirs."""
RESULT_NAME = "result.json"
"""Where in the directory the engine leaves the processor's result."""


class JobDirectory:
    """A fresh directory under `root`, removed with everything in it on exit. Its name holds nothing
    that the task chose."""

    def __init__(self, root: Path, kind: str = JOB) -> None:
        self.path = root / f"{kind}-{os.getpid()}-{uuid.uuid4().hex[:16]}"

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        def keep_going(_function: object, path: str, _info: object) -> None:
            logger.error("could not remove a file of a finished job under %s", Path(path).parent)

        shutil.rmtree(self.path, onerror=keep_going)


def engine_home(root: Path) -> Path:
    """Where this worker's engine keeps its caches."""
    return root / f"{ENGINE}-{os.getpid()}"


def sweep(root: Path, kinds: Sequence[str] = (JOB, ENGINE)) -> int:
    """Removes what dead workers left under `root`. Call it once at start, before any job. Returns
    how many directories."""
    leftovers = [
        path
        for kind in kinds
        for path in root.glob(f"{kind}-*")
        if (owner := _owner(path)) and not _in_use(owner)
    ]
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return len(leftovers)


def _owner(path: Path) -> int | None:
    """The process that made it; None when the name is none of ours: the root may be a folder with
    files of another program in it."""
    ours = _OURS.fullmatch(path.name)
    return int(ours["owner"]) if ours else None


def _in_use(owner: int) -> bool:
    """Whether another process that is alive made it. Our own id in a name at start is a former
    container's."""
    return owner != os.getpid() and Path("/proc", str(owner)).exists()
