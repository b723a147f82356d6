"""`gpu-client queue`: jobs through a bucket. The key pair comes from the environment (`R2_*`)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_worker_client.cli.output import (
    Answered,
    Output,
    UsageError,
    error_json,
    file_named,
    read_file,
    status_json,
)
from gpu_worker_client.protocol import State
from gpu_worker_client.protocol.errors import GpuWorkerError
from gpu_worker_client.protocol.foreign import parse_integer, printable
from gpu_worker_client.queue.blocking_queue import Queue
from gpu_worker_client.queue.database import Database
from gpu_worker_client.queue.imports import Imported
from gpu_worker_client.queue.jobs import JobView
from gpu_worker_client.queue.states import QueueState

QueueCommand = Callable[[Queue, argparse.Namespace, Output], Answered]
HEADINGS = ("JOB_ID", "VIDEO", "STATUS", "PROGRESS")


def on_queue(command: QueueCommand) -> Callable[[argparse.Namespace, Output], Answered]:
    def run(args: argparse.Namespace, output: Output) -> Answered:
        return command(Queue(args.bucket, prefix=args.prefix), args, output)

    return run


def submit(queue: Queue, args: argparse.Namespace, output: Output) -> Answered:
    video_id = None if args.video_id is None else _video_id(args.video_id)
    with file_named(str(args.file)):
        job = queue.submit(
            _task(args, video_id), video_id=video_id, job_id=args.job_id, on_event=output.event
        )
    return True, {"id": job.id, "state": QueueState.pending.value}


def _task(args: argparse.Namespace, video_id: int | str | None) -> Any:
    params = {"frame_stride": args.sample_interval, "confidence_threshold": args.confidence}
    given = {name: value for name, value in params.items() if value is not None}
    if args.file is not None and (args.file == "-" or args.file.endswith(".json")):
        if given:
            raise UsageError(
                "--sample-interval and --confidence go with a video; put them into the task"
            )
        return read_file(args.file)
    path = args.file
    if video_id is not None:
        with Database(args.database) as database:
            if path is not None:
                database.put_path(video_id, Path(path).absolute())
            else:
                path = database.path_of(video_id)
    if path is None:
        raise UsageError("give a video, or the --video-id of one that was submitted before")
    return {"task": "track", "input_url": str(path), "params": given}


def _video_id(text: str) -> int | str:
    number = parse_integer(text)
    return text if number is None or str(number) != text else number


def status(queue: Queue, args: argparse.Namespace, _: Output) -> Answered:
    """A table; with --json one object."""
    views = [queue.view(args.id)] if args.id else list(queue.jobs())
    if args.json:
        return True, {"jobs": [_view_json(view) for view in views]}
    return True, table([_row(view) for view in views])


def _view_json(view: JobView) -> dict[str, Any]:
    manifest = view.manifest.model_dump(mode="json", include={"job_id", "video_id", "task"})
    return manifest | {"status": view.state.value, "progress": progress_text(view)}


def _row(view: JobView) -> tuple[str, ...]:
    video_id = view.manifest.video_id
    video = "-" if video_id is None else printable(str(video_id))
    return view.job_id, video, view.state.value, progress_text(view)


def progress_text(view: JobView) -> str:
    """ "1200/108000 frames", "ready to import"."""
    if view.state is QueueState.completed:
        return "ready to import"
    if view.status is None or view.state is not QueueState.processing:
        return ""
    total = "" if view.status.total is None else f"/{view.status.total}"
    return printable(f"{view.status.current}{total} {view.status.unit or 'frames'}")


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Lines of columns that stand below each other."""
    whole = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(len(HEADINGS))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in whole)
    return "\n".join(lines)


def watch(queue: Queue, args: argparse.Namespace, output: Output) -> Answered:
    """Ctrl-C ends the watching only: a job of a queue may run for hours."""
    job = queue.job(args.id)
    for event in job.events(args.timeout):
        output.event(event)
    found = job.status()
    return found.state in (State.completed, State.imported), _job_json(queue, args.id)


def cancel(queue: Queue, args: argparse.Namespace, _: Output) -> Answered:
    found = queue.job(args.id).cancel()
    return found.state is State.cancelled, status_json(found)


def _job_json(queue: Queue, job_id: str) -> dict[str, Any]:
    view = queue.view(job_id)
    if view.state in (QueueState.failed, QueueState.cancelled):
        return status_json(queue.job(job_id).status())
    return {"id": job_id, "state": view.state.value}


def retry(queue: Queue, args: argparse.Namespace, _: Output) -> Answered:
    job = queue.retry(args.id)
    return True, {"id": job.id, "state": QueueState.pending.value, "retry_of": args.id}


def purge(queue: Queue, args: argparse.Namespace, _: Output) -> Answered:
    if (args.id is None) == (not args.imported):
        raise UsageError("give one of a job's id and --imported")
    ids = [args.id]
    if args.imported:
        ids = [view.job_id for view in queue.jobs() if view.state is QueueState.imported]
    return True, {"jobs": len(ids), "deleted": queue.purge(*ids)}


def import_results(queue: Queue, args: argparse.Namespace, output: Output) -> Answered:
    """Every job's outcome as it ends, then the counts."""
    if (args.job_id is None) == (not args.all):
        raise UsageError("give one of --all and --job-id")
    given: Iterable[Imported | GpuWorkerError]
    if args.all:
        given = queue.import_all(args.database)
    else:
        given = [queue.import_job(args.job_id, args.database)]
    imported = failed = detections = bad_rows = 0
    for outcome in given:
        if isinstance(outcome, Imported):
            imported += outcome.is_new
            detections += outcome.detections
            bad_rows += outcome.bad_rows
            for problem in outcome.problems:
                output.note(printable(f"{outcome.job_id}: {problem}"))
            output.answer(asdict(outcome))
        else:
            failed += 1
            output.answer({"error": error_json(outcome)})
    counts = {"imported": imported, "failed": failed}
    return failed == 0, counts | {"detections": detections, "bad_rows": bad_rows}
