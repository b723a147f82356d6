"""The worker's own bucket: where a result goes that is too large for an answer when its task named
no `result_url`.

The upload takes the same way as every other: a presigned PUT, Content-Length, bounded retries. Only
the signing needs the key.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpu_worker.settings import Bucket
from gpu_worker.transfer.safe_url import parse_url
from gpu_worker.transfer.transfers import Transfers
from gpu_worker.transfer.urls import Target
from gpu_worker_client.protocol.presigned import MAX_EXPIRES_SECONDS

PUT_LIFETIME_SECONDS = 3600


def store_result(
    bucket: Bucket,
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
        parse_url(_presign(bucket, "put_object", key, PUT_LIFETIME_SECONDS), "result"),
        where="result",
    )
    transfers.deliver_result(target, payload, folder, None)
    return _presign(bucket, "get_object", key, MAX_EXPIRES_SECONDS)


def _presign(bucket: Bucket, operation: str, key: str, lifetime_seconds: int) -> str:
    import boto3
    from botocore.config import Config

    client: Any = boto3.client(  # pyright: ignore[reportUnknownMemberType]
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        region_name="auto",
        # R2 refuses the checksum trailer that boto3 adds by default since 1.36.
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client.generate_presigned_url(
        operation, Params={"Bucket": bucket.name, "Key": key}, ExpiresIn=lifetime_seconds
    )
