"""What past jobs took, here and on the endpoint: a small file of JSON lines, and what `worth_it`
expects of the next job by it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu_worker_client.files.work import atomic_file

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
                newer = self.path.read_bytes()[-MAX_FILE_BYTES // 2 :].partition(b"\n")[2]
                with atomic_file(self.path, mode=0o600) as shorter:
                    shorter.write(newer)
        except OSError as error:
            _log.debug("the history of jobs could not be written: %s", error)

    def jobs(self) -> list[PastJob]:
        """Oldest first. A line that is damaged, or a newer version's, is left out."""
        found: list[PastJob] = []
        if self.path is None:
            return found
        with suppress(OSError):
            for line in self.path.read_bytes()[-2 * MAX_FILE_BYTES :].splitlines():
                with suppress(ValidationError):
                    found.append(PastJob.model_validate_json(line))
        return found


def expected_seconds(
    jobs: Sequence[PastJob], kind: str, where: Where, input_bytes: int
) -> float | None:
    """Seconds of work on an input of this size: the median of the jobs nearest in size, each scaled
    to it. None without any."""
    alike = [job for job in jobs if job.kind == kind and job.where == where]
    alike.sort(key=lambda job: abs(math.log(job.input_bytes / max(1, input_bytes))))
    scaled = [job.work_seconds * input_bytes / job.input_bytes for job in alike[:NEIGHBOURS]]
    return median(scaled) if scaled else None


def measured_bandwidth(jobs: Sequence[PastJob]) -> float | None:
    """Bytes a second of the uploads last made, their median; None when none took any time."""
    uploads = [job for job in jobs if job.upload_bytes and job.upload_seconds > 0]
    rates = [job.upload_bytes / job.upload_seconds for job in uploads]
    return median(rates[-NEIGHBOURS:]) if rates else None


@dataclass(frozen=True)
class Verdict:
    """Whether a job is worth sending, and why."""

    worth: bool
    reason: str
    """For a person."""
    remote_seconds: float | None = None
    """Expected from start to end, upload included; None when nothing is known."""
    local_seconds: float | None = None

    def __bool__(self) -> bool:
        return self.worth


def worth_it(
    input_bytes: int, kind: str, bandwidth: float | None = None, jobs: Sequence[PastJob] = ()
) -> Verdict:
    """Whether an endpoint is likely to be done sooner than this machine, upload included, judged by
    past jobs.

    Args:
        input_bytes: to upload.
        kind: `PastJob.kind`.
        bandwidth: bytes a second of the way up; None takes the measured one.
        jobs: `History.jobs()`.
    """
    here = expected_seconds(jobs, kind, "local", input_bytes)
    there = expected_seconds(jobs, kind, "remote", input_bytes)
    bandwidth = bandwidth or measured_bandwidth(jobs)
    upload = input_bytes / bandwidth if bandwidth else 0.0
    remote = None if there is None else there + upload
    if here is None:
        worth, reason = True, "nothing is known of this machine's speed"
    elif bandwidth and upload >= here:
        worth, reason = False, f"the upload alone takes {upload:.0f} s, the work here {here:.0f} s"
    elif remote is None:
        worth, reason = True, "nothing is known of the endpoint's speed"
    else:
        worth, reason = remote < here, f"expected {remote:.0f} s there, {here:.0f} s here"
    return Verdict(worth, reason, remote, here)
