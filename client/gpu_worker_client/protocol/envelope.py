"""What every task and every answer has in common: URLs, headers, states, progress, timings, cost."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from gpu_worker_client.protocol.models import Reply, Url, Wire

SCHEMA_VERSION = 1
MIN_PART_BYTES = 5 * 1024 * 1024
"""Smallest part of a multipart upload but the last. https://developers.cloudflare.com/r2/objects/multipart-objects/"""
MAX_PARTS = 10_000
"""Most parts of one multipart upload, same source."""

HeaderMap = dict[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")],
    Annotated[str, StringConstraints(max_length=2048, pattern=r"^[\t\x20-\x7e]*$")],
]
"""Header names are RFC 9110 tokens; values are printable ASCII, so no header can be smuggled in."""


class State(str, Enum):
    """Where a job stands, as the client reports it."""

    queued = "queued"
    running = "running"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"
    timed_out = "timed_out"
    expired = "expired"
    imported = "imported"

    @property
    def is_final(self) -> bool:
        """No later state will follow."""
        return self not in (State.queued, State.running)

    @classmethod
    def from_runpod(cls, status: str) -> State:
        """Maps RunPod's status. An unknown one counts as running: polling goes on until a final one or the deadline."""
        return _FROM_RUNPOD.get(status, State.running)


_FROM_RUNPOD = {
    "IN_QUEUE": State.queued,
    "IN_PROGRESS": State.running,
    "RUNNING": State.running,
    "COMPLETED": State.completed,
    "FAILED": State.failed,
    "CANCELLED": State.cancelled,
    "TIMED_OUT": State.timed_out,
}


class TaskHeaders(Wire):
    """Headers that were signed into a URL and must be sent with it."""

    input: HeaderMap = {}
    output: HeaderMap = {}
    result: HeaderMap = {}


class UploadPart(Wire):
    n: int = Field(ge=1, le=MAX_PARTS)
    """Part number, from 1."""
    url: Url


class CompleteUpload(Wire):
    url: Url
    """Presigned CompleteMultipartUpload (POST)."""


class OutputMultipart(Wire):
    """Presigned parts for an output that may exceed one PUT (4.9 GiB). All parts but the last have `part_size` bytes."""

    part_size: int = Field(ge=MIN_PART_BYTES, le=5 * 1024**3)
    parts: list[UploadPart] = Field(min_length=1, max_length=MAX_PARTS)
    complete: CompleteUpload | None = None
    """Absent: the answer lists `{n, etag}` in `output_parts` and the backend completes the upload itself."""

    @model_validator(mode="after")
    def _numbers_rise_from_one(self) -> OutputMultipart:
        if [part.n for part in self.parts] != list(range(1, len(self.parts) + 1)):
            raise ValueError("part numbers must be 1, 2, 3, ... in order")
        return self


class TaskBase(Wire):
    """Fields of every task."""

    task: str
    schema_version: Literal[1] = SCHEMA_VERSION
    result_url: Url | None = None
    """PUT for the whole result JSON; gzip when its path ends in `.gz`."""
    result_get_url: Url | None = None
    """GET of the same object: a finished result with the same `idempotency_key` is returned without GPU work."""
    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = None
    headers: TaskHeaders = TaskHeaders()

    @model_validator(mode="after")
    def _deduplication_is_whole(self) -> TaskBase:
        if self.result_get_url is not None and (self.idempotency_key is None or self.result_url is None):
            raise ValueError("result_get_url needs idempotency_key and result_url")
        return self


class InputTask(TaskBase):
    """A task that reads one object."""

    input_url: Url
    """GET; presigned."""


class FileTask(InputTask):
    """A task that reads one object and writes one."""

    output_url: Url | None = None
    """PUT; presigned. Its path's suffix chooses the container."""
    output_multipart: OutputMultipart | None = None

    @model_validator(mode="after")
    def _one_output_that_is_not_an_input(self) -> FileTask:
        if (self.output_url is None) == (self.output_multipart is None):
            raise ValueError("give exactly one of output_url and output_multipart")
        outputs = [self.output_url] if self.output_url else [p.url for p in self.output_multipart.parts[:1]]  # type: ignore[union-attr]
        if same_object(self.input_url, outputs[0]):
            raise ValueError("the output is the input object; give it a key of its own")
        if self.result_url is not None and same_object(self.result_url, outputs[0]):
            raise ValueError("result_url and the output are the same object")
        return self


def same_object(first: str, second: str) -> bool:
    """Whether two presigned URLs name one stored object: equal but for query and fragment."""
    try:
        a, b = urlsplit(first), urlsplit(second)
    except ValueError:  # the worker's URL check names what is wrong with it
        return first == second
    return (a.scheme, a.netloc.lower(), a.path) == (b.scheme, b.netloc.lower(), b.path)


class Progress(Reply):
    """One progress report of a running job."""

    seq: int
    """Rises with every report of a job; a lower one came late and is to be ignored."""
    stage: Literal["fetch", "load", "process", "encode", "deliver"]
    fraction: float | None = None
    """0..1 of this stage, None when the total is not known."""
    done: int = 0
    total: int | None = None
    unit: str = ""
    """What `done` counts: "frames", "bytes"."""
    fps: float | None = None
    eta_sec: float | None = None


class Timings(Reply):
    """Seconds spent per stage of the job."""

    fetch_sec: float = 0.0
    load_sec: float = 0.0
    process_sec: float = 0.0
    deliver_sec: float = 0.0
    cold_start: bool = False
    """The engine process was started for this job."""


class Cost(Reply):
    gpu: str | None = None
    gpu_seconds: float = 0.0
    usd_per_second: float | None = None
    """From the operator's price table; None when the GPU is not in it."""
    usd: float | None = None


class WorkerInfo(Reply):
    version: str
    device: str
    """"cuda:0" or "cpu"."""
    encoder: str | None = None
    """Video encoder used, "h264_nvenc" or "libx264" for example."""
    fallback_reason: str | None = None
    """Why a slower device or encoder than the best of this machine's kind was taken."""


class ResultWarning(Reply):
    """Something the caller should know about a result that is nevertheless right."""

    code: str
    message: str


class OutputPart(Reply):
    n: int
    etag: str


class Stats(Reply):
    processing_time_sec: float = 0.0
    """Wall time of the processor, without fetch and deliver."""


class TaskResult(Reply):
    """Fields of every answer. A task's module adds its own."""

    status: Literal["completed"] = "completed"
    task: str
    output_url: str | None = None
    """Where the file went, without the query: a PUT signature never leaves the worker."""
    output_parts: list[OutputPart] | None = None
    """Parts uploaded to an `output_multipart` without `complete`."""
    result_url: str | None = None
    """Where the whole result went, when it was asked for; the answer then may hold only `stats` and counts."""
    deduplicated: bool = False
    """This is an earlier job's result with the same `idempotency_key`."""
    idempotency_key: str | None = None
    timings: Timings | None = None
    cost: Cost | None = None
    worker: WorkerInfo | None = None
    warnings: list[ResultWarning] = []
