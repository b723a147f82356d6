"""What a self-test gives beat, and what must come out."""

from __future__ import annotations

from gpu_worker_client.protocol import BeatResult, TaskResult
from gpu_worker_processors.samples import CLICKS, CLICKS_HZ, Sample, clicks


def _wrong(result: TaskResult) -> str | None:
    assert isinstance(result, BeatResult)
    made = [second / CLICKS_HZ for second in range(CLICKS)]
    near = len(made) == len(result.beat_times) and all(
        abs(a - b) <= 0.015 for a, b in zip(made, result.beat_times, strict=True)
    )
    return None if near else f"beats at {result.beat_times} s, not at {made}"


SAMPLE = Sample(judge=_wrong, source=clicks)
