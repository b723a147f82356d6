"""`detect_scenes` on a file, as the engine runs it."""

from __future__ import annotations

from pathlib import Path

from gpu_worker_client.protocol import DetectScenesParams, DetectScenesResult
from gpu_worker_processors import registry
from gpu_worker_processors.base import LocalJob


def run(path: Path, **params: object) -> DetectScenesResult:
    processor = registry.get("detect_scenes")
    job = LocalJob("job", DetectScenesParams(**params), path.parent, path)
    assert processor.required_weights(job.params) == ()
    processor.prepare(job)
    result = processor.run(job)
    assert isinstance(result, DetectScenesResult)
    return result


def starts(result: DetectScenesResult) -> list[int]:
    return [scene.start_frame for scene in result.scenes]
