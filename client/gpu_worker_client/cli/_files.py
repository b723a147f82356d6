"""Commands that need no endpoint: files in a bucket, estimates, shell completion."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_worker_client.cli._jobs import read_task
from gpu_worker_client.cli._output import Output, UsageError
from gpu_worker_client.files.transfer import Transfer
from gpu_worker_client.protocol import TASKS

Answered = tuple[bool, dict[str, Any]]


def upload(args: argparse.Namespace, output: Output) -> Answered:
    """The signed URL comes only when it is asked for: whoever reads it can read the file."""
    from gpu_worker_client.storage import Storage

    storage = Storage.from_env()
    path = Path(args.file)
    try:
        key = storage.upload(
            path,
            args.key,
            lambda done, total: output.event(Transfer("upload", path.name, done, total)),
        )
    except OSError as error:
        raise UsageError(f"{args.file}: {error.strerror}") from None
    answer: dict[str, Any] = {"key": key, "bytes": path.stat().st_size}
    if args.presign is not None:
        answer["url"] = storage.presign_get(key, args.presign)
    return True, answer


def download(args: argparse.Namespace, output: Output) -> Answered:
    from gpu_worker_client.storage import Storage

    path = Path(args.file)
    storage = Storage.from_env()
    try:
        storage.download(
            args.key,
            path,
            lambda done, total: output.event(Transfer("download", path.name, done, total)),
        )
    except OSError as error:
        raise UsageError(f"{args.file}: {error.strerror}") from None
    return True, {"key": args.key, "file": args.file, "bytes": path.stat().st_size}


def estimate(args: argparse.Namespace, _: Output) -> Answered:
    from gpu_worker_client.estimate import estimate as estimated

    task: Any = args.task
    if task not in TASKS:
        try:
            task = json.loads(read_task(args.task))
        except ValueError:
            raise UsageError(
                f"{args.task}: neither a task's name nor a file with its JSON"
            ) from None
    video = {
        "width": args.width,
        "height": args.height,
        "fps": args.fps,
        "duration_seconds": args.duration,
    }
    return True, asdict(estimated(task, **video, gpu=args.gpu))


def completion(args: argparse.Namespace, _: Output) -> tuple[bool, str]:
    from gpu_worker_client.cli._completion import (
        SCRIPTS,
    )  # here: it reads the table that names this function

    return True, SCRIPTS[args.shell]()
