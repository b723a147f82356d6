"""RunPod's SDK, imported without its delay: take it from here.

While it is imported the SDK asks py-cpuinfo for the processor's name. That costs two seconds of
every cold start, and on a busy machine it may never end: py-cpuinfo spins on one core (`while
p.is_alive(): p.join(0)`) until a child of a child has measured the clock in machine code. Linux
knows the name without measuring.
"""

from __future__ import annotations

from pathlib import Path

import cpuinfo


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
from runpod.serverless.modules.worker_state import JobsProgress  # noqa: E402


def jobs_in_progress() -> int:
    """Jobs that the SDK has taken and not yet answered, those among them that it has not yet handed
    over."""
    return JobsProgress().get_job_count()


__all__ = ["AsyncClientSession", "jobs_in_progress", "runpod", "send_result"]
