"""`gpu-client`: the SDK at a shell. Progress and notes go to stderr; stdout holds the answer: one
JSON object in a pipe or with `--json` (`map`: one for each job and one at the end), lines for a
person on a terminal.

Exit status: 0 when the command did what it says, 1 when the task, the job, the endpoint or the
bucket failed (`map`: when any job did), 2 for a wrong call (arguments, environment, a file that
cannot be read). Ctrl-C while waiting cancels the remote job. Keys are read from the environment
only: arguments are visible to every process of a machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from gpu_worker_client.cli import commands, queue_commands
from gpu_worker_client.cli.output import Answer, Answered, Output, UsageError, error_json
from gpu_worker_client.client import Client
from gpu_worker_client.errors import ConfigError, WaitTimeout
from gpu_worker_client.protocol.errors import GpuWorkerError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
SHELLS = ("bash", "zsh", "tcsh", "fish")
ALIASES = {"watch": ["wait"]}
Command = Callable[..., Answered]
"""Takes the arguments and the `Output`; one about jobs of an endpoint the `Client` before."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; `argv` is without the program's name."""
    # A stopped command cancels its job as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    words = list(sys.argv[1:] if argv is None else argv)
    output = Output(as_json="--json" in words)
    status, answer = _run(words, output)
    try:
        output.answer(answer)
    except BrokenPipeError:
        # Without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return status


def _run(words: list[str], output: Output) -> tuple[int, Answer]:
    try:
        args = _parser().parse_args(words)
        ok, answer = args.command(args, output)
    except (UsageError, ConfigError) as error:
        return EXIT_USAGE, {"error": {"code": "usage", "message": str(error)}}
    except WaitTimeout as error:
        failed = {"code": "wait_timeout", "message": str(error)}
        return EXIT_FAILED, {"id": error.job.id, "error": failed}
    except GpuWorkerError as error:
        return EXIT_FAILED, {"error": error_json(error)}
    except KeyboardInterrupt:
        failed = {"code": "interrupted", "message": "stopped before the end"}
        return EXIT_FAILED, {"error": failed}
    return EXIT_OK if ok else EXIT_FAILED, answer


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)

    def option(self, name: str, metavar: str, what: str, kind: type = str) -> argparse.Action:
        return self.add_argument(name, metavar=metavar, type=kind, help=what)

    def file(self, name: str, metavar: str, what: str) -> None:
        """An option or argument for which the shell completes the names of files."""
        action = self.option(name, metavar, what)
        action.complete = "file"  # pyright: ignore[reportAttributeAccessIssue]  # read by shtab

    def json(self, default: object) -> None:
        what = "print JSON on a terminal too"
        self.add_argument("--json", action="store_true", default=default, help=what)


def _on_endpoint(command: Command) -> Command:
    def run(args: argparse.Namespace, output: Output) -> Answered:
        with Client(args.endpoint_id, base_url=args.base_url) as client:
            return command(client, args, output)

    return run


def _completion(args: argparse.Namespace, _: Output) -> Answered:
    try:
        import shtab
    except ModuleNotFoundError:
        raise UsageError("completion needs one more package: pip install shtab") from None
    return True, shtab.complete(_parser(), args.shell)


