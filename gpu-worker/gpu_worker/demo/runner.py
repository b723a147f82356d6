"""Runs the demo: platform up, worker up, the video into the store, every task through the client
SDK, results into a table.

Nothing here knows a task: what differs lies in the panels. A task whose weights are not here is
skipped; any other failure counts.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gpu_worker.demo.bar import Bar
from gpu_worker.demo.panel import Desk, Panel, Row, Video
from gpu_worker.devserver import LocalPlatform, WorkerProcess
from gpu_worker_client import (
    Client,
    GpuWorkerError,
    JobError,
    Policy,
    ProgressEvent,
    Queued,
    Started,
)
from gpu_worker_client.protocol import ErrorCode, TaskError, TaskResult
from gpu_worker_processors.base import ProcessorSettings
from gpu_worker_processors.models.weights import WeightStore

INPUT_KEY = "input/film"
MIN_EXECUTION_SECONDS = 600.0
"""RunPod's own default, for tasks whose estimate is shorter."""
ESTIMATE_MARGIN = 10
"""A machine may be this much slower than the estimate before the platform stops the job."""


@dataclass(frozen=True)
class Stage:
    """Everything that is up and running while the demo goes through its panels."""

    platform: LocalPlatform
    worker: WorkerProcess
    client: Client
    desk: Desk
    output_dir: Path
    err: TextIO


def run_demo(
    video: Video,
    output_dir: Path,
    panels: Sequence[Panel],
    settings: ProcessorSettings,
    err: TextIO,
) -> list[Row]:
    """Runs every panel's task on the video. Files that tasks make are copied into `output_dir`."""
    print("starting the local platform and a worker", file=err)
    with LocalPlatform() as platform:
        platform.gate.put(INPUT_KEY, video.path)
        lifetime = int(max(3600, sum(_time_limit(panel, video) for panel in panels)))
        desk = Desk(
            video=video,
            input_url=lambda: platform.gate.presign("GET", INPUT_KEY, expires=lifetime),
            output_url=lambda name: platform.gate.presign(
                "PUT", f"output/{name}", expires=lifetime
            ),
            has_weights=lambda name: _usable(WeightStore.of(settings), name),
            bucket={
                "R2_ENDPOINT_URL": platform.gate.base_url,
                "R2_BUCKET_NAME": platform.gate.bucket,
                "R2_ACCESS_KEY_ID": platform.gate.credentials.access_key,
                "R2_SECRET_ACCESS_KEY": platform.gate.credentials.secret_key,
            },
        )
        worker = platform.start_worker()
        platform.wait_ready(worker)
        with Client(platform.endpoint_id, platform.api_key, platform.base_url) as client:
            stage = Stage(platform, worker, client, desk, output_dir, err)
            return [_skipped(panel, video, settings) or _run(panel, stage) for panel in panels]


def _skipped(panel: Panel, video: Video, settings: ProcessorSettings) -> Row | None:
    reason = panel.unfit(video) or missing_weights(panel, settings)
    return Row(panel.task, "skipped", reason) if reason else None


def _run(panel: Panel, stage: Stage) -> Row:
    started = time.monotonic()
    try:
        result = _result(panel, stage)
    except GpuWorkerError as error:
        if not isinstance(error, JobError) or error.code == ErrorCode.internal.value:
            print(
                stage.worker.log_tail(), file=stage.err
            )  # the worker's fault or the platform's: the log says why
        return Row(panel.task, "failed", str(error), time.monotonic() - started)
    seconds = time.monotonic() - started
    for name in panel.outputs:
        shutil.copyfile(stage.platform.gate.path(f"output/{name}"), stage.output_dir / name)
    frames, stats = _frames(result), getattr(result, "stats", None)
    busy = getattr(stats, "processing_time_sec", 0.0)
    return Row(
        panel.task,
        "completed",
        panel.summary(result),
        seconds,
        frames / busy if frames and busy else None,
        result,
    )


def _result(panel: Panel, stage: Stage) -> TaskResult:
    if panel.run is not None:
        with Bar(panel.task, stage.err) as bar:
            return panel.run(stage.desk, stage.output_dir, bar.say)
    policy = Policy(execution_timeout_seconds=_time_limit(panel, stage.desk.video))
    with (
        Bar(panel.task, stage.err) as bar,
        stage.client.submit(panel.request(stage.desk), policy=policy) as job,
    ):
        for event in job.events():
            if isinstance(event, ProgressEvent):
                bar.show(event.progress)
            elif isinstance(event, Queued | Started):
                bar.say("queued" if isinstance(event, Queued) else "running")
        return job.result()


def missing_weights(panel: Panel, settings: ProcessorSettings) -> str | None:
    """The command that gets the weights this panel needs and that are not here; None when it can
    run."""
    store = WeightStore.of(settings)
    names = [name for name in panel.weights if not _usable(store, name)]
    # Exported, so that the demo that follows finds them too.
    where = "" if settings.weights_dir else "export WEIGHTS_DIR=weights; "
    return f"{where}{_program()} weights pull {' '.join(names)}" if names else None


def _program() -> str:
    """`gpu-worker` as the reader's shell finds it: `make demo` works without an activated
    environment."""
    if shutil.which("gpu-worker"):
        return "gpu-worker"
    here = Path(sys.executable).with_name("gpu-worker")
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def _usable(store: WeightStore, name: str) -> bool:
    try:
        store.resolve(name)
    except TaskError:
        return False
    return True


def _time_limit(panel: Panel, video: Video) -> float:
    return max(MIN_EXECUTION_SECONDS, ESTIMATE_MARGIN * panel.estimate_seconds(video))


def _frames(result: object) -> int:
    stats = getattr(result, "stats", None)
    return int(getattr(stats, "frames_processed", 0) or getattr(stats, "total_frames", 0))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as text, columns aligned."""
    texts = [row.text if row.state == "completed" else f"{row.state}: {row.text}" for row in rows]
    width = min(100, max(map(len, texts), default=0))
    yield f"{'task':14} {'result':{width}} {'seconds':>8} {'frames/s':>9}"
    for row, text in zip(rows, texts, strict=True):
        seconds = f"{row.seconds:.1f}" if row.seconds is not None else "-"
        rate = f"{row.frames_per_second:.1f}" if row.frames_per_second else "-"
        yield f"{row.task:14} {text:{width}} {seconds:>8} {rate:>9}"


def warn_if_long(panels: Sequence[Panel], video: Video, out: TextIO = sys.stderr) -> None:
    """Says beforehand what a long video will take on a CPU. Nothing is ever cut."""
    seconds = sum(panel.estimate_seconds(video) for panel in panels)
    if seconds > 180:
        print(
            f"this video takes about {seconds / 60:.0f} minutes on two CPU cores (less with a GPU);"
            " Ctrl-C stops it",
            file=out,
        )
