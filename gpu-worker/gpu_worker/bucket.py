"""The worker's own bucket: where a result goes that is too large for an answer when its task named
no `result_url`.

The upload takes the same way as every other: a presigned PUT, Content-Length, bounded retries. Only
the signing needs the key.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

from gpu_worker.transfer.safe_url import parse_url
from gpu_worker.transfer.transfers import Transfers
from gpu_worker.transfer.urls import Target
from gpu_worker_client.protocol.http import MAX_EXPIRES_SECONDS
from gpu_worker_client.storage import Storage

PUT_LIFETIME_SECONDS = 3600


def store_result(
    bucket: Storage,
    payload: Iterable[bytes],
    transfers: Transfers,
    folder: Path,
) -> str:
    """Puts a result's JSON under `results/` and returns a presigned GET of it. The caller passes
    that URL on: it is the answer.

    Args:
        payload: the JSON in pieces.
        folder: where they are written to a file first.

    Raises:
        TaskError: typed, as `deliver_result`.
    """
    key = f"results/{uuid.uuid4().hex}.json"  # never from what a task or a platform chose
    target = Target(
        parse_url(bucket.presign_put(key, PUT_LIFETIME_SECONDS), "result"),
        where="result",
    )
    transfers.deliver_result(target, payload, folder, None)
    return bucket.presign_get(key, MAX_EXPIRES_SECONDS)
