"""What a self-test gives render, and what must come out."""

from __future__ import annotations

from gpu_worker_client.protocol import RenderResult, TaskResult
from gpu_worker_processors.samples import CLIP_NAME, FRAMES, Sample


def _wrong(result: TaskResult) -> str | None:
    assert isinstance(result, RenderResult)
    stats = result.stats
    right = (stats.frames, stats.encoder_used) == (FRAMES, "libx264")
    return (
        None if right else f"{stats.frames} frames of {stats.encoder_used}, not {FRAMES} of libx264"
    )


SAMPLE = Sample(
    variants=(
        {
            "command_args": [
                "-i",
                CLIP_NAME,
                "-vf",
                "hflip",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "out.mp4",
            ]
        },
    ),
    makes_a_file=True,
    judge=_wrong,
)
