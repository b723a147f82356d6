"""`gpu-worker demo [--video PATH] [--output demo-output]`: every task on one video, a table on
stdout, a report in HTML."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from gpu_worker.demo import queue_panel
from gpu_worker.demo.clip import CUTS, NoPhotographs, make_clip
from gpu_worker.demo.panel import Video
from gpu_worker.demo.panels import PANELS
from gpu_worker.demo.report import write_report
from gpu_worker.demo.runner import missing_weights, run_demo, table, warn_if_long
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import TaskError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser("demo", help="a video through every available task, with a report")
    parser.add_argument(
        "--video", type=Path, metavar="PATH", help="your own video instead of the one made here"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        metavar="FOLDER",
        help="default: demo-output",
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0 when every task that can run here completed, 1 when one failed, 2 when the video
    cannot be read."""
    from gpu_worker.demo.images import read_video

    output_dir: Path = args.output
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-worker-demo-") as folder:
        try:
            path = args.video or make_clip(Path(folder) / "film.mp4")
            video = Video(path, *read_video(path), cuts=None if args.video else CUTS)
        except (NoPhotographs, TaskError, OSError) as error:
            print(f"gpu-worker demo: {error}", file=sys.stderr)
            return 2
        settings = Settings.from_env(os.environ).processors
        panels = [*PANELS, queue_panel.PANEL]
        warn_if_long([panel for panel in panels if missing_weights(panel, settings) is None], video)
        rows = run_demo(video, output_dir, panels, settings, sys.stderr)
        if not args.video:
            shutil.copyfile(path, output_dir / "film.mp4")
        report = output_dir / "report.html"
        write_report(report, rows, panels, video)
    print("\n".join(table(rows)))
    print(f"report: {report}")
    return 1 if any(row.state == "failed" for row in rows) else 0
