"""What a self-test gives auto_crop, and what must come out."""

from __future__ import annotations

from gpu_worker_client.protocol import AutoCropResult, TaskResult
from gpu_worker_processors.samples import FRAMES, HEIGHT_PX, Sample

CROP_WIDTH_PX = 28
"""Width of the clip's images at 9:16, even."""


def _wrong(result: TaskResult) -> str | None:
    assert isinstance(result, AutoCropResult)
    stats, size = result.stats, f"{CROP_WIDTH_PX}x{HEIGHT_PX}"
    right = (stats.frames_processed, stats.shots, stats.output_resolution) == (FRAMES, 2, size)
    return (
        None
        if right
        else f"{stats.frames_processed} frames of {stats.output_resolution} in {stats.shots} shots"
    )


SAMPLE = Sample(
    variants=({"model": "yolov8n"}, {"model": "hog", "classes": ["person"]}),
    makes_a_file=True,
    judge=_wrong,
)
