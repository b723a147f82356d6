"""`gpu-client`: the SDK at a shell. stdout holds exactly one JSON object; progress and notes go to stderr.

Exit status: 0 when the command did what it says, 1 when the task, the job or the endpoint failed, 2 for a wrong call
(arguments, environment, a file that cannot be read). Ctrl-C while waiting cancels the remote job. The API key is read from the
environment only: arguments are visible to every process of a machine.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gpu_worker_client._status import JobStatus, failure
from gpu_worker_client.client import Client, Policy
from gpu_worker_client.exceptions import ConfigError, GpuWorkerError, JobError, WaitTimeout
from gpu_worker_client.job import LAST_CANCEL_SECONDS, Event, Job, ProgressEvent, Queued, Started
from gpu_worker_client.protocol import State

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class UsageError(Exception):
    """The command was called wrongly."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped command cancels its job as Ctrl-C does
    try:
        args = _parser().parse_args(argv)
        with Client(args.endpoint_id, base_url=args.base_url) as client:
            status, answer = args.command(client, args)
    except (UsageError, ConfigError) as error:
        status, answer = EXIT_USAGE, {"error": {"code": "usage", "message": str(error)}}
    except WaitTimeout as error:
        status, answer = EXIT_FAILED, {"id": error.job.id, "error": {"code": "wait_timeout", "message": str(error)}}
    except GpuWorkerError as error:
        status, answer = EXIT_FAILED, {"error": error_json(error)}
    except KeyboardInterrupt:
        status, answer = EXIT_FAILED, {"error": {"code": "interrupted", "message": "stopped; a job waited for was cancelled"}}
    print(json.dumps(answer))
    return status


def _parser() -> _Parser:
    parser = _Parser(prog="gpu-client", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint-id", help="default: GPU_WORKER_ENDPOINT_ID")
    parser.add_argument("--base-url", help="default: GPU_WORKER_BASE_URL, else RunPod's")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[..., Any], what: str, argument: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        sub.set_defaults(command=function)
        if argument:
            sub.add_argument(argument.lower(), metavar=argument)
        return sub

    task = "a JSON file, or - for stdin"
    submit = command("submit", _submit, f"queue TASK ({task}) and print its id", "TASK")
    run = command("run", _run, f"queue TASK ({task}), wait, print the result", "TASK")
    for sub in (submit, run):
        sub.add_argument("--execution-timeout", type=float, metavar="SECONDS", help="longest run on the worker")
        sub.add_argument("--ttl", type=float, metavar="SECONDS", help="longest life from submit, queue included")
    submit.add_argument("--webhook", metavar="URL", help="called when the job has ended; the call repeats the task's URLs")
    command("status", _status, "look at the job ID once", "ID")
    wait = command("wait", _wait, "wait for the job ID and print its result", "ID")
    for sub in (run, wait):
        sub.add_argument("--timeout", type=float, metavar="SECONDS", help="stop waiting after this long; `run` then cancels")
    command("cancel", _cancel, "stop the job ID", "ID")
    command("health", _health, "print the endpoint's counts of jobs and workers")
    return parser


def _submit(client: Client, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    job = client.submit(_read_task(args.task), policy=_policy(args), webhook=args.webhook)
    return EXIT_OK, {"id": job.id, "state": State.queued.value}


def _run(client: Client, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    job = client.submit(_read_task(args.task), policy=_policy(args))
    return _follow(job, args.timeout, cancel=True)


def _wait(client: Client, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    return _follow(client.job(args.id), args.timeout, cancel=False)


def _follow(job: Job[Any], timeout: float | None, *, cancel: bool) -> tuple[int, dict[str, Any]]:
    """Waits with progress on stderr. Ctrl-C cancels the job; `cancel` says whether the end of the time does, too."""
    print(f"job {job.id}", file=sys.stderr)
    try:
        for event in job.events(timeout, on_timeout="cancel" if cancel else "leave"):
            if line := event_line(event):
                print(line, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"cancelling job {job.id}", file=sys.stderr)
        job.cancel(LAST_CANCEL_SECONDS)
        raise
    status = job.status()
    return (EXIT_OK if status.state is State.completed and status.output is not None else EXIT_FAILED), status_json(status)


def _status(client: Client, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    return EXIT_OK, status_json(client.job(args.id).status())


def _cancel(client: Client, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    status = client.job(args.id).cancel()
    return (EXIT_OK if status.state is State.cancelled else EXIT_FAILED), status_json(status)


def _health(client: Client, _: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    return EXIT_OK, client.health()


def _policy(args: argparse.Namespace) -> Policy:
    return Policy(execution_timeout_seconds=args.execution_timeout, ttl_seconds=args.ttl)


def _read_task(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def event_line(event: Event) -> str | None:
    """One line for a person; None for the last event, whose news is the answer itself."""
    if isinstance(event, Queued):
        return "queued"
    if isinstance(event, Started):
        return "running"
    if not isinstance(event, ProgressEvent):
        return None
    progress = event.progress
    percent = "" if progress.fraction is None else f" {progress.fraction:4.0%}"
    count = f" {progress.done}/{progress.total} {progress.unit}" if progress.total else ""
    speed = f" {progress.fps:.1f} fps" if progress.fps is not None else ""
    rest = f", {progress.eta_sec:.0f} s left" if progress.eta_sec is not None else ""
    return f"{progress.stage}{percent}{count}{speed}{rest}"


def status_json(status: JobStatus) -> dict[str, Any]:
    """A job as the commands print it: `id`, `state`, and what is known of progress, times, `result` or `error`."""
    answer = {
        "id": status.id,
        "state": status.state.value,
        "progress": status.progress.model_dump(exclude_none=True) if status.progress else None,
        "queue_seconds": status.queue_seconds,
        "execution_seconds": status.execution_seconds,
        "result": status.output,
    }
    if status.state.is_final and status.output is None:
        answer["error"] = error_json(failure(status))
    return {name: value for name, value in answer.items() if value is not None}


def error_json(error: GpuWorkerError) -> dict[str, Any]:
    """An error as the commands print it: the wire's fields for a job's failure, the class's name as code for any other."""
    if not isinstance(error, JobError):
        return {"code": type(error).__name__, "message": str(error)}
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "stage": error.stage,
        "details": error.details,
    }


if __name__ == "__main__":
    sys.exit(main())
