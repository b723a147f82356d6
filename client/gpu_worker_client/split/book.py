"""Which job works on which segment, kept in a small file: a client that was killed finds its jobs
again by id."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, cast


class JobBook:
    """Segment's name -> job id. Every change is on disk before `note` returns; methods may be
    called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._jobs = _read(path)

    def job_id(self, name: str) -> str | None:
        """The job submitted last for a segment, here or by a client before."""
        with self._lock:
            return self._jobs.get(name)

    def note(self, name: str, job_id: str | None) -> None:
        """Remembers a job; None forgets it, so that the next attempt submits."""
        with self._lock:
            self._jobs.pop(name, None)
            if job_id is not None:
                self._jobs[name] = job_id
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(self._jobs))
            fresh.replace(self._path)


def _read(path: Path) -> dict[str, str]:
    """What is on disk; nothing where that is no such file. Nothing is lost then but the ids: a
    finished segment is found by its idempotency key all the same."""
    try:
        data: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    entries = cast(dict[object, object], data) if isinstance(data, dict) else {}
    return {
        key: value
        for key, value in entries.items()
        if isinstance(key, str) and isinstance(value, str)
    }
