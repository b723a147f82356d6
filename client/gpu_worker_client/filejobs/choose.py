"""Here or there: whether the endpoint can be reached, whether it is worth the upload, and one try
here when it failed there.

is_available(client)                      the endpoint answers; known for a minute
worth_it(input_bytes, "upscale/lite")     from what past jobs took
run_anywhere(work, mode="auto")           what the job classes call
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpu_worker_client._blocking import in_thread
from gpu_worker_client.client import Client
from gpu_worker_client.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ConfigError,
    RateLimitError,
    ServerError,
    StorageError,
)
from gpu_worker_client.filejobs.history import (
    History,
    PastJob,
    Where,
    expected_seconds,
    measured_bandwidth,
)
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


class Availability:
    """Remembers which endpoints answered.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}
        self._lock = threading.Lock()

    def of(self, client: Client) -> bool:
        """Whether the endpoint answers and takes the key. An endpoint without a running worker is
        available: it starts one."""
        name = repr(client)
        with self._lock:
            until, good = self._known.get(name, (float("-inf"), False))
            if self._clock() < until:
                return good
        try:
            client.health(timeout=POLL_SECONDS)
        except (
            AuthenticationError
        ) as error:  # not remembered: it says nothing of the endpoint, and another key may be right
            _log.warning("the endpoint is not available: %s", error)
            return False
        except (APIConnectionError, APIError) as error:
            _log.warning("the endpoint is not available: %s", error)
            good = False
        else:
            good = True
        with self._lock:
            self._known[name] = (self._clock() + (GOOD_SECONDS if good else BAD_SECONDS), good)
        return good


_availability = Availability()


def is_available(client: Client | None = None) -> bool:
    """Whether a remote job can be submitted: the endpoint is set up, answers within seconds and
    takes the key. Asked once a minute at most.

    Args:
        client: default: the one that the environment describes; without one nothing is available.
    """
    if client is not None:
        return _availability.of(client)
    try:
        with Client() as own:
            return _availability.of(own)
    except ConfigError:
        return False


@dataclass(frozen=True)
class Verdict:
    """Whether a job is worth sending, and why."""

    worth: bool
    reason: str
    """For a person."""
    remote_seconds: float | None = None
    """Expected from start to end, upload included; None when nothing is known."""
    local_seconds: float | None = None

    def __bool__(self) -> bool:
        return self.worth


def worth_it(
    input_bytes: int, kind: str, bandwidth: float | None = None, jobs: Sequence[PastJob] = ()
) -> Verdict:
    """Whether an endpoint is likely to be done sooner than this machine, upload included, judged by
    past jobs.

    Args:
        input_bytes: to upload.
        kind: `PastJob.kind`.
        bandwidth: bytes a second of the way up; None takes the measured one.
        jobs: `History.jobs()`.
    """
    here = expected_seconds(jobs, kind, "local", input_bytes)
    there = expected_seconds(jobs, kind, "remote", input_bytes)
    bandwidth = bandwidth or measured_bandwidth(jobs)
    upload = input_bytes / bandwidth if bandwidth else None
    remote = None if there is None else there + (upload or 0.0)
    if here is None:
        return Verdict(True, "nothing is known of this machine's speed", remote, here)
    if upload is not None and upload >= here:
        return Verdict(
            False,
            f"the upload alone takes {upload:.0f} s, the work here {here:.0f} s",
            remote,
            here,
        )
    if remote is None:
        return Verdict(True, "nothing is known of the endpoint's speed", remote, here)
    words = f"expected {remote:.0f} s there, {here:.0f} s here"
    return Verdict(remote < here, words, remote, here)


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
    """Of the child process of a local run; None is this process's."""


async def run_anywhere(work: FileWork, context: RunContext) -> Done:
    """Runs a task on files where it is best; once more here when the endpoint failed in a way that
    says nothing of the task.

    Raises:
        GpuWorkerError, OSError: it failed wherever it was run.
    """
    where, reason = await in_thread(partial(choose, work, context))
    if where == "local":
        return Done(await in_thread(partial(_local, work, context)), where, reason)
    try:
        return Done(await _remote(work, context), where, reason)
    except GpuWorkerError as error:
        if context.mode != "auto" or not may_pass(error) or obstacle(work) is not None:
            raise
        _log.warning("the endpoint failed, running here: %s", error)
        result = await in_thread(partial(_local, work, context))
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
    verdict = worth_it(_bytes(work), kind_of(work), jobs=context.history.jobs())
    return ("remote" if verdict else "local"), verdict.reason


def _has_bucket(client: Client) -> bool:
    try:
        return bool(client.storage.bucket)
    except ConfigError:
        return False


def may_pass(error: GpuWorkerError) -> bool:
    """Whether the failure says nothing of the task: another attempt, or another machine, can do
    better."""
    if isinstance(error, JobError | StorageError):
        return error.retryable
    return isinstance(error, APIConnectionError | ServerError | RateLimitError)


def kind_of(work: FileWork) -> str:
    """`PastJob.kind` of a task."""
    model = work.params.get("model")
    return f"{work.task}/{model}" if isinstance(model, str) else work.task


async def _remote(work: FileWork, context: RunContext) -> TaskResult:
    if context.client is None:
        raise ConfigError(
            "no endpoint is set up: set GPU_WORKER_ENDPOINT_ID and RUNPOD_API_KEY, or give a client"
        )
    meter = UploadMeter(context.on_event)
    started = time.monotonic()
    result = await run_files(context.client.core, work, context.timeout, meter, context.policy)
    if not result.deduplicated:
        seconds = time.monotonic() - started - meter.seconds
        _remember(work, context, "remote", max(0.0, seconds), meter)
    return result


def _local(work: FileWork, context: RunContext) -> TaskResult:
    started = time.monotonic()
    result = run_local(work, context.timeout, context.env)
    _remember(work, context, "local", time.monotonic() - started, UploadMeter(None))
    return result


def _remember(
    work: FileWork, context: RunContext, where: Where, seconds: float, meter: UploadMeter
) -> None:
    size = _bytes(work)
    if size:
        job = PastJob(
            kind=kind_of(work),
            where=where,
            input_bytes=size,
            work_seconds=round(seconds, 3),
            upload_bytes=meter.bytes,
            upload_seconds=round(meter.seconds, 3),
        )
        context.history.add(job)


def _bytes(work: FileWork) -> int:
    return sum(path.stat().st_size for path in work.paths.values())


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
        self._last = 0.0
        self._name = ""
        self.bytes = 0
        self.seconds = 0.0

    def __call__(self, event: Any) -> object:
        if isinstance(event, Transfer) and event.direction == "upload":
            self._see(event)
        return None if self._on_event is None else self._on_event(event)

    def _see(self, transfer: Transfer) -> None:
        now = self._clock()
        if transfer.done_bytes and self._name == transfer.name:
            self.seconds += now - self._last
            self.bytes += transfer.total_bytes if transfer.done_bytes == transfer.total_bytes else 0
        self._name = transfer.name if transfer.done_bytes < transfer.total_bytes else ""
        self._last = now
