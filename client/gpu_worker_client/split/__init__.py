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
    from gpu_worker_client.split.plan import Segment as Segment
    from gpu_worker_client.split.plan import SplitPlan as SplitPlan
    from gpu_worker_client.split.plan import plan_split as plan_split
    from gpu_worker_client.split.run import SplitResult as SplitResult
    from gpu_worker_client.split.run import split_upscale as split_upscale
    from gpu_worker_client.split.run import split_upscale_async as split_upscale_async
    from gpu_worker_client.split.segment_job import SegmentEvent as SegmentEvent
    from gpu_worker_client.split.source import SplitError as SplitError

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
__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec("av") is None:
        raise ConfigError("splitting needs PyAV: pip install 'gpu-worker-client[split]'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
