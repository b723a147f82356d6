"""What the worker adds to a task: handler to engine to answer for `selftest`, warm. No peer: the
bar is 50 ms."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_processors.engine.host import Engine

WARM_UP = 2
RUNS = 40


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            work_root=Path(folder), weights_dir=Settings.from_env(os.environ).weights_dir
        )
        engine = Engine(settings, os.environ)
        try:
            seconds = asyncio.run(_measure(Worker(settings, engine)))
        finally:
            engine.close()
    median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
    note = f"median of {RUNS}; slowest {worst:.1f} ms; bar 50 ms"
    return [
        {
            "name": "selftest: handler to engine to answer, warm",
            "ours": median,
            "unit": "ms",
            "note": note,
            "work": {"task": "selftest", "jobs": 1, "seconds": median / 1000},
        }
    ]


async def _measure(worker: Worker) -> list[float]:
    seconds: list[float] = []
    for run in range(WARM_UP + RUNS):
        started = time.perf_counter()
        answer = await worker.handle({"id": f"bench-{run}", "input": {"task": "selftest"}})
        seconds.append(time.perf_counter() - started)
        if "error" in answer:
            raise RuntimeError(answer["error"])
    return seconds[WARM_UP:]
