"""What a worker says of a job: its state, its progress, what every result has in common, and the
event that it POSTs to a task's `webhook_url` when the job has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from typing_extensions import Self

from gpu_worker_client.protocol.base import Many, ResponseModel
from gpu_worker_client.protocol.errors import ErrorBody

BAR_CELLS = 30


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
        """Of RunPod's status. An unknown one counts as running: polling goes on."""
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


class Progress(ResponseModel):
    """One progress report of a running job."""

    seq: int
    """Rises with every report of a job; a lower one came late and is to be ignored."""
    stage: str
    """What the job is doing: "fetch", "load", "process", "encode", "deliver", or a newer worker's
    word."""
    fraction: float | None = None
    """0..1 of this stage, None when the total is not known."""
    done: int = 0
    """Units of this stage that are finished."""
    total: int | None = None
    """Units of this stage, None when not known."""
    unit: str = ""
    """What `done` counts: "frames", "bytes"."""
    fps: float | None = None
    """Frames per second, in the stages that count frames."""
    eta_sec: float | None = None
    """Seconds until this stage ends at its present rate."""

    def text(self) -> str:
        """`process  [####....] 45/160 frames, 9.7 frames/s, 12 s left`; no bar without a total."""
        meter = f"[{bar(self.fraction or 0.0)}] " if self.total else ""
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        rate = f", {self.fps:.1f} frames/s" if self.fps else ""
        left = f", {self.eta_sec:.0f} s left" if self.eta_sec else ""
        return f"{self.stage:8} {meter}{count} {self.unit}{rate}{left}"


def bar(share: float) -> str:
    """`share`, 0 to 1, in `BAR_CELLS` cells."""
    filled = round(min(1.0, max(0.0, share)) * BAR_CELLS)
    return "#" * filled + "." * (BAR_CELLS - filled)


class Timings(ResponseModel):
    """Seconds spent per stage of the job."""

    fetch_sec: float = 0.0
    """Reading the input."""
    load_sec: float = 0.0
    """Starting the engine and loading networks; overlaps the fetch."""
    process_sec: float = 0.0
    """The work itself."""
    deliver_sec: float = 0.0
    """Storing output and result."""
    cold_start: bool = False
    """The engine process was started for this job."""


class Cost(ResponseModel):
    gpu: str | None = None
    """The card's name; None on a CPU."""
    gpu_seconds: float = 0.0
    """Seconds the card was held for this job."""
    usd_per_second: float | None = None
    """From the operator's price table; None when the GPU is not in it."""
    usd: float | None = None
    """The product of both."""


class WorkerInfo(ResponseModel):
    version: str
    """Version of the package that ran the task."""
    device: str
    """"cuda:0" or "cpu"."""
    encoder: str | None = None
    """Video encoder used, "h264_nvenc" or "libx264" for example."""
    fallback_reason: str | None = None
    """Why a slower device or encoder than the best of this machine's kind was taken."""
    package: str | None = None
    """ "gpu-worker", or "gpu-worker-processors": a local run without the worker."""
    sandbox: str | None = None
    """How well the process that opened the media was sandboxed: "full", "partial", "none",
    "broken", or "off" as asked for."""


class ResultWarning(ResponseModel):
    """Something the caller should know about a result that is nevertheless right."""

    code: str
    """Stable name of the kind of warning."""
    message: str
    """One sentence."""


class OutputPart(ResponseModel):
    n: int
    """Part number, from 1."""
    etag: str
    """As storage returned it; CompleteMultipartUpload wants it."""


class Stats(ResponseModel):
    processing_time_sec: float = 0.0
    """Wall time of the processor, without fetch and deliver."""


class PackedTooMany(ValueError):
    """A few kilobytes of a compact form may hold ten million items."""


class TaskResult(ResponseModel):
    """Fields of every answer. A task's module adds its own."""

    status: Literal["completed"] = "completed"
    """A failed job has no answer but an error."""
    task: str
    """The task that was run."""
    output_url: str | None = None
    """Where the file went, without the query: a PUT signature never leaves the worker."""
    output_parts: Many[OutputPart] | None = None
    """Parts uploaded to an `output_multipart` without `complete`."""
    result_url: str | None = None
    """Where the whole result went, when it was asked for; the answer then may hold only `stats` and
    counts."""
    deduplicated: bool = False
    """This is an earlier job's result with the same `idempotency_key`."""
    idempotency_key: str | None = None
    """The task's own."""
    timings: Timings | None = None
    """Where the time went."""
    cost: Cost | None = None
    """What it cost."""
    worker: WorkerInfo | None = None
    """Who did it, and on what."""
    warnings: Many[ResultWarning] = []
    """Empty when there is nothing to say."""

    @classmethod
    def from_json(cls, data: bytes | str, max_packed: int | None = None) -> Self:  # noqa: ARG003 - nothing is packed here
        """Reads a result's JSON, a large one in little more memory than the text has. Raises
        ValueError: it is no such result; PackedTooMany: its compact form holds more items than
        `max_packed`."""
        return cls.model_validate_json(data)

    def json_pieces(self) -> Iterator[str]:
        """The result's JSON, piece by piece; together they are one line. Raises ValueError: a
        number is not finite."""
        yield json.dumps(self.model_dump(mode="json"), ensure_ascii=False, allow_nan=False)

    def packed(self) -> Self:
        """The same result in its most compact form: itself, unless its task has another."""
        return self


JOB_COMPLETED = "job.completed"
JOB_FAILED = "job.failed"


class WebhookData(ResponseModel):
    """What became of one job: `webhooks.WebhookEvent` explains the fields."""

    job_id: str
    task: str
    state: State
    idempotency_key: str | None = None
    result: dict[str, Any] | None = None
    partial: bool = False
    error: ErrorBody | None = None


class WebhookBody(ResponseModel):
    """The event's JSON, in the form that Standard Webhooks recommends."""

    type: str
    """`JOB_COMPLETED` or `JOB_FAILED`."""
    timestamp: datetime
    """When the job ended."""
    data: WebhookData
