"""`gpu-worker run TASK.json`: one task in this process tree, by the same worker and engine. Local
paths are allowed."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from gpu_worker.app import Worker, new_job_id
from gpu_worker.errors import failure_answer
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import MAX_TASK_BYTES, ErrorBody, Progress
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.engine.jobdir import remove, sweep, worker_root
from gpu_worker_processors.redact import install as install_redaction
from gpu_worker_processors.sandbox.lifeline import interrupt_with


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser("run", help="run one task here, local paths allowed")
    parser.add_argument(
        "task", metavar="TASK.json", help="a file with the task JSON, or - for standard input"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--parent", metavar="PID", type=int, help="end, as by Ctrl-C, when this process has ended"
    )


def run(args: argparse.Namespace) -> int:
    """Prints exactly one JSON object, the answer. Returns 0: completed, 1: failed, 2: the task
    cannot be read."""
    try:
        payload = read_task(args.task)
    except OSError as error:
        print(f"gpu-worker run: cannot read {args.task}: {error.strerror}", file=sys.stderr)
        return 2
    settings = dataclasses.replace(
        Settings.from_env(os.environ), allow_local_files=True, weights_download=True
    )
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    install_redaction(os.environ)
    if args.parent is not None:
        interrupt_with(args.parent)
    answer = asyncio.run(_run(settings, payload, None if args.quiet else sys.stderr))
    print(json.dumps(answer, ensure_ascii=False))
    if "error" not in answer:
        return 0
    if (body := ErrorBody.from_wire(answer["error"])) is not None:
        print(f"gpu-worker run: {body.code}: {body.message}", file=sys.stderr)
    return 1


def read_task(name: str) -> bytes:
    """The task's bytes; one more than the worker accepts at most, so that an endless stdin ends in
    a typed error."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_TASK_BYTES + 1)
    with Path(name).open("rb") as file:
        return file.read(MAX_TASK_BYTES + 1)


async def _run(settings: Settings, payload: bytes, bar: TextIO | None) -> dict[str, Any]:
    sweep(settings.work_root)
    try:
        settings = dataclasses.replace(settings, work_root=worker_root(settings.work_root))
    except OSError as error:
        return failure_answer(error)
    engine = Engine(settings, os.environ)
    worker = Worker(settings, engine)

    async def show(report: dict[str, Any]) -> None:
        if bar is not None:
            line = Progress.model_validate(report).text()
            bar.write(f"\r\x1b[K{line}" if bar.isatty() else f"{line}\n")
            bar.flush()

    try:
        return await worker.handle({"id": new_job_id(), "input": payload}, show)
    finally:
        engine.close()
        remove(settings.work_root)
        if bar is not None and bar.isatty():
            bar.write("\r\x1b[K")
