"""A worker whose engine has already tracked: its result lies in a file, made by the real store, and
the way of the answer is the real one. As a program it takes one step of that way in a fresh process
and prints what it cost, as JSON:

    python tracked.py engine FOLDER BOXES           boxes -> store -> FOLDER/result.json python
    tracked.py worker FOLDER [RESULT_URL]    result.json -> answer -> FOLDER/answer.json (settings
    from the environment) python tracked.py client FOLDER/FILE            a stored result, or an
    answer, -> `TrackResult`
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import TrackCut, TrackResult, TrackVideo
from gpu_worker_processors import runner
from gpu_worker_processors.engine.host import (
    Engine,
    EngineAnswer,
    EngineJob,
    OnProgress,
    _read_result,
)
from gpu_worker_processors.engine.jobdir import RESULT_NAME
from gpu_worker_processors.track.store import TrackStore, packed_result

PLAYERS = 10
SHOT_FRAMES = 600


def make_result(folder: Path, boxes: int) -> TrackResult:
    """Ten players walk, seen with noise; new ones every 600 frames. The packed result, as it leaves
    the engine."""
    frames = boxes // PLAYERS
    rng = random.Random(1)
    errors = [rng.gauss(0, 1) for _ in range(10_000)]
    with TrackStore(folder) as store:
        for frame in range(frames):
            shot = frame // SHOT_FRAMES
            for player in range(PLAYERS):
                x, y = 100 * player + frame % SHOT_FRAMES * 0.9, 200 + frame % SHOT_FRAMES * 0.3
                corners = [
                    at + errors[int(rng.random() * 10_000)] for at in (x, y, x + 60, y + 150)
                ]
                confidence = 0.8 + errors[int(rng.random() * 10_000)] / 25
                store.add(
                    shot * PLAYERS + player + 1,
                    "person",
                    shot,
                    frame,
                    corners,
                    confidence,
                    frame % 50 == 0,
                )
        cuts = [TrackCut(frame=at, time=at / 25) for at in range(SHOT_FRAMES, frames, SHOT_FRAMES)]
        video = TrackVideo(width=1920, height=1080, fps=25, duration=frames / 25)
        return packed_result(store, total_frames=frames, seconds=1.0, cuts=cuts, video=video)


class Tracked(Engine):
    """An engine that leaves a finished result's bytes where a real one would."""

    def __init__(self, settings: Settings, result: bytes) -> None:
        super().__init__(settings, os.environ)
        self._result = result
        self.replaced = False

    def start(self, task: str = "") -> bool:  # noqa: ARG002 - the engine's signature
        return False

    def prepare(self, job: EngineJob) -> None:
        """Nothing to load."""

    def own(self, path: Path) -> None:
        """Its user is ours."""

    def kill(self) -> None:
        self.replaced = True

    def run(self, job: EngineJob, on_progress: OnProgress) -> EngineAnswer:
        path = job.work_dir / RESULT_NAME
        path.write_bytes(self._result)
        return EngineAnswer(result=_read_result(path), seconds=1.0, device="cpu", gpu=None)


REGISTRY = SimpleNamespace(
    get=lambda _name: SimpleNamespace(required_weights=lambda _params, _inputs: ())
)


def answer(settings: Settings, result: bytes, source: Path, **task: Any) -> dict[str, Any]:
    """The worker's answer to a task whose engine leaves these bytes. `runner.registry` and `TASKS`
    are the caller's to replace."""
    return ask(Tracked(settings, result), settings, source, **task)


def ask(engine: Engine, settings: Settings, source: Path, **task: Any) -> dict[str, Any]:
    """As `answer`, of this engine."""
    worker = Worker(settings, engine)
    return asyncio.run(
        worker.handle({"id": "job", "input": {"task": "track", "input_url": str(source), **task}})
    )


def _main(step: str, position: str, *more: str) -> dict[str, Any]:
    path = Path(position)
    if step == "engine":
        made = make_result(path, int(more[0]))
        (path / RESULT_NAME).write_text(made.model_dump_json())
        return {"characters": len(made.tracks_columnar or "")}
    if step == "worker":
        runner.registry = REGISTRY
        settings = dataclasses.replace(
            Settings.from_env(os.environ), allow_local_files=True, work_root=path / "work"
        )
        source = path / "in.mp4"
        source.touch()
        task = {"result_url": more[0]} if more else {}
        found = answer(settings, (path / RESULT_NAME).read_bytes(), source, **task)
        (path / "answer.json").write_text(json.dumps(found))
        return {"keys": sorted(found), "error": found.get("error")}
    result = TrackResult.from_json(path.read_bytes())
    return {
        "boxes": sum(len(track.frames) for track in result.tracks),
        "tracks": len(result.tracks),
    }


if __name__ == "__main__":
    started = time.monotonic()
    said = _main(*sys.argv[1:])
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(
        json.dumps(
            said | {"seconds": round(time.monotonic() - started, 1), "peak_mb": round(peak / 1000)}
        )
    )
