"""Moves a job's files between presigned URLs and local paths, safely: checked URLs, checked
addresses, whole files or none."""

from gpu_worker.transfer.connect import Network
from gpu_worker.transfer.deliver import Delivered, deliver, deliver_result
from gpu_worker.transfer.fetch import Fetched, fetch, read_result
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.probe import check_upload
from gpu_worker.transfer.progress import Progress
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.urls import Parts, Source, Target, TaskUrls, UrlPolicy, check_task

__all__ = [
    "Delivered",
    "Fetched",
    "Network",
    "Parts",
    "Progress",
    "SafeUrl",
    "Source",
    "Target",
    "TaskUrls",
    "TransferLimits",
    "UrlPolicy",
    "check_task",
    "check_upload",
    "deliver",
    "deliver_result",
    "fetch",
    "read_result",
]
