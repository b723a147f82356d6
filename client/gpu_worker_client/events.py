"""What `Job.events()` yields, and the watcher that makes it of polls of a job and of health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from gpu_worker_client.protocol import Progress, State
from gpu_worker_client.status import JobStatus


@dataclass(frozen=True)
class Queued:
    """The job waits for a worker; also when its worker died and it waits for another. Sent again
    when `position` falls."""

    status: JobStatus
    position: int | None = None
    """Position in the queue at most: 1 is the next one. RunPod says how many jobs wait, not in
    which order, so jobs queued behind this one may be counted until its position falls. None when
    the endpoint did not say."""


@dataclass(frozen=True)
class ColdStart:
    """The job waits, no worker is ready, and one is being started for it. Sent once a wait."""

    status: JobStatus


@dataclass(frozen=True)
class Started:
    """A worker has taken the job."""

    status: JobStatus


@dataclass(frozen=True)
class ProgressEvent:
    """The worker reported how far it is. `progress.seq` rises from event to event."""

    progress: Progress


@dataclass(frozen=True)
class Finished:
    """The last event. `status.state` says how it ended; `Job.result()` has the result."""

    status: JobStatus


Event = Queued | ColdStart | Started | ProgressEvent | Finished


@dataclass(frozen=True)
class Health:
    """What an answer of `/health` says of the queue.
    https://docs.runpod.io/serverless/endpoints/operation-reference"""

    waiting: int | None
    """Jobs in the queue."""
    starting: bool
    """No worker is ready or busy, and one is being started."""
    at_work: bool = False
    """A job waits or runs."""

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Health:
        jobs, workers = _counts(answer.get("jobs")), _counts(answer.get("workers"))
        up = sum(workers.get(state, 0) for state in ("idle", "ready", "running"))
        return cls(
            waiting=jobs.get("inQueue"),
            starting=up == 0 and workers.get("initializing", 0) > 0,
            at_work=any(jobs.get(state, 0) for state in ("inQueue", "inProgress")),
        )


def _counts(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    entries = cast("dict[str, object]", value).items()
    return {name: count for name, count in entries if type(count) is int and count >= 0}


class Watcher:
    """Turns polls of a job into events: each change once, and no progress that came late."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._worker_id: str | None = None
        self._seq = -1
        self._position: int | None = None
        self._cold = False

    def see(self, status: JobStatus, health: Health | None = None) -> list[Event]:
        """The events that this poll brings. `health` counts while the job is queued."""
        if status.state.is_final:
            return [Finished(status)]
        # Another worker counts its reports from the start again.
        moved = status.worker_id is not None and self._worker_id not in (None, status.worker_id)
        new = status.state is not self._state or moved
        if new:
            self._seq, self._position, self._cold = -1, None, False
        self._state = status.state
        self._worker_id = status.worker_id or self._worker_id
        if status.state is State.queued:
            return self._waiting(status, health, new)
        events: list[Event] = [Started(status)] if new else []
        if status.progress is not None and status.progress.seq > self._seq:
            self._seq = status.progress.seq
            events.append(ProgressEvent(status.progress))
        return events

    def _waiting(self, status: JobStatus, health: Health | None, new: bool) -> list[Event]:
        ahead = health.waiting if health else None
        nearer = bool(ahead) and (self._position is None or ahead < self._position)
        if nearer:
            self._position = ahead
        events: list[Event] = [Queued(status, self._position)] if new or nearer else []
        if health is not None and health.starting and not self._cold:
            self._cold = True
            events.append(ColdStart(status))
        return events
