"""The `gpu-worker` command. stdout carries results only; progress and logs go to stderr. Exit 0
done, 1 failed, 2 usage."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from gpu_worker import __version__
from gpu_worker.settings import ConfigError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("gpu_worker.run_local", "run one task here, local paths allowed"),
    "pull": ("gpu_worker.queue.command", "work on jobs of a bucket, until stopped"),
    "dev-server": (
        "gpu_worker.devserver.dev_server",
        "RunPod's API, an R2 gate and a worker on loopback",
    ),
    "demo": ("gpu_worker.demo.cli", "a video through every available task, with a report"),
    "weights": ("gpu_worker.weights_pull", "list, download and verify model weights"),
    "doctor": ("gpu_worker.doctor", "check this machine: GPU, encoders, weights, disk, sandbox"),
}
"""Command -> module with `add_parser(subparsers)` and `run(args) -> int`. Only the chosen one is
imported."""


def parser_for(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-worker", description="A serverless GPU video worker, on RunPod or right here."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        if name == chosen:
            import_module(module).add_parser(commands)
        else:
            commands.add_parser(name, help=summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if word in COMMANDS), None)
    args = parser_for(chosen).parse_args(words)
    # A stopped command puts away what it made, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return import_module(COMMANDS[args.command][0]).run(args)
    except ConfigError as error:
        print(f"gpu-worker: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
