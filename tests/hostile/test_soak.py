"""Four hundred jobs, hostile and innocent in turn, while engines are killed and jobs cancelled: no
innocent job fails, nothing of a cancelled one is there, and no process is left."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import clips

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorBody, ErrorCode
from gpu_worker_processors.engine.host import Engine

JOBS, SEED = 400, 20
BLOCK = 10
"""Jobs of one engine kind in a row: a change of kind starts a new engine, two seconds each."""
CHAOS_SHARE = 0.15
"""Of the jobs have their engine killed or are cancelled on the way."""
ENGINE_LOST = {"resource_exhausted", "cancelled", "internal"}
"""What the answer of a job may be whose engine was killed; all can be retried."""


@dataclass(frozen=True)
class Yard:
    """Where the jobs' files lie."""

    folder: Path
    clip: Path
    junk: Path

    def task(self, number: int, kind: str) -> dict[str, Any]:
        """An innocent or a hostile task, by its kind."""
        if kind == "scenes":
            return {"task": "detect_scenes", "input_url": str(self.clip)}
        if kind == "junk":
            return {"task": "detect_scenes", "input_url": str(self.junk)}
        if kind == "absent":
            return {"task": "detect_scenes", "input_url": str(self.folder / "no-such-file.mp4")}
        words = {
            "copy": ["-i", "a.mp4", "-c", "copy", "out.mp4"],
            "movie": ["-i", "a.mp4", "-vf", "movie=/etc/passwd", "out.mp4"],
            "empty": ["-ss", "3600", "-i", "a.mp4", "out.mp4"],
        }[kind]
        return {
            "task": "render",
            "inputs": {"a.mp4": str(self.clip)},
            "output_url": str(self.output(number)),
            "params": {"command_args": words, "output_filename": "out.mp4"},
        }

    def output(self, number: int) -> Path:
        return self.folder / f"out-{number}.mp4"


KINDS = {
    "cpu": ("scenes", "scenes", "junk", "absent"),
    "render": ("copy", "copy", "movie", "empty"),
}
INNOCENT = {"scenes", "copy"}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(random.Random(SEED).randbytes(20_000))
    return Yard(tmp_path, clips.make(tmp_path / "a.mp4", clips.Clip(frames=25)), junk)


@dataclass
class Soak:
    """One worker, its engine, and what has come of the jobs."""

    yard: Yard
    worker: Worker
    engine: Engine
    chance: random.Random
    outcomes: Counter[str]

    async def run(self, number: int, kind: str) -> None:
        payload = {"id": str(number), "input": self.yard.task(number, kind)}
        running = asyncio.ensure_future(self.worker.handle(payload))
        chaos = self.chance.choice(["kill", "cancel"]) if self.chance.random() < CHAOS_SHARE else ""
        if chaos:
            await asyncio.wait({running}, timeout=self.chance.uniform(0, 0.3))
        if chaos == "kill" and self.engine.pid is not None:
            with suppress(psutil.NoSuchProcess):  # one that ended with the job before
                victim = psutil.Process(self.engine.pid)
                victim.kill()
                await asyncio.to_thread(victim.wait, 20)  # else the next job meets it at its end
        if chaos == "cancel" and running.cancel():
            with pytest.raises(asyncio.CancelledError):
                await running
            assert not self.yard.output(number).exists(), f"job {number} was cancelled"
            self.outcomes["cancelled"] += 1
            return
        self.judge(number, kind, await running, was_hit=chaos == "kill")

    def judge(self, number: int, kind: str, answer: dict[str, Any], *, was_hit: bool) -> None:
        if "error" not in answer:
            assert kind in INNOCENT, f"job {number}, {kind}"
            self.outcomes["completed"] += 1
            return
        body = ErrorBody.from_wire(answer["error"])
        assert body is not None
        allowed = ENGINE_LOST if was_hit else set[str]()
        assert kind not in INNOCENT or body.code in allowed, f"job {number}, {kind}: {body.code}"
        assert was_hit or body.code != ErrorCode.internal.value, f"job {number}, {kind}"
        assert not self.yard.output(number).exists()
        self.outcomes["hit" if was_hit else "refused"] += 1


def plan(chance: random.Random) -> list[str]:
    """A kind for each job."""
    blocks = [chance.choice(list(KINDS.values())) for _ in range(JOBS // BLOCK)]
    return [chance.choice(block) for block in blocks for _ in range(BLOCK)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_innocent_jobs_among_hostile_ones_and_chaos(yard: Yard) -> None:
    chance = random.Random(SEED)
    settings = Settings(work_root=yard.folder / "work", allow_local_files=True)
    before = set(psutil.Process().children(recursive=True))

    async def soak() -> Counter[str]:
        state = Soak(yard, Worker(settings, engine), engine, chance, Counter())
        for number, kind in enumerate(plan(chance)):
            await state.run(number, kind)
        return state.outcomes

    with closing(Engine(settings, os.environ)) as engine:
        outcomes = asyncio.run(soak())
    assert outcomes.total() == JOBS
    assert outcomes["completed"] > JOBS / 3
    assert set(psutil.Process().children(recursive=True)) <= before
    assert list(settings.work_root.glob("job-*")) == []
