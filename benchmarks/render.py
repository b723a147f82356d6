"""render beside plain FFmpeg: the same words, the same binary, once as from a shell and once as
a job of the task.

What the task adds is there in milliseconds: reading the command, the sandbox, probing the
inputs, and the check of the file. The clip is short so that it shows. The sandbox's share is
measured with a program that does nothing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import RenderParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render.processor import PROCESSOR, ffmpeg_program
from gpu_worker_processors.sandbox import program
from gpu_worker_processors.sandbox.program import Confinement

ROUNDS = 15
"""They take turns; medians are compared."""
SOURCE = (
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=1280x720:rate=25:duration=2",
    "-f",
    "lavfi",
    "-i",
    "sine=duration=2",
)
WORDS = ("-vf", "scale=640:360", "-c:v", "libx264", "-preset", "veryfast", "-c:a", "aac")
BAR_MS, SANDBOX_BAR_MS = 60, 15


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = folder / "film.mp4"
        plain(*SOURCE, "-c:v", "libx264", "-c:a", "aac", str(video))
        job = LocalJob(
            id="bench",
            params=RenderParams(command_args=["-i", "film.mp4", *WORDS, "out.mp4"]),
            work_dir=folder,
            inputs={"film.mp4": video},
            output_path=folder / "out.mp4",
        )
        ours, peer = in_turn(
            lambda: PROCESSOR.run(job),
            lambda: plain("-i", str(video), *WORDS, str(folder / "plain.mp4")),
        )
        confinement = Confinement(folder)
        sandboxed, free = in_turn(lambda: version(confinement), lambda: plain("-version"))
    added, sandbox = ours - peer, sandboxed - free
    return [
        {
            "name": "render, 2 s of 720p to 360p",
            "ours": ours,
            "peer": peer,
            "ratio": peer / ours,
            "unit": "ms",
            "note": (
                f"the peer is plain FFmpeg; {added:.0f} ms more, the file checked; bar {BAR_MS} ms"
                " more"
            ),
            "work": {
                "task": "render",
                "width": 1280,
                "height": 720,
                "frames": 50,
                "seconds": ours / 1000,
            },
        },
        {
            "name": "sandbox around a program that ends at once",
            "ours": sandboxed,
            "peer": free,
            "unit": "ms",
            "note": f"the peer is no sandbox; {sandbox:.1f} ms more, bar {SANDBOX_BAR_MS} ms more",
        },
    ]


def in_turn(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """Median milliseconds of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, measured in zip((ours, peer), times, strict=True):
            started = time.perf_counter()
            call()
            measured.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[0]), statistics.median(times[1])


def plain(*words: str) -> None:
    subprocess.run(
        [ffmpeg_program(), "-nostdin", "-v", "error", "-y", *words],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def version(confinement: Confinement) -> None:
    quiet = subprocess.DEVNULL
    words = ("-nostdin", "-v", "error", "-y", "-version")
    program.start(
        ffmpeg_program(), words, confinement, os.environ, stdout=quiet, stderr=quiet
    ).wait()
