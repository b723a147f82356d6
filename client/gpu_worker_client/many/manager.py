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

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gpu_worker_client._portal import call, iterate
from gpu_worker_client.client import Client
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.many.runner import InDoubt, Runner
from gpu_worker_client.many.state_file import JobOutcome, JobSummary, Store
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import TaskBase
from gpu_worker_client.protocol.parse import web_task
from gpu_worker_client.settings import Switches

Task = TaskBase | Mapping[str, Any] | bytes

DEFAULT_PARALLEL = 8
"""Jobs on the endpoint at once; here they take no thread each, so the number of workers there is
what counts."""
BATCH = 256
"""Jobs that `submit_all` writes at once: one wait for the disk instead of as many."""
_QUERY = re.compile(r'(?<!\\)("https?:(?:[^"?\\]|\\.)*)\?(?:[^"\\]|\\.)*', re.IGNORECASE)
"""In JSON text, the beginning of a URL, and its query."""


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
        self._closed = False
        self._process = os.getpid()
        self._runner = Runner(
            client.core,
            Store(None if state is None else Path(state)),
            max_parallel=max_parallel,
            retries=retries,
            in_doubt=in_doubt,
        )

    def __enter__(self) -> JobManager:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if os.getpid() != self._process:
            return  # a forked process: the jobs and the file are its parent's
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
        checked_policy(policy)
        checked = web_task(task)
        name = key or checked.idempotency_key or task_key(checked)
        call(self._runner.add, [(name, checked, policy)])
        return name

    def submit_all(self, tasks: Iterable[Task], *, policy: Policy | None = None) -> int:
        """`submit` for each of many, in batches; returns how many. A task that does not fit ends it
        there."""
        checked_policy(policy)
        count, source = 0, iter(tasks)
        while batch := [web_task(task) for task in islice(source, BATCH)]:
            rows = [(task.idempotency_key or task_key(task), task, policy) for task in batch]
            call(self._runner.add, rows)
            count += len(batch)
        return count

    def results(self) -> Iterator[JobOutcome]:
        """Yields how each job of the state file ended, each once, first ended first: those of
        former runs, then the rest as they end. A failure ends its own job only.

        Raises:
            APIConnectionError, APIError: the endpoint cannot be used any more. Jobs go on there; a
                new manager with the same state file takes them up.
        """
        return iterate(self._runner.outcomes())

    def wait(self) -> JobSummary:
        """Waits until every job has ended. Errors as of `results`."""
        for _ in self.results():
            pass
        return self.summary()

    def summary(self) -> JobSummary:
        """How many jobs stand where, now."""
        return call(self._runner.summary)

    def cancel(self) -> None:
        """Stops every job that has not ended, on the endpoint too; their outcomes are
        `JobCancelled`. Nothing more is sent."""
        call(self._runner.cancel)

    def close(self) -> None:
        """Stops following; jobs on the endpoint go on. A manager that is closed takes no more
        call."""
        if not self._closed:
            self._closed = True
            call(self._runner.close)


def task_key(task: TaskBase) -> str:
    """A name for what a task asks for: the SHA-256 of its JSON, URLs without their queries, which
    change with every signing."""
    wire = task.model_dump(mode="json", exclude={"idempotency_key", "headers"})
    unsigned = _QUERY.sub(r"\1", json.dumps(wire, sort_keys=True))
    return hashlib.sha256(unsigned.encode()).hexdigest()[:32]
