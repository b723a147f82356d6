"""What work on files, whole or split, needs of a client. `AsyncClient` and `Client` have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from gpu_worker_client.events import Event
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import AnsweredBy, TaskBase, TaskResult
from gpu_worker_client.status import JobStatus

if TYPE_CHECKING:  # a program without a bucket loads none of it
    from gpu_worker_client.storage import Storage

R = TypeVar("R", bound=TaskResult)
R_co = TypeVar("R_co", bound=TaskResult, covariant=True)


class RemoteJob(Protocol[R_co]):
    """A job on the endpoint."""

    id: str

    async def result(self) -> R_co: ...
    async def cancel(self, timeout: float | None = None) -> JobStatus: ...


class TaskClient(Protocol):
    """A client of one endpoint, with a bucket."""

    @property
    def storage(self) -> Storage: ...

    async def submit(
        self, task: AnsweredBy[R], *, policy: Policy | None = None
    ) -> RemoteJob[R]: ...

    async def run(
        self,
        task: TaskBase,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> TaskResult: ...

    def job(self, job_id: str, task: AnsweredBy[R]) -> RemoteJob[R]: ...


class BlockingClient(Protocol):
    """A client whose calls block, carried out by another."""

    @property
    def core(self) -> TaskClient: ...
