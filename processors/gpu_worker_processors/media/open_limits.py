"""How much time and memory the opening of a stranger's file may take.

For each tag libavformat searches all that it has read so far, and no call into it can be
interrupted: 80,000 comments in a megabyte keep it busy for a minute. So a thread watches the
opening, and ends the process when it takes too much. That is an engine, which its parent replaces;
the exit status says why.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits

TOOK_TOO_LONG, TOOK_TOO_MUCH_MEMORY = 113, 114
"""Exit statuses, of no other meaning here: 1 and 2 are Python's, from 128 on they are signals."""
_MAX_TAGS = 5_000
"""FFmpeg takes 0.2 s to read so many, and four times as long for twice as many."""
_WATCH_SECONDS = 0.02
"""Between two measurements. Memory can be taken at 2 GB/s: 40 MB more than the limit."""
_DATA_FIELD = 5
"""Of /proc/self/statm: pages of private memory that can be written to, as proc(5) numbers it."""


@contextmanager
def limited(limits: Limits, *, memory: bool) -> Generator[None]:
    """Ends this process when the block takes more CPU time in this thread, or with `memory` more
    memory in the whole process, than an opening may."""
    over = threading.Event()
    clock = time.pthread_getcpuclockid(threading.get_ident())
    last = time.clock_gettime(clock) + limits.max_open_seconds
    most = _data_bytes() + limits.max_open_bytes if memory else None

    def watch() -> None:
        while not over.wait(_WATCH_SECONDS):
            if time.clock_gettime(clock) > last:
                os._exit(TOOK_TOO_LONG)
            if most is not None and _data_bytes() > most:
                os._exit(TOOK_TOO_MUCH_MEMORY)

    watching = threading.Thread(target=watch, name="open-limits", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()  # the clock is gone with this thread


def check_tags(count: int) -> None:
    """
    Raises:
        TaskError: `media_limit`: a file with so many tags is not opened again.
    """
    if count > _MAX_TAGS:
        raise TaskError(
            ErrorCode.media_limit,
            f"the file has {count} tags, and a job takes {_MAX_TAGS}; remux it without its"
            " metadata",
            limit=_MAX_TAGS,
        )


def error_of(status: int, limits: Limits) -> TaskError | None:
    """What an engine that ended with this status died of; None when it was no limit of these."""
    if status == TOOK_TOO_LONG:
        most = f"{limits.max_open_seconds:g} s of CPU time"
    elif status == TOOK_TOO_MUCH_MEMORY:
        most = f"{limits.max_open_bytes // 1024**2} MiB of memory"
    else:
        return None
    return TaskError(
        ErrorCode.media_limit,
        f"opening the file takes more than {most}: its header or its tags are too large; remux it"
        " without its metadata",
    )


def _data_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[_DATA_FIELD]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
