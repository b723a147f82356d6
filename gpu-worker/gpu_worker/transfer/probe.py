"""Finds out before any work what a store will say to an upload after it.

A signature covers the method, so a read with an upload's URL is refused when the URL is right, and
writes nothing whatever it is.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from gpu_worker.transfer.connect import Network
from gpu_worker.transfer.http import HttpChannel
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.store_errors import Transient
from gpu_worker.transfer.urls import Target, UrlPolicy
from gpu_worker_client.protocol import ErrorCode, TaskError

PROBE_SECONDS = 10.0
"""For the whole probe: a store that takes longer is asked at the upload."""
_READABLE = frozenset({200, 206, 304, 416})
_FINAL_CODES = frozenset({"InvalidAccessKeyId", "NoSuchBucket", "NoSuchUpload"})
"""Refusals that an upload would get too. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""


def check_upload(
    target: Target,
    *,
    policy: UrlPolicy,
    limits: TransferLimits,
    cancelled: threading.Event,
    network: Network | None = None,
) -> None:
    """Asks for one byte of the object that a presigned URL shall write. A store that cannot be
    reached, or says nothing certain, is left to the upload.

    Raises:
        TaskError: `url_denied`: the URL was signed for reading, or its bucket, key or multipart
            upload does not exist.
    """
    url = target.location
    if not isinstance(url, SafeUrl) or url.presign is None:
        return
    short = replace(limits, total_seconds=PROBE_SECONDS, idle_seconds=PROBE_SECONDS / 2)
    headers = {**target.headers, "Range": "bytes=0-0"}
    try:
        with (
            HttpChannel(policy, short, cancelled, "upload", network) as channel,
            channel.request("GET", url, target.where, headers) as response,
        ):
            if response.status in _READABLE:
                raise _signed_for_reading(target.where)
            refusal = response.refusal()
    except Transient:
        return
    except TaskError as error:
        if error.code is ErrorCode.url_denied:
            raise
        return
    if isinstance(refusal, Transient):
        return
    code = refusal.details.get("storage_code")
    if code == "NoSuchKey":
        raise _signed_for_reading(target.where)
    if code in _FINAL_CODES:
        raise refusal


def _signed_for_reading(where: str) -> TaskError:
    message = f"{where}: the URL was signed for GET and would not take the output; sign it for PUT"
    return TaskError(ErrorCode.url_denied, message, path=where)
