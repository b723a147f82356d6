"""One call at a time for one output: two would write into one folder, and each would delete what
the other needs. Seen within this process; between processes it is the caller's to see to."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gpu_worker_client.split.errors import SplitError

_lock = threading.Lock()
_in_work: set[Path] = set()


@contextmanager
def locked(output: Path) -> Generator[None, None, None]:
    """A block that makes the output.

    Raises:
        SplitError: `busy`.
    """
    target = output.resolve()
    with _lock:
        if target in _in_work:
            raise SplitError(
                "busy",
                f"another call is making {output.name}, or cleaning up after it was cancelled; wait"
                " for it",
            )
        _in_work.add(target)
    try:
        yield
    finally:
        with _lock:
            _in_work.remove(target)
