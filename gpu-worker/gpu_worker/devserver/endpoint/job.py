"""One job of the queue and one worker of it: plain data, and what the API shows of a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gpu_worker.devserver.limits import Policy


class Status(str, Enum):
    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        return self not in (Status.IN_QUEUE, Status.IN_PROGRESS)


@dataclass
class Job:
    id: str
    input: Any
    policy: Policy
    sync: bool
    submitted_at: float
    webhook: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Other top-level keys of the request (`s3Config`, ...); handed to the worker as they are."""
    status: Status = Status.IN_QUEUE
    started_at: float | None = None
    finished_at: float | None = None
    worker_id: str | None = None
    """Who runs it, or ran it last."""
    answer: dict[str, Any] = field(default_factory=dict[str, Any])
    """`output` and `error`, each only when there is one. While running, `output` is the last
    progress."""
    stream: deque[Any] = field(default_factory=deque[Any])
    deliveries: int = 0
    """How often a worker took it; more than one after a lost worker or a retry."""
    history: list[str] = field(default_factory=list[str])
    """What happened, in order: states, "progress", "late_progress", "late_result",
    "result_refused", "redelivered"."""

    def enter(self, status: Status) -> None:
        self.status = status
        self.history.append(status.value)

    def public(self) -> dict[str, Any]:
        """The job as /status shows it."""
        shown: dict[str, Any] = {"id": self.id, "status": self.status.value}
        if self.started_at is not None:
            shown["delayTime"] = _milliseconds(self.started_at - self.submitted_at)
            shown["workerId"] = self.worker_id
            if self.finished_at is not None:
                shown["executionTime"] = _milliseconds(self.finished_at - self.started_at)
        return {**shown, **self.answer}


@dataclass
class WorkerRecord:
    id: str
    last_seen: float
    running: set[str] = field(default_factory=set[str])
    leaving: bool = False
    """Its last result asked for a fresh worker: it gets no more jobs."""
    to_stop: list[str] = field(default_factory=list[str])
    """Jobs that its next job-stop poll names."""


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
