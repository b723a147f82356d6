"""What a self-test gives detect_scenes, and what must come out."""

from __future__ import annotations

from gpu_worker_client.protocol import DetectScenesResult, TaskResult
from gpu_worker_processors.samples import CUT_FRAME, Sample


def _wrong(result: TaskResult) -> str | None:
    assert isinstance(result, DetectScenesResult)
    starts = [scene.start_frame for scene in result.scenes]
    return (
        None
        if starts == [0, CUT_FRAME]
        else f"scenes start at frames {starts}, not at [0, {CUT_FRAME}]"
    )


SAMPLE = Sample(judge=_wrong)
