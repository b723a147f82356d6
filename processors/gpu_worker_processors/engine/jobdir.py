"""The job's own directory: made when the job starts, gone when it is over, whatever happened in
between.

Several workers may share a work root. Each has a folder in it, and its engine sees no other. Every
name holds the process id of its worker, so that each sweeps up after the dead and never after the
living.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

logger = logging.getLogger(__name__)

JOB, ENGINE, WORKER = "job", "engine", "worker"
LOCAL = "gpu_worker"
"""Of a run without a worker: it stands in a folder that is not ours, mostly the system's for
temporary files."""
_OURS = re.compile(r"[a-z_]+-(?P<owner>[0-9]{1,10})(-[0-9a-f]{16})?")
"""What `JobDirectory` and `worker_root` call theirs."""
RESULT_NAME = "result.json"
"""Where in the directory the engine leaves the processor's result."""


REMOVE_SECONDS = 30.0
"""Longest that removing one folder takes: the engine that fills it may live. A hundred thousand
files took 7.5 s on two busy cores."""
ANSWER_WAITS_SECONDS = 0.5
"""Longest that a job's answer waits for the removal of its directory: a hundred times what a few
large files take. The rest goes beside the next job."""


class JobDirectory:
    """A fresh directory under `root`, of one job or one engine, removed with everything in it on
    exit. Its name holds nothing that the task chose."""

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
        if not _removed(self.path, ANSWER_WAITS_SECONDS):
            threading.Thread(target=remove, args=(self.path,), name="remove", daemon=True).start()


def worker_root(root: Path) -> Path:
    """Makes and gives this worker's folder under a work root that several share. Another user, as
    which its engine runs, passes through and cannot list it."""
    own = root / f"{WORKER}-{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    own.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return own


def sweep(root: Path, kinds: Sequence[str] = (JOB, ENGINE, WORKER)) -> int:
    """Removes what dead workers left under `root`. Call it once at start, before any job. Returns
    how many directories."""
    leftovers = [
        path
        for kind in kinds
        for path in root.glob(f"{kind}-*")
        if (owner := _owner(path)) and not _in_use(owner)
    ]
    for path in leftovers:
        remove(path)
    return len(leftovers)


def remove(folder: Path) -> None:
    """Removes a folder that the engine could write, with everything in it. Never raises: what stays
    is logged, and the next start tries again."""
    if not _removed(folder, REMOVE_SECONDS):
        logger.error("could not remove all of %s", folder)


def _removed(folder: Path, seconds: float) -> bool:
    """Removes what it can of a folder in that time. Returns whether that was all.

    `shutil.rmtree` before Python 3.13 recurses, so a thousand folders inside each other end it.
    Here inner folders are moved up before they are emptied. Everything goes by descriptors, as the
    engine may still be changing names for links.
    """
    deadline = time.monotonic() + seconds
    try:
        top = _open_folder(str(folder), None)
        try:
            while _emptied(top, top, deadline):
                pass
        finally:
            os.close(top)
        folder.rmdir()
    except OSError:
        return False
    return True


def _emptied(folder: int, top: int, deadline: float) -> int:
    """Removes the files of a folder, and moves its folders into `top`, or empties and removes those
    that are there already. Returns how many entries it has lost; 0 when the time is over."""
    lost = 0
    for name in os.listdir(folder):
        if time.monotonic() > deadline:
            return 0
        with suppress(OSError):  # what is left is found when the folder itself is removed
            try:
                os.unlink(name, dir_fd=folder)
            except IsADirectoryError:
                inner = _open_folder(name, folder)
                try:
                    if folder == top:
                        _emptied(inner, top, deadline)
                        os.rmdir(name, dir_fd=top)
                    else:
                        os.rename(name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=top)
                finally:
                    os.close(inner)
            lost += 1
    return lost


def _open_folder(name: str, parent: int | None) -> int:
    """A descriptor of a folder that is no link, made readable: its owner may have locked himself
    out."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        with suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101 - a descriptor
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(handle)


def _owner(path: Path) -> int | None:
    """The process that made it; None when the name is none of ours: the root may be a folder with
    files of another program in it."""
    ours = _OURS.fullmatch(path.name)
    return int(ours["owner"]) if ours else None


def _in_use(owner: int) -> bool:
    """Whether another process that is alive made it. Our own id in a name at start is a former
    container's."""
    return owner != os.getpid() and Path("/proc", str(owner)).exists()
