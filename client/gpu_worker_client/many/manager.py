"""Many jobs on one endpoint: submit all, take the results as they come, and go on after a crash
without paying twice.

    with JobManager(Client(), max_parallel=8, state="jobs.sqlite") as jobs:
        jobs.submit_all(tasks)
        for outcome in jobs.results():
            print(outcome.key, outcome.result if outcome.ok else outcome.error)

The same program, started again after it was killed, takes up by their ids the jobs that the
endpoint has, sends the rest and yields every outcome. What is promised for the moment between a
submit and its answer, and what is not, stands in docs/jobs.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gpu_worker_client._tasks import web_task
from gpu_worker_client.client import Client
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.many.runner import InDoubt, ManagedClient, Runner
from gpu_worker_client.many.state_file import (
    COMPLETED,
    FAILED,
    IN_DOUBT,
    RUNNING,
    SUBMITTING,
    WAITING,
    Store,
)
from gpu_worker_client.outcome import Outcome
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import TaskBase, TaskResult
from gpu_worker_client.settings import Switches

T = TypeVar("T")
Task = TaskBase | Mapping[str, Any] | bytes

DEFAULT_PARALLEL = 8
"""Jobs on the endpoint at once; here they take no thread each, so the number of workers there is
what counts."""
BATCH = 256
"""Jobs that `submit_all` writes at once: one wait for the disk instead of as many."""
STOP_SECONDS = 90.0
"""Longest that leaving waits for the background: a submit under way is waited for, as only its
answer names the job."""


@dataclass(frozen=True)
class JobOutcome(Outcome[TaskResult]):
    """How one job of a manager ended; `index` counts from 0 in the order of submission."""

    key: str = ""
    """The job's name, given or made by `submit`."""
    job_id: str | None = None
    """The endpoint's id of the last attempt; None when it was never taken, or its result was found
    in storage."""
    attempts: int = 0
    """How often it was sent."""


@dataclass(frozen=True)
class JobSummary:
    """How many jobs stand where."""

    waiting: int
    """Not sent yet, or to be sent again."""
    running: int
    """On the endpoint."""
    in_doubt: int
    """Sent, but the answer was lost; inspected when all the rest have ended."""
    completed: int
    failed: int
    attempts: int
    """Submits of all jobs together: more than there are jobs when some were tried again."""

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.in_doubt + self.completed + self.failed


