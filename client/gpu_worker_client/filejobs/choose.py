"""On the endpoint or on this machine: whether the endpoint can be reached, whether it is worth the
upload, and one try on this machine when the endpoint failed.

is_available(client)           the endpoint answers; known for a minute
run_anywhere(work, context)    what the job classes call
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpu_worker_client import errors
from gpu_worker_client._blocking import in_thread
from gpu_worker_client.client import Client
from gpu_worker_client.errors import APIConnectionError, APIError, ConfigError, StorageError
from gpu_worker_client.filejobs.history import History, PastJob, Where, worth_it
from gpu_worker_client.filejobs.local import obstacle, run_local
from gpu_worker_client.files.transfer import OnEvent, Transfer, run_files
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TaskResult
from gpu_worker_client.protocol.errors import GpuWorkerError, JobError
from gpu_worker_client.settings import Mode

POLL_SECONDS = 3.0
"""How long the endpoint may take to say that it is there."""
GOOD_SECONDS, BAD_SECONDS = 60.0, 15.0
"""How long an answer counts. A bad one for less: a tool that was started before its network should
not stay away for long."""
_log = logging.getLogger("gpu_worker_client")
_known: dict[str, tuple[float, bool]] = {}
"""Until when the last answer of an endpoint counts, and whether it was a good one."""


def is_available(client: Client | None = None) -> bool:
    """Whether a remote job can be submitted: the endpoint is set up, answers within seconds and
    takes the key. Asked once a minute at most. An endpoint without a running worker is available:
    it starts one.

    Args:
        client: default: the one that the environment describes; without one nothing is available.
    """
    if client is None:
        try:
            with Client() as own:
                return is_available(own)
        except ConfigError:
            return False
    clock, name = client.core.connection.timing.clock, repr(client)
    until, is_good = _known.get(name, (float("-inf"), False))
    if clock() < until:
        return is_good
    is_good = True
    try:
        client.health(timeout=POLL_SECONDS)
    except (APIConnectionError, APIError) as error:
        _log.warning("the endpoint is not available: %s", error)
        if isinstance(error, errors.AuthenticationError):
            return False  # not remembered: another key may be right
        is_good = False
    _known[name] = (clock() + (GOOD_SECONDS if is_good else BAD_SECONDS), is_good)
    return is_good


@dataclass(frozen=True)
class Done:
    """A result, and how it came about."""

    result: TaskResult
    where: Where
    reason: str
    """Why there."""
    failed_remotely: GpuWorkerError | None = None
    """What the endpoint's failure was, when this machine stepped in."""


@dataclass(frozen=True)
class RunContext:
    """What a job has to choose from, and how it shall choose."""

    mode: Mode
    client: Client | None
    """None: no endpoint is set up."""
    history: History
    timeout: float | None = None
    on_event: OnEvent | None = None
    policy: Policy | None = None
    env: Mapping[str, str] | None = None
    """Environment of the child process of a local run; None is this process's."""


async def run_anywhere(work: FileWork, context: RunContext) -> Done:
    """Runs a task on files where it is best; once more here when the endpoint failed in a way that
    says nothing of the task.

    Raises:
        GpuWorkerError, OSError: it failed wherever it was run.
    """
    where, reason = await in_thread(partial(choose, work, context))
    try:
        return Done(await _run(work, context, where), where, reason)
    except GpuWorkerError as error:
        is_final = where == "local" or context.mode != "auto" or not may_pass(error)
        if is_final or obstacle(work) is not None:
            raise
        _log.warning("the endpoint failed, running here: %s", error)
        result = await _run(work, context, "local")
        return Done(result, "local", "the endpoint failed", failed_remotely=error)


def choose(work: FileWork, context: RunContext) -> tuple[Where, str]:
    """Where to run, and why."""
    if context.mode != "auto":
        return context.mode, "asked for"
    if context.client is None:
        return "local", "no endpoint is set up"
    if (problem := obstacle(work)) is not None:
        return "remote", problem
    if work.needs_bucket and not _has_bucket(context.client):
        return "local", "no bucket is set up"
    if not is_available(context.client):
        return "local", "the endpoint does not answer"
    verdict = worth_it(work.input_bytes, kind_of(work), jobs=context.history.jobs())
    return ("remote" if verdict else "local"), verdict.reason


def _has_bucket(client: Client) -> bool:
    try:
        return bool(client.storage.bucket)
    except ConfigError:
        return False


def may_pass(error: Exception) -> bool:
    """Whether the failure says nothing of the task: another attempt, or another machine, can do
    better."""
    if isinstance(error, JobError | StorageError):
        return error.retryable
    return isinstance(error, APIConnectionError | errors.ServerError | errors.RateLimitError)


def kind_of(work: FileWork) -> str:
    """`PastJob.kind` of a task."""
    model = work.params.get("model")
    return f"{work.task}/{model}" if isinstance(model, str) else work.task


async def _run(work: FileWork, context: RunContext, where: Where) -> TaskResult:
    """Runs it there, and remembers how long that took."""
    meter = UploadMeter(context.on_event)
    size, started = work.input_bytes, time.monotonic()
    if where == "local":
        result = await in_thread(partial(run_local, work, context.timeout, context.env))
    elif context.client is None:
        raise ConfigError(
            "no endpoint is set up: set GPU_WORKER_ENDPOINT_ID and RUNPOD_API_KEY, or give a client"
        )
    else:
        core = context.client.core
        result = await run_files(core, work, context.timeout, meter, context.policy)
    if size and not result.deduplicated:
        seconds = max(0.0, time.monotonic() - started - meter.seconds)
        job = PastJob(
            kind=kind_of(work),
            where=where,
            input_bytes=size,
            work_seconds=round(seconds, 3),
            upload_bytes=meter.bytes,
            upload_seconds=round(meter.seconds, 3),
        )
        await in_thread(partial(context.history.add, job))
    return result


class UploadMeter:
    """Passes events on, and measures the uploads among them. A file that the bucket has already is
    reported at once as done: no bytes, no time.

    Args:
        on_event: where the events go.
        clock: seconds, never going back.
    """

    def __init__(
        self, on_event: OnEvent | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_event = on_event
        self._clock = clock
        self._since: float | None = None
        self.bytes = 0
        self.seconds = 0.0

    def __call__(self, event: Any) -> object:
        if isinstance(event, Transfer) and event.direction == "upload":
            now = self._clock()
            if event.done_bytes < event.total_bytes:
                self._since = now if self._since is None else self._since
            elif self._since is not None:
                self.seconds += now - self._since
                self.bytes += event.total_bytes
                self._since = None
        return None if self._on_event is None else self._on_event(event)
