"""What a self-test gives track, and what must come out."""

from __future__ import annotations

from gpu_worker_client.protocol import TaskResult, TrackResult
from gpu_worker_processors.samples import CUT_FRAME, FRAMES, Sample


def _wrong(result: TaskResult) -> str | None:
    assert isinstance(result, TrackResult)
    cuts = [cut.frame for cut in result.cuts]
    right = (
        result.stats.total_frames == FRAMES
        and cuts == [CUT_FRAME]
        and result.stats.unique_tracks == 0
    )
    return (
        None
        if right
        else (
            f"{result.stats.total_frames} frames, cuts at {cuts}, {result.stats.unique_tracks}"
            " tracks"
        )
    )


SAMPLE = Sample(
    variants=({"model": "yolov8n"}, {"model": "hog", "classes": ["person"], "frame_stride": 8}),
    judge=_wrong,
)
