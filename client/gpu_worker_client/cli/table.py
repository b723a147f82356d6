"""Every command of `gpu-client`, once: the parser and the shells' completion are made from this
table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpu_worker_client.cli import files, jobs
from gpu_worker_client.cli.output import Answer

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class Option:
    """One option or argument."""

    name: str
    """"--timeout" for an option, "TASK" for an argument."""
    what: str
    metavar: str | None = None
    kind: type[Any] = str
    default: Any = None
    choices: tuple[str, ...] | None = None
    is_file: bool = False
    """Completion offers files."""
    required: bool = False


@dataclass(frozen=True)
class Command:
    name: str
    function: Callable[..., tuple[bool, Answer]]
    what: str
    options: tuple[Option, ...] = ()
    needs_client: bool = True
    aliases: tuple[str, ...] = ()


GLOBAL = (
    Option("--endpoint-id", "default: GPU_WORKER_ENDPOINT_ID", "ID"),
    Option("--base-url", "default: GPU_WORKER_BASE_URL, else RunPod's", "URL"),
)
_TASK = Option("TASK", "a JSON file, or - for stdin", is_file=True)
_ID = Option("ID", "the job's id")
_POLICY = (
    Option(
        "--execution-timeout",
        "longest run on the worker; default: computed from the task",
        "SECONDS",
        float,
    ),
    Option("--ttl", "longest life from submit, queue included", "SECONDS", float),
)
_TIMEOUT = Option("--timeout", "stop waiting after this long; the job goes on", "SECONDS", float)
_RUN_TIMEOUT = Option(
    "--timeout", "stop waiting after this long and cancel the job", "SECONDS", float
)
_WEBHOOK = Option(
    "--webhook",
    "RunPod calls it at the end; the call repeats the task's URLs and is not signed",
    "URL",
)

COMMANDS = (
    Command("submit", jobs.submit, "queue a task and print its id", (_TASK, *_POLICY, _WEBHOOK)),
    Command(
        "run", jobs.run, "queue a task, wait, print the result", (_TASK, *_POLICY, _RUN_TIMEOUT)
    ),
    Command(
        "watch",
        jobs.watch,
        "follow a job and print its result",
        (_ID, _TIMEOUT),
        aliases=("wait",),
    ),
    Command("status", jobs.status, "look at a job once", (_ID,)),
    Command("cancel", jobs.cancel, "stop a job", (_ID,)),
    Command(
        "result",
        jobs.result,
        "wait for a job and print its whole result, also where the answer is only a summary",
        (
            _ID,
            _TIMEOUT,
            Option("--output", "write the result's JSON to this file", "FILE", is_file=True),
        ),
    ),
    Command("health", jobs.health, "print the endpoint's counts of jobs and workers"),
    Command(
        "map",
        jobs.map_tasks,
        "run many tasks, one JSON on a line, and print each job's outcome as it ends",
        (
            Option("TASKS", "a file, or - for stdin", is_file=True),
            Option(
                "--max-parallel",
                "jobs on the endpoint at once (GPU_WORKER_MAX_PARALLEL_JOBS, else 8)",
                "N",
                int,
            ),
            Option(
                "--state",
                "SQLite file to go on from after a crash; it holds presigned URLs",
                "FILE",
                is_file=True,
            ),
            Option(
                "--retries",
                "further attempts of a job that failed in a way that may pass (2)",
                "N",
                int,
                2,
            ),
            Option(
                "--in-doubt",
                "a job whose submit got no answer and that cannot be found again (fail)",
                default="fail",
                choices=("fail", "resubmit"),
            ),
            *_POLICY,
        ),
    ),
    Command(
        "upload",
        files.upload,
        "store a file in the bucket of R2_* and print its key",
        (
            Option("FILE", "what to store", is_file=True),
            Option("--key", "where to; default: by the file's content, sent only once", "KEY"),
            Option(
                "--presign",
                "print a URL, too, with which anybody can read the file for so long",
                "SECONDS",
                int,
            ),
        ),
        needs_client=False,
    ),
    Command(
        "download",
        files.download,
        "fetch an object of the bucket into a file",
        (Option("KEY", "which"), Option("FILE", "where to", is_file=True)),
        needs_client=False,
    ),
    Command(
        "estimate",
        files.estimate,
        "seconds and USD that a task will take on one worker",
        (
            Option("TASK", "a task's name, a JSON file, or - for stdin", is_file=True),
            Option("--width", "of the input", "PX", int, required=True),
            Option("--height", "of the input", "PX", int, required=True),
            Option("--fps", "of the input", "FPS", float, required=True),
            Option("--duration", "of the input", "SECONDS", float, required=True),
            Option(
                "--gpu",
                'the card, "NVIDIA L4" for example; default: the processor of the benchmarks',
                "NAME",
            ),
        ),
        needs_client=False,
    ),
    Command(
        "completion",
        files.completion,
        "print a completion script for a shell",
        (Option("SHELL", "one of " + ", ".join(SHELLS), choices=SHELLS),),
        needs_client=False,
    ),
)