class JobManager:
    """Runs many jobs. For one thread; the work goes on in the background from the first `submit`
    on.

    As a context manager it stops following its jobs at the end of the block. With a `state` file
    they go on at the endpoint, and the next manager with that file takes them up; without one
    nobody could: leaving by an exception (Ctrl-C too) cancels them.

    Args:
        client: of the endpoint. It must stay open as long as the manager.
        max_parallel: jobs on the endpoint at once, 1 or more; default:
            `GPU_WORKER_MAX_PARALLEL_JOBS`, else 8.
        state: the SQLite file that remembers the jobs; made when it is not there. It holds
            presigned URLs until their jobs have ended, and results after that. None forgets
            everything at the end.
        retries: more attempts of each job whose error is `retryable`.
        in_doubt: what becomes of a job whose submit got no answer and whose task has no
            `result_get_url` to search for its result at: "fail" ends it with `SubmitInDoubt`,
            "resubmit" sends it again, and it may be paid for twice.

    Raises:
        ConfigError: a number is out of range; the file is in use or no such file.
    """

    def __init__(
        self,
        client: Client,
        max_parallel: int | None = None,
        state: str | Path | None = None,
        *,
        retries: int = 2,
        in_doubt: InDoubt = "fail",
    ) -> None:
        if max_parallel is None:
            max_parallel = Switches.from_env(os.environ).max_parallel_jobs or DEFAULT_PARALLEL
        if max_parallel < 1 or retries < 0:
            raise ConfigError("max_parallel must be 1 or more, retries 0 or more")
        self._keeps = state is not None
        self._store = Store(None if state is None else Path(state))
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._runner = Runner(
            ManagedClient(client.core),
            self._store,
            max_parallel=max_parallel,
            retries=retries,
            in_doubt=in_doubt,
            ended=self._wake,
        )
        self._thread: threading.Thread | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    def __enter__(self) -> JobManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None and not self._keeps:
                self.cancel()
        finally:
            self.close()

    def submit(self, task: Task, *, key: str | None = None, policy: Policy | None = None) -> str:
        """Writes a job down and returns its key; it is sent as soon as there is a slot for it.

        Args:
            task: as of `Client.submit`.
            key: the job's name in the state file; what is known there is not run again. Default:
                the task's `idempotency_key`, else a digest of the task without its URLs' queries,
                so that a task signed anew is the same job.
            policy: how long it may wait and run; None is `Policy.for_task(task)`.

        Raises:
            InvalidTask: the task does not fit; nothing was written.
            ConfigError: the key is known for another kind of task.
        """
        checked = web_task(task)
        name = key or checked.idempotency_key or task_key(checked)
        self._add([(name, checked, policy)])
        return name

    def submit_all(self, tasks: Iterable[Task], *, policy: Policy | None = None) -> int:
        """`submit` for each of many, in batches; returns how many. A task that does not fit ends it
        there."""
        count, source = 0, iter(tasks)
        while batch := [web_task(task) for task in islice(source, BATCH)]:
            self._add([(task.idempotency_key or task_key(task), task, policy) for task in batch])
            count += len(batch)
        return count

    def results(self) -> Iterator[JobOutcome]:
        """Yields how each job of the state file ended, each once, first ended first: those of
        former runs, then the rest as they end. A failure ends its own job only.

        Raises:
            APIConnectionError, APIError: the endpoint cannot be used any more. Jobs go on there; a
                new manager with the same state file takes them up.
        """
        self._start()
        position = 0
        while True:
            with self._changed:
                while (ended := self._store.ended_after(position)) is None:
                    if self._failure is not None:
                        raise self._failure
                    if self._store.all_ended() or self._serving is None or self._serving.done():
                        return
                    self._changed.wait()
            position = ended.position
            yield JobOutcome(
                index=ended.number - 1,
                result=ended.result,
                error=ended.error,
                key=ended.key,
                job_id=ended.job_id,
                attempts=ended.attempts,
            )

    def wait(self) -> JobSummary:
        """Waits until every job has ended. Errors as of `results`."""
        for _ in self.results():
            pass
        return self.summary()

    def summary(self) -> JobSummary:
        """How many jobs stand where, now."""
        states, attempts = self._store.counts()
        return JobSummary(
            waiting=states.get(WAITING, 0) + states.get(SUBMITTING, 0),
            running=states.get(RUNNING, 0),
            in_doubt=states.get(IN_DOUBT, 0),
            completed=states.get(COMPLETED, 0),
            failed=states.get(FAILED, 0),
            attempts=attempts,
        )

    def cancel(self) -> None:
        """Stops every job that has not ended, on the endpoint too; their outcomes are
        `JobCancelled`. Nothing more is sent."""
        self._stop()
        self._run_loop()
        self._call(self._runner.cancel_all())

    def close(self) -> None:
        """Stops following; jobs on the endpoint go on. A manager that is closed takes no more
        call."""
        if self._closed:
            return
        self._closed = True
        self._stop()
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_SECONDS)
        self._loop.close()
        self._store.close()

    def _add(self, entries: list[tuple[str, TaskBase, Policy | None]]) -> None:
        for _, _, policy in entries:
            checked_policy(policy)
        self._store.add(entries)
        self._start()
        self._loop.call_soon_threadsafe(self._runner.more)

    def _start(self) -> None:
        if self._serving is None:
            self._run_loop()
            self._serving = self._call(self._started())

    async def _started(self) -> asyncio.Task[None]:
        serving = asyncio.create_task(self._runner.serve())
        serving.add_done_callback(self._served)
        return serving

    def _served(self, serving: asyncio.Task[None]) -> None:
        """The background has ended: by `_stop`, or by an error that `results` raises."""
        if not serving.cancelled():
            self._failure = serving.exception()
        self._wake()

    def _stop(self) -> None:
        if self._serving is not None:
            self._call(_halted(self._serving))

    def _run_loop(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="gpu-worker-client-jobs", daemon=True
            )
            self._thread.start()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


async def _halted(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    await asyncio.wait({serving}, timeout=STOP_SECONDS)


def task_key(task: TaskBase) -> str:
    """A name for what a task asks for: the SHA-256 of its JSON, URLs without their queries, which
    change with every signing."""
    wire = task.model_dump(mode="json", exclude={"idempotency_key", "headers"})
    return hashlib.sha256(json.dumps(_unsigned(wire), sort_keys=True).encode()).hexdigest()[:32]


def _unsigned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unsigned(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unsigned(item) for item in value]
    if isinstance(value, str) and urlsplit(value[:8]).scheme in ("https", "http"):
        return value.partition("?")[0]
    return value
