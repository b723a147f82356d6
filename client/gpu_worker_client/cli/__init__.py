"""`gpu-client`: the SDK at a shell. Progress and notes go to stderr; stdout holds the answer: one
JSON object in a pipe or with `--json` (`map`: one for each job and one at the end), lines for a
person on a terminal.

Exit status: 0 when the command did what it says, 1 when the task, the job, the endpoint or the
bucket failed (`map`: when any job did), 2 for a wrong call (arguments, environment, a file that
cannot be read). Ctrl-C while waiting cancels the remote job. Keys are read from the environment
only: arguments are visible to every process of a machine.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from gpu_worker_client.cli._output import (
    Answer,
    Output,
    UsageError,
    error_json,
    event_line,
    status_json,
)
from gpu_worker_client.cli._parser import parser
from gpu_worker_client.client import Client
from gpu_worker_client.errors import ConfigError, WaitTimeout
from gpu_worker_client.protocol.errors import GpuWorkerError

__all__ = ["error_json", "event_line", "main", "status_json"]

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; `argv` is without the program's name."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a stopped command cancels its job as Ctrl-C does
    words = list(sys.argv[1:] if argv is None else argv)
    output = Output(as_json="--json" in words)
    answer: Answer
    try:
        ok, answer = _run(words, output)
        status = EXIT_OK if ok else EXIT_FAILED
    except (UsageError, ConfigError) as error:
        status, answer = EXIT_USAGE, {"error": {"code": "usage", "message": str(error)}}
    except WaitTimeout as error:
        status, answer = (
            EXIT_FAILED,
            {"id": error.job.id, "error": {"code": "wait_timeout", "message": str(error)}},
        )
    except GpuWorkerError as error:
        status, answer = EXIT_FAILED, {"error": error_json(error)}
    except KeyboardInterrupt:
        status, answer = (
            EXIT_FAILED,
            {"error": {"code": "interrupted", "message": "stopped before the end"}},
        )
    try:
        output.answer(answer)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter complains at its end
        return EXIT_FAILED
    return status


def _run(words: list[str], output: Output) -> tuple[bool, Answer]:
    args = parser(__doc__ or "").parse_args(words)
    if not args.needs_client:
        return args.command(args, output)
    with Client(args.endpoint_id, base_url=args.base_url) as client:
        return args.command(client, args, output)
