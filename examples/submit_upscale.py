"""Upscales a video and shows how far it is; a failure that a second try can help is tried once
more.

    export GPU_WORKER_ENDPOINT_ID=... RUNPOD_API_KEY=...
    INPUT_URL=https://... OUTPUT_URL=https://... python examples/submit_upscale.py

INPUT_URL is a presigned GET, OUTPUT_URL a presigned PUT; both must outlive the time in the queue
and the run. MODEL (default `lite`, which needs no weights) and SCALE choose the network and the
size. Ctrl-C cancels the remote job.
"""

import os
import sys
from typing import Any

from gpu_worker_client import Client, Event, JobError, Policy, ProgressEvent
from gpu_worker_client.protocol import UpscaleResult


def show(event: Event) -> None:
    if isinstance(event, ProgressEvent):
        progress = event.progress
        print(
            f"{progress.stage}: {progress.done}/{progress.total or '?'} {progress.unit}",
            file=sys.stderr,
        )
    else:
        print(type(event).__name__.lower(), file=sys.stderr)


def run(client: Client, task: dict[str, Any], tries: int = 2) -> UpscaleResult:
    """Runs the task, and again when the failure says that this can help."""
    policy = Policy(execution_timeout_seconds=4 * 3600, ttl_seconds=24 * 3600)
    for left in reversed(range(tries)):
        try:
            result = client.run(task, on_event=show, policy=policy)
        except JobError as error:
            if not (error.retryable and left):
                raise
            print(f"{error.code}, once more", file=sys.stderr)
        else:
            assert isinstance(result, UpscaleResult)
            return result
    raise AssertionError("the last try returns or raises")


def main() -> int:
    task = {
        "task": "upscale",
        "input_url": os.environ["INPUT_URL"],
        "output_url": os.environ["OUTPUT_URL"],
        "params": {
            "model": os.environ.get("MODEL", "lite"),
            "scale": float(os.environ.get("SCALE", "4")),
        },
    }
    with Client() as client:
        try:
            result = run(client, task)
        except JobError as error:
            print(f"{error.code}: {error.message}", file=sys.stderr)
            return 1
    stats = result.stats
    print(
        f"{stats.input_resolution} -> {stats.output_resolution}, {stats.frames_processed} frames,"
        f" {stats.fps:.2f} frames/s"
    )
    print(result.output_url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
