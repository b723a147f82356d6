"""The commands: about jobs of an endpoint, about files in a bucket, and estimates."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import IO, Any

import gpu_worker_client as sdk
from gpu_worker_client._endpoint import LAST_CANCEL_SECONDS
from gpu_worker_client.cli.output import (
    Answered,
    Output,
    UsageError,
    error_json,
    file_named,
    open_file,
    read_file,
    status_json,
)
from gpu_worker_client.client import Client, Job
from gpu_worker_client.estimate import estimate as estimated
from gpu_worker_client.files.transfer import notifying
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TASKS, State
from gpu_worker_client.protocol.errors import JobError
from gpu_worker_client.protocol.parse import web_task
from gpu_worker_client.storage import Storage


def submit(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    job = client.submit(read_file(args.task), policy=_policy(args), webhook=args.webhook)
    return True, {"id": job.id, "state": State.queued.value}


def run(client: Client, args: argparse.Namespace, output: Output) -> Answered:
    job = client.submit(read_file(args.task), policy=_policy(args))
    return _follow(job, args.timeout, output, cancel=True)


def watch(client: Client, args: argparse.Namespace, output: Output) -> Answered:
    return _follow(client.job(args.id), args.timeout, output, cancel=False)


def _follow(job: Job[Any], timeout: float | None, output: Output, *, cancel: bool) -> Answered:
    """Waits with progress on stderr. Ctrl-C cancels the job; with `cancel` a timeout does, too."""
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
    found = client.job(args.id).status()
    return found.state is not State.expired, status_json(found)


def cancel(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    found = client.job(args.id).cancel()
    return found.state is State.cancelled, status_json(found)


def result(client: Client, args: argparse.Namespace, _: Output) -> Answered:
    """The whole result, also where the job's answer is a summary of one in a bucket."""
    found = client.job(args.id).result(args.timeout)
    answer = {"id": args.id, "state": State.completed.value}
    if args.output is None:
        return True, answer | {"result": found.model_dump(mode="json")}
    with file_named(args.output) as path, path.open("w", encoding="utf-8") as file:
        file.writelines(found.json_pieces())
    return True, answer | {"saved": args.output}


def health(client: Client, _: argparse.Namespace, __: Output) -> Answered:
    return True, client.health()


def map_tasks(client: Client, args: argparse.Namespace, output: Output) -> Answered:
    """Every job's answer as it ends, then the counts. Ctrl-C cancels jobs without a state file."""
    ended = failed = 0
    # Of the lazy package: the other commands need neither an event loop nor SQLite.
    manager = partial(sdk.JobManager, retries=args.retries, in_doubt=args.in_doubt)
    with (
        _checked_lines(args.tasks, output) as lines,
        manager(client, args.max_parallel, args.state) as jobs,
    ):
        try:
            jobs.submit_all(lines, policy=_policy(args))
            for outcome in jobs.results():
                ended, failed = ended + 1, failed + (0 if outcome.ok else 1)
                output.answer(_outcome_json(outcome))
                output.count(ended, jobs.summary().total, failed)
        except KeyboardInterrupt:
            left = "the jobs go on; the same command follows them again"
            output.note("cancelling the jobs" if args.state is None else left)
            raise
        summary = jobs.summary()
    return failed == 0, {"summary": asdict(summary) | {"total": summary.total}}


def _outcome_json(outcome: sdk.JobOutcome) -> dict[str, Any]:
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


@contextmanager
def _checked_lines(name: str, output: Output) -> Generator[IO[bytes], None, None]:
    """The tasks in a file of lines, each checked before the first is paid for; of one that is none
    the number is noted. From a nameless copy on disk: a pipe is read only once, and there may be
    more tasks than memory holds."""
    with open_file(name) as given, tempfile.TemporaryFile() as copy:
        for number, line in enumerate(given, 1):
            try:
                if line.strip():
                    web_task(line)
                    copy.write(line)
            except JobError as error:
                error.details["line"] = number
                output.note(f"line {number} is no task; nothing was submitted")
                raise
        copy.seek(0)
        yield copy


def _policy(args: argparse.Namespace) -> Policy | None:
    """None, where nothing was asked for: computed from the task."""
    if args.execution_timeout is None and args.ttl is None:
        return None
    return Policy(execution_timeout_seconds=args.execution_timeout, ttl_seconds=args.ttl)


def upload(args: argparse.Namespace, output: Output) -> Answered:
    """The signed URL comes only when it is asked for: whoever reads it can read the file."""
    storage = Storage.from_env()
    with file_named(args.file) as path:
        key = storage.upload(path, args.key, notifying(output.event, "upload", path))
    answer: dict[str, Any] = {"key": key, "bytes": path.stat().st_size}
    if args.presign is not None:
        answer["url"] = storage.presign_get(key, args.presign)
    return True, answer


def download(args: argparse.Namespace, output: Output) -> Answered:
    storage = Storage.from_env()
    with file_named(args.file) as path:
        storage.download(args.key, path, notifying(output.event, "download", path))
    return True, {"key": args.key, "file": args.file, "bytes": path.stat().st_size}


def estimate(args: argparse.Namespace, _: Output) -> Answered:
    task: Any = args.task
    if task not in TASKS:
        try:
            task = json.loads(read_file(args.task))
        except ValueError:
            problem = "neither a task's name nor a file with its JSON"
            raise UsageError(f"{args.task}: {problem}") from None
    found = estimated(
        task,
        width=args.width,
        height=args.height,
        fps=args.fps,
        duration_seconds=args.duration,
        gpu=args.gpu,
    )
    return True, asdict(found)
