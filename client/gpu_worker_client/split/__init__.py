"""One long video over many workers: cut between frames that do not know each other, joined again
without a loss.

Needs the extra `split` (PyAV): `pip install 'gpu-worker-client[split]'`.
"""

from importlib.util import find_spec

from gpu_worker_client.exceptions import ConfigError

if find_spec("av") is None:
    raise ConfigError("splitting needs PyAV: pip install 'gpu-worker-client[split]'")

from gpu_worker_client.split.errors import SplitError
from gpu_worker_client.split.plan import Segment, SplitPlan, plan_split
from gpu_worker_client.split.run import split_upscale, split_upscale_async
from gpu_worker_client.split.segment_job import SegmentEvent
from gpu_worker_client.split.work import SplitResult

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
