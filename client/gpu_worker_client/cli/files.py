"""Commands that need no endpoint: files in a bucket, estimates."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from gpu_worker_client.cli.output import Answered, Output, UsageError, file_named, read_file
from gpu_worker_client.estimate import estimate as estimated
from gpu_worker_client.files.transfer import Transfer
from gpu_worker_client.protocol import TASKS
from gpu_worker_client.storage import OnBytes, Storage


def upload(args: argparse.Namespace, output: Output) -> Answered:
    """The signed URL comes only when it is asked for: whoever reads it can read the file."""
    storage = Storage.from_env()
    with file_named(args.file) as path:
        key = storage.upload(path, args.key, _bytes_shown("upload", path, output))
    answer: dict[str, Any] = {"key": key, "bytes": path.stat().st_size}
    if args.presign is not None:
        answer["url"] = storage.presign_get(key, args.presign)
    return True, answer


def download(args: argparse.Namespace, output: Output) -> Answered:
    storage = Storage.from_env()
    with file_named(args.file) as path:
        storage.download(args.key, path, _bytes_shown("download", path, output))
    return True, {"key": args.key, "file": args.file, "bytes": path.stat().st_size}


def _bytes_shown(direction: Literal["upload", "download"], path: Path, output: Output) -> OnBytes:
    return lambda done, total: output.event(Transfer(direction, path.name, done, total))


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
