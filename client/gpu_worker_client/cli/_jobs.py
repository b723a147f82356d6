"""Commands about jobs of an endpoint. Each gives whether it did what it says, and its answer."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS
from gpu_worker_client._tasks import web_task
from gpu_worker_client.cli._output import Output, UsageError, error_json, status_json
from gpu_worker_client.client import Client
from gpu_worker_client.job import Job
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import State
from gpu_worker_client.protocol.errors import InvalidTask

if TYPE_CHECKING:
    from gpu_worker_client.many import JobOutcome

Answered = tuple[bool, dict[str, Any]]


def submit(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    job = client.submit(read_task(args.task), policy=_policy(args), webhook=args.webhook)
    return True, {"id": job.id, "state": State.queued.value}


def run(client: Client, args: argparse.Namespace, output: Output) -> Answered:
    job = client.submit(read_task(args.task), policy=_policy(args))
    return _follow(job, args.timeout, output, cancel=True)


def watch(client: Client, args: argparse.Namespace, output: Output) -> Answered:
    return _follow(client.job(args.id), args.timeout, output, cancel=False)


def _follow(job: Job[Any], timeout: float | None, output: Output, *, cancel: bool) -> Answered:
    """Waits with progress on stderr. Ctrl-C cancels the job; `cancel` says whether the end of the
    time does, too."""
    output.note(f"job {job.id}")
    try:
        for event in job.events(timeout, on_timeout="cancel" if cancel else "leave"):
            output.event(event)
    except KeyboardInterrupt:
        output.note(f"cancelling job {job.id}")
        job.cancel(LAST_CANCEL_SECONDS)
        raise
    status = job.status()
    return status.state is State.completed and status.output is not None, status_json(status)


def status(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    return True, status_json(client.job(args.id).status())


def cancel(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    found = client.job(args.id).cancel()
    return found.state is State.cancelled, status_json(found)


def result(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    """The whole result, also where the job's answer is a summary of one in a bucket."""
    found = client.job(args.id).result(args.timeout)
    if args.output is None:
        return True, {
            "id": args.id,
            "state": State.completed.value,
            "result": found.model_dump(mode="json"),
        }
    try:
        with Path(args.output).open("w", encoding="utf-8") as file:
            file.writelines(found.json_pieces())
    except OSError as error:
        raise UsageError(f"{args.output}: {error.strerror}") from None
    return True, {"id": args.id, "state": State.completed.value, "saved": args.output}


def health(client: Client, _: argparse.Namespace, __: Output) -> Answered:
    return True, client.health()


def map_tasks(client: Client, args: argparse.Namespace, output: Output) -> Answered:
    """Every job's answer as it ends, then the counts. Ctrl-C cancels the jobs that no state file
    could bring back."""
    from gpu_worker_client.many import (
        JobManager,
    )  # here: it brings an event loop and SQLite along

    ended = failed = 0
    with _opened(args.tasks) as given, _seekable(given) as file:
        _check_lines(file, output)
        with JobManager(
            client, args.max_parallel, args.state, retries=args.retries, in_doubt=args.in_doubt
        ) as jobs:
            try:
                jobs.submit_all(filter(bytes.strip, file), policy=_policy(args))
                for outcome in jobs.results():
                    ended, failed = ended + 1, failed + (not outcome.ok)
                    output.answer(_outcome_json(outcome))
                    output.count(ended, jobs.summary().total, failed)
            except KeyboardInterrupt:
                go_on = "the jobs go on; the same command takes them up again"
                output.note("cancelling the jobs" if args.state is None else go_on)
                raise
            summary = jobs.summary()
    return failed == 0, {"summary": asdict(summary) | {"total": summary.total}}


def _outcome_json(outcome: JobOutcome) -> dict[str, Any]:
    answer = {
        "index": outcome.index,
        "key": outcome.key,
        "id": outcome.job_id,
        "attempts": outcome.attempts,
        "ok": outcome.ok,
    }
    if outcome.error is not None:
        return answer | {"error": error_json(outcome.error)}
    return answer | {"result": outcome.get().model_dump(mode="json")}


def _check_lines(file: IO[bytes], output: Output) -> None:
    """Looks at every line before the first is paid for, and goes back to where the file stood.

    Raises:
        InvalidTask: a line is no task; its number is noted.
    """
    start = file.tell()
    for number, line in enumerate(file, 1):
        try:
            if line.strip():
                web_task(line)
        except InvalidTask:
            output.note(f"line {number} is no task; nothing was submitted")
            raise
    file.seek(start)


@contextmanager
def _seekable(file: IO[bytes]) -> Generator[IO[bytes], None, None]:
    """The file; or of a pipe, which is read only once, a nameless copy on disk: there may be more
    tasks than memory holds."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _policy(args: argparse.Namespace) -> Policy | None:
    """None, where nothing was asked for: computed from the task."""
    if args.execution_timeout is None and args.ttl is None:
        return None
    return Policy(execution_timeout_seconds=args.execution_timeout, ttl_seconds=args.ttl)


def read_task(name: str) -> bytes:
    with _opened(name) as file:
        return file.read()


def _opened(name: str) -> BinaryIO:
    try:
        return (
            open(sys.stdin.fileno(), "rb", closefd=False) if name == "-" else Path(name).open("rb")
        )  # noqa: PTH123
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
