"""Where things are in a bucket that is a queue, and the ids of its jobs. Relative keys: the store
puts its own prefix before them.

    videos/ID.mp4          an input; one of several, or of another kind: videos/ID/NAME
    jobs/ID.json           the manifest, written once; from then on the job is submitted
    open/ID.json           jobs without a result, for workers to list
    claims/ID/N            attempt N belongs to whoever wrote it first
    leases/ID.json         who works on it, renewed every 20 seconds
    status/ID.json         progress, and in the end what became of it; nothing depends on it
    results/ID.json        the result, written once; from then on the job is final
    outputs/ID/N-NONCE/    files of one attempt; those that the result names are the job's
    imported/ID.json       the result is in a database
    wake                   replaced at each submit, so that idle workers need not list
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import floor
from typing import Annotated

from pydantic import StringConstraints

from gpu_worker_client.protocol.base import is_file_name

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$")]
"""Made by `new_job_id`, or the submitter's own."""

JOBS, OPEN, RESULTS, LEASES, IMPORTED = "jobs/", "open/", "results/", "leases/", "imported/"
"""Folders of one object a job, for listing."""
WAKE = "wake"
_RANDOM_DIGITS = 10


def new_job_id(now: datetime, random: Callable[[], float]) -> str:
    """`20260122T100000123-9f3ac27b01`: ids in the order of their texts are in the order of time.
    The random part separates jobs of one millisecond."""
    tail = floor(random() * 16**_RANDOM_DIGITS)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{tail:0{_RANDOM_DIGITS}x}"


def manifest_key(job_id: str) -> str:
    return f"{JOBS}{job_id}.json"


def open_key(job_id: str) -> str:
    return f"{OPEN}{job_id}.json"


def claim_key(job_id: str, attempt: int) -> str:
    return f"claims/{job_id}/{attempt}"


def lease_key(job_id: str) -> str:
    return f"{LEASES}{job_id}.json"


def status_key(job_id: str) -> str:
    return f"status/{job_id}.json"


def result_key(job_id: str) -> str:
    return f"{RESULTS}{job_id}.json"


def imported_key(job_id: str) -> str:
    return f"{IMPORTED}{job_id}.json"


def video_key(job_id: str, suffix: str = ".mp4") -> str:
    """Of a job's one video; `suffix` with its dot."""
    return f"videos/{job_id}{suffix}"


def input_key(job_id: str, name: str) -> str:
    """Of one of several inputs."""
    if not is_file_name(name):
        raise ValueError("an input's name must be a plain file name")
    return f"videos/{job_id}/{name}"


def output_key(job_id: str, attempt: int, nonce: str, name: str) -> str:
    """Of a file that an attempt makes. No two attempts write one key, so that what one that lost
    its lease has left behind is never read."""
    return f"outputs/{job_id}/{attempt}-{nonce}/{name}"


def job_id_of(key: str) -> str:
    """The job of a key in one of the listed folders."""
    return key.rpartition("/")[2].removesuffix(".json")


def prefixes_of(job_id: str) -> list[str]:
    """The prefixes of all objects of a job and of no other, in the order of deletion: the result is
    last, for a job without one might be claimed again."""
    return [
        f"videos/{job_id}.",
        f"videos/{job_id}/",
        f"claims/{job_id}/",
        f"outputs/{job_id}/",
        lease_key(job_id),
        status_key(job_id),
        open_key(job_id),
        manifest_key(job_id),
        imported_key(job_id),
        result_key(job_id),
    ]
