"""The states of a job in the queue, and which may follow which; docs/queue.md draws the table."""

from __future__ import annotations

from enum import Enum

from gpu_worker_client.errors import GpuWorkerError
from gpu_worker_client.protocol import State


class QueueState(str, Enum):
    """Where a job of the queue is. The words of the manifest and of `status`."""

    pending = "pending"
    processing = "processing"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"
    imported = "imported"

    @property
    def is_final(self) -> bool:
        """A result is there: only `imported` may still follow."""
        return self not in (QueueState.pending, QueueState.processing)

    @property
    def state(self) -> State:
        """The same in the words that jobs of an endpoint have."""
        return _STATES[self]


_STATES = {
    QueueState.pending: State.queued,
    QueueState.processing: State.running,
    QueueState.completed: State.completed,
    QueueState.failed: State.failed,
    QueueState.cancelled: State.cancelled,
    QueueState.imported: State.imported,
}

_S = QueueState
TRANSITIONS: dict[QueueState, frozenset[QueueState]] = {
    _S.pending: frozenset({_S.processing, _S.failed, _S.cancelled}),
    _S.processing: frozenset({_S.pending, _S.completed, _S.failed, _S.cancelled}),
    _S.completed: frozenset({_S.imported}),
    _S.failed: frozenset(),
    _S.cancelled: frozenset(),
    _S.imported: frozenset(),
}
"""State -> states that may follow. Back to pending: the worker shut down, was lost, or failed in a
way that may pass. Pending to failed: it was tried three times."""


class WrongState(GpuWorkerError):
    """A job is in a state from which it cannot go where it was asked to."""

    def __init__(self, job_id: str, now: QueueState, wanted: QueueState) -> None:
        super().__init__(f"job {job_id} is {now.value} and cannot become {wanted.value}")
        self.now = now


def check_transition(job_id: str, now: QueueState, wanted: QueueState) -> None:
    """Raises WrongState: `wanted` may not follow `now`."""
    if wanted not in TRANSITIONS[now]:
        raise WrongState(job_id, now, wanted)
