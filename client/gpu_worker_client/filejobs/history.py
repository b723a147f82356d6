"""What past jobs took, here and on the endpoint: a small file of JSON lines, and the estimate that
`worth_it` makes from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu_worker_client._atomic_file import atomic_file

Where = Literal["remote", "local"]

MAX_FILE_BYTES = 512 * 1024
"""A longer file is cut to its newer half: some 1500 jobs."""
NEIGHBOURS = 5
"""Past jobs, those nearest in size, that an estimate rests on."""
_log = logging.getLogger("gpu_worker_client")


class PastJob(BaseModel):
    """One job that succeeded."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    kind: str
    """What takes alike long: the task, and its model where it has one, "upscale/lite"."""
    where: Where
    input_bytes: int = Field(ge=1)
    work_seconds: float = Field(ge=0)
    """From the end of the upload to the output being here: queue, work, download. Locally the
    whole."""
    upload_bytes: int = Field(default=0, ge=0)
    """0 locally, and where the bucket had the input."""
    upload_seconds: float = Field(default=0.0, ge=0)


class History:
    """Past jobs in a file. What cannot be read or written is left out: nothing but the choice of
    path depends on it.

    Args:
        path: made when needed; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def add(self, job: PastJob) -> None:
        """Appends one line, in one write: several processes may share the file."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(job.model_dump_json().encode() + b"\n")
            if self.path.stat().st_size > MAX_FILE_BYTES:
                self._shorten(self.path)
        except OSError as error:
            _log.debug("the history of jobs could not be written: %s", error)

    def jobs(self) -> list[PastJob]:
        """Oldest first. A line that is damaged, or a newer version's, is left out."""
        try:
            lines = self.path.read_bytes()[-2 * MAX_FILE_BYTES :].splitlines() if self.path else []
        except OSError:
            return []
        found: list[PastJob] = []
        for line in lines:
            with suppress(ValidationError):
                found.append(PastJob.model_validate_json(line))
        return found

    @staticmethod
    def _shorten(path: Path) -> None:
        rest = path.read_bytes()[-MAX_FILE_BYTES // 2 :].partition(b"\n")[2]
        with atomic_file(path, mode=0o600) as file:
            file.write(rest)


def expected_seconds(
    jobs: Sequence[PastJob], kind: str, where: Where, input_bytes: int
) -> float | None:
    """Seconds of work on an input of this size: the median of the jobs nearest in size, each scaled
    to it. None without any."""
    alike = [job for job in jobs if job.kind == kind and job.where == where]
    nearest = sorted(alike, key=lambda job: abs(math.log(job.input_bytes / max(1, input_bytes))))[
        :NEIGHBOURS
    ]
    return (
        median(job.work_seconds * input_bytes / job.input_bytes for job in nearest)
        if nearest
        else None
    )


def measured_bandwidth(jobs: Sequence[PastJob]) -> float | None:
    """Bytes a second of the uploads last made, their median; None when none took any time."""
    rates = [
        job.upload_bytes / job.upload_seconds
        for job in jobs
        if job.upload_bytes and job.upload_seconds > 0
    ]
    return median(rates[-NEIGHBOURS:]) if rates else None
