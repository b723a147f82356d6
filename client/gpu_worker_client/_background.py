"""An asynchronous call made by a blocking one, on an event loop of its own: so what does many
things at once, and can stop at every point, is written once for both clients."""

from __future__ import annotations

from collections.abc import Coroutine
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gpu_worker_client._job_core import JobCore
from gpu_worker_client._stop import Stop, run_until
from gpu_worker_client._threads import Threads
from gpu_worker_client.protocol.errors import GpuWorkerError

if TYPE_CHECKING:
    from gpu_worker_client.client import Client

T = TypeVar("T")


def run_in_background(call: Coroutine[Any, Any, T]) -> T:
    """The value of the call, for any thread; one that has an event loop (a notebook's has) is
    blocked meanwhile. Ctrl-C cancels the call and waits until it has cleaned up."""
    stop = Stop()
    value = Threads().start(partial(run_until, stop, call))
    try:
        return value.result()
    except BaseException:
        stop.ask()
        wait([value])
        raise


def take_over(client: Client, error: GpuWorkerError) -> None:
    """Makes the job of an error, raised by an asynchronous call that the client made, one of the
    client's own."""
    job = getattr(error, "job", None)
    if isinstance(job, JobCore):
        own = client.job(job.id)
        own.take_over(cast("JobCore[Any]", job))
        vars(error)["job"] = own
