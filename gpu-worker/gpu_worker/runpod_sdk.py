"""RunPod's SDK, imported without its delay, and with a heartbeat that ends with its worker: take it
from here.

While it is imported the SDK asks py-cpuinfo for the processor's name. That costs two seconds of
every cold start, and on a busy machine it may never end: py-cpuinfo spins on one core (`while
p.is_alive(): p.join(0)`) until a child of a child has measured the clock in machine code. Linux
knows the name without measuring.

The heartbeat is a process of its own, and a worker that is killed cannot end it. Its pings would
say for ever that the job is in work, and nobody would get the job again.
"""

from __future__ import annotations

from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import cpuinfo

from gpu_worker_processors.sandbox.lifeline import die_with


def _cpu_info() -> dict[str, str]:
    """Instead of `cpuinfo.get_cpu_info`: the one value that the SDK reads of it, or nothing, which
    it bears."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"brand_raw": names[0]} if names else {}


cpuinfo.get_cpu_info = _cpu_info

import runpod  # noqa: E402
from runpod.http_client import AsyncClientSession  # noqa: E402
from runpod.serverless.modules.rp_http import send_result  # noqa: E402
from runpod.serverless.modules.rp_ping import Heartbeat  # noqa: E402
from runpod.serverless.modules.worker_state import JobsProgress  # noqa: E402

_ping_for_ever = Heartbeat.process_loop


def _ping_while_the_worker_lives(mirror: Any = None, test: bool = False) -> None:
    worker = parent_process()
    if worker is not None and worker.pid is not None:
        die_with(worker.pid)
    _ping_for_ever(mirror, test)


Heartbeat.process_loop = staticmethod(_ping_while_the_worker_lives)


def jobs_in_progress() -> int:
    """Jobs that the SDK has taken and not yet answered, those among them that it has not yet handed
    over."""
    return JobsProgress().get_job_count()


__all__ = ["AsyncClientSession", "jobs_in_progress", "runpod", "send_result"]
