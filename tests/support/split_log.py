"""A split in segments by a toy worker: its events, and what must be true when it is finished."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import av

from gpu_worker.devserver import LocalPlatform
from gpu_worker_client import Client
from gpu_worker_client.split import SegmentEvent, SplitResult
from support.toy_worker import ToyWorker

SEGMENTS = 3
OPTIONS: dict[str, Any] = {"split": True, "segments": SEGMENTS, "model": "lite", "codec": "prores"}


def shown(path: Path) -> list[str]:
    """Hash of every decoded frame."""
    with av.open(str(path)) as container:
        return [
            hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()
            for frame in container.decode(video=0)
        ]


def states(platform: LocalPlatform) -> Counter[str]:
    return Counter(job.status.value for job in platform.control.hub.queue.jobs.values())


class Log:
    """Events, and whether all segments are submitted and one is done."""

    def __init__(self) -> None:
        self.events: list[SegmentEvent] = []

    def __call__(self, event: SegmentEvent) -> None:
        self.events.append(event)

    @property
    def stages(self) -> Counter[str]:
        return Counter(event.stage for event in self.events)

    @property
    def half_way(self) -> bool:
        return self.stages["submitted"] == SEGMENTS and self.stages["done"] == 1


def finish(client: Client, worker: ToyWorker, source: Path, log: Log) -> SplitResult:
    """The call after one that ended half way: one segment was paid, the other jobs were
    cancelled."""
    worker.serve(SEGMENTS - 1)
    return client.upscale(source, source.with_name("out.mov"), **OPTIONS, on_event=log)


def assert_finished(
    source: Path, platform: LocalPlatform, worker: ToyWorker, first: Log, then: Log
) -> None:
    """Nothing was paid twice, and the output is the source again."""
    done = [
        event.job_id
        for event in first.events
        if event.stage == "submitted" and event.segment.index in done_in(first)
    ]
    assert [event.job_id for event in then.events if event.stage == "found"] == done
    assert then.stages == {
        "uploaded": SEGMENTS,
        "found": 1,
        "submitted": SEGMENTS - 1,
        "done": SEGMENTS,
    }
    assert worker.worked == SEGMENTS
    assert states(platform) == {"COMPLETED": SEGMENTS, "CANCELLED": SEGMENTS - 1}
    assert shown(source.with_name("out.mov")) == shown(source)
    assert sorted(path.name for path in source.parent.iterdir()) == ["in.mov", "out.mov"]


def done_in(log: Log) -> set[int]:
    return {event.segment.index for event in log.events if event.stage == "done"}
