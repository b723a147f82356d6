"""How one of many tasks ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from gpu_worker_client.async_job import R
from gpu_worker_client.protocol.errors import GpuWorkerError


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What `map` yields for a task: its result or its error."""

    index: int
    """The task's position among those given, from 0."""
    result: R | None = None
    error: GpuWorkerError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def get(self) -> R:
        """The result, or the error raised."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result
