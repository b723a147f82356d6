"""One long video over many workers: cut between frames that do not know each other, joined again
without a loss.

Needs the extra `split` (PyAV): `pip install 'gpu-worker-client[split]'`. Names are loaded when
first used, and PyAV with them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gpu_worker_client.errors import ConfigError

if TYPE_CHECKING:
    from gpu_worker_client.split.plan import Segment, SplitPlan, plan_split
    from gpu_worker_client.split.run import SplitResult, split_upscale, split_upscale_async
    from gpu_worker_client.split.segment_job import SegmentEvent
    from gpu_worker_client.split.source import SplitError

__all__ = [
    "Segment",
    "SegmentEvent",
    "SplitError",
    "SplitPlan",
    "SplitResult",
    "plan_split",
    "split_upscale",
    "split_upscale_async",
]

_MODULES = {
    "Segment": "plan",
    "SegmentEvent": "segment_job",
    "SplitError": "source",
    "SplitPlan": "plan",
    "SplitResult": "run",
    "plan_split": "plan",
    "split_upscale": "run",
    "split_upscale_async": "run",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec("av") is None:
        raise ConfigError("splitting needs PyAV: pip install 'gpu-worker-client[split]'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
