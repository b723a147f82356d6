from gpu_worker_client.split.plan import Segment as Segment
from gpu_worker_client.split.plan import SplitPlan as SplitPlan
from gpu_worker_client.split.plan import plan_split as plan_split
from gpu_worker_client.split.run import SplitResult as SplitResult
from gpu_worker_client.split.run import split_upscale as split_upscale
from gpu_worker_client.split.run import split_upscale_async as split_upscale_async
from gpu_worker_client.split.segment_job import SegmentEvent as SegmentEvent
from gpu_worker_client.split.source import SplitError as SplitError