def _parser() -> _Parser:
    """Its `parse_args` raises UsageError for a wrong call."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="gpu-client", description=__doc__, formatter_class=formatter)
    parser.json(default=False)
    parser.option("--endpoint-id", "ID", "default: GPU_WORKER_ENDPOINT_ID")
    parser.option("--base-url", "URL", "default: GPU_WORKER_BASE_URL, else RunPod's")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Command, what: str, *shared: _Parser, on_endpoint: bool = False
    ) -> _Parser:
        made = subparsers.add_parser(
            name, aliases=ALIASES.get(name, ()), help=what, description=what, parents=shared
        )
        made.set_defaults(command=_on_endpoint(command) if on_endpoint else command)
        # Accepted before and after the command; SUPPRESS leaves the first one's value.
        made.json(default=argparse.SUPPRESS)
        return made

    _add_job_commands(partial(add, on_endpoint=True))
    _add_file_commands(add)
    _add_queue(subparsers)
    completion = add("completion", _completion, "print a completion script for a shell")
    what = f"one of {', '.join(SHELLS)}"
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=what)
    return parser


def _add_job_commands(add: Callable[..., _Parser]) -> None:
    task, policy, job, waits = (_Parser(add_help=False) for _ in range(4))
    task.file("task", "TASK", "a JSON file, or - for stdin")
    what = "longest run on the worker; default: computed from the task"
    policy.option("--execution-timeout", "SECONDS", what, float)
    policy.option("--ttl", "SECONDS", "longest life from submit, queue included", float)
    job.option("id", "ID", "the job's id")
    waits.option("--timeout", "SECONDS", "stop waiting after this long; the job goes on", float)

    submit = add("submit", commands.submit, "queue a task and print its id", task, policy)
    what = "RunPod calls it at the end; the call repeats the task's URLs and is not signed"
    submit.option("--webhook", "URL", what)
    run = add("run", commands.run, "queue a task, wait, print the result", task, policy)
    run.option("--timeout", "SECONDS", "stop waiting after this long and cancel the job", float)
    add("watch", commands.watch, "follow a job and print its result", job, waits)
    add("status", commands.status, "print a job's state", job)
    add("cancel", commands.cancel, "stop a job", job)
    what = "wait for a job and print its whole result, also where the answer is only a summary"
    result = add("result", commands.result, what, job, waits)
    result.file("--output", "FILE", "write the result's JSON to this file")
    add("health", commands.health, "print the endpoint's counts of jobs and workers")

    what = "run many tasks, one JSON on a line, and print each job's outcome as it ends"
    many = add("map", commands.map_tasks, what, policy)
    many.file("tasks", "TASKS", "a file, or - for stdin")
    what = "jobs on the endpoint at once (GPU_WORKER_MAX_PARALLEL_JOBS, else 8)"
    many.option("--max-parallel", "N", what, int)
    what = "SQLite file to go on from after a crash; it holds presigned URLs"
    many.file("--state", "FILE", what)
    what = "more attempts of a job that failed in a way that may pass (2)"
    many.option("--retries", "N", what, int).default = 2
    what = "a job whose submit got no answer and that cannot be found again (fail)"
    many.add_argument("--in-doubt", choices=("fail", "resubmit"), default="fail", help=what)


def _add_file_commands(add: Callable[..., _Parser]) -> None:
    upload = add("upload", commands.upload, "store a file in the bucket of R2_* and print its key")
    upload.file("file", "FILE", "what to store")
    what = "where to; default: by the file's content, sent only once"
    upload.option("--key", "KEY", what)
    what = "print a URL, too, with which anybody can read the file for so long"
    upload.option("--presign", "SECONDS", what, int)

    download = add("download", commands.download, "fetch an object of the bucket into a file")
    download.option("key", "KEY", "which")
    download.file("file", "FILE", "where to")

    what = "seconds and USD that a task will take on one worker"
    estimate = add("estimate", commands.estimate, what)
    estimate.file("task", "TASK", "a task's name, a JSON file, or - for stdin")
    estimate.option("--width", "PX", "of the input", int).required = True
    estimate.option("--height", "PX", "of the input", int).required = True
    estimate.option("--fps", "FPS", "of the input", float).required = True
    estimate.option("--duration", "SECONDS", "of the input", float).required = True
    what = 'the card, "NVIDIA L4" for example; default: the processor of the benchmarks'
    estimate.option("--gpu", "NAME", what)


def _add_queue(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]
    what = "jobs through a bucket, for workers that were started by hand (gpu-worker pull)"
    queue = commands.add_parser("queue", help=what, description=what)
    queue.json(default=argparse.SUPPRESS)
    subparsers = queue.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, command: queue_commands.QueueCommand, what: str) -> _Parser:
        made = subparsers.add_parser(name, help=what, description=what)
        made.set_defaults(command=queue_commands.on_queue(command))
        made.json(default=argparse.SUPPRESS)
        made.option("--bucket", "NAME", "default: R2_BUCKET_NAME")
        made.option("--prefix", "PREFIX", "of all keys of the queue").default = ""
        return made

    submit = add_command("submit", queue_commands.submit, "upload a video and queue a job for it")
    what = "a video for track, or a task's JSON with paths for URLs (.json, or - for stdin)"
    submit.add_argument("file", metavar="FILE", nargs="?", help=what)
    what = "your number or name of the video; FILE may be left out the next time"
    submit.option("--video-id", "ID", what)
    submit.option("--job-id", "ID", "default: a new one, in the order of time")
    submit.option("--sample-interval", "N", "track every n-th frame only", int)
    submit.option("--confidence", "SHARE", "weakest box that is reported, 0 to 1", float)

    what = "print every job, or one: JOB_ID, VIDEO, STATUS, PROGRESS"
    status = add_command("status", queue_commands.status, what)
    what = "follow a job; Ctrl-C ends the watching, not the job"
    watch = add_command("watch", queue_commands.watch, what)
    watch.option("--timeout", "SECONDS", "stop waiting after this long; the job goes on", float)
    cancel = add_command("cancel", queue_commands.cancel, "end a job")
    what = "queue a failed or cancelled job once more"
    retry = add_command("retry", queue_commands.retry, what)
    what = "delete everything of a job that has ended from the bucket, its video too"
    purge = add_command("purge", queue_commands.purge, what)
    what = "every job that was imported"
    purge.add_argument("--imported", action="store_true", help=what)
    for about_job in (watch, cancel, retry):
        about_job.option("id", "ID", "the job's id")
    for about_jobs in (status, purge):
        about_jobs.add_argument("id", metavar="ID", nargs="?", help="the job's id")

    what = "write results into an SQLite file, and mark their jobs as imported"
    importing = add_command("import", queue_commands.import_results, what)
    importing.add_argument("--all", action="store_true", help="every job that is completed")
    importing.option("--job-id", "ID", "this job")
    for on_file in (submit, importing):
        what = "the SQLite file (results.sqlite)"
        on_file.file("--database", "FILE", what)
        on_file.set_defaults(database="results.sqlite")
