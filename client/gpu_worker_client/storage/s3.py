"""One bucket behind boto3: the calls that the SDK makes, retried and with typed errors. boto3 comes
with the extra `storage`.

Every body that is sent is bytes in memory, so a call can be made again. Retries are ours and not
boto3's: those do not know R2's 429 (one write a second and key). No error text holds a key or a
signature.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

from gpu_worker_client._blocking import checkpoint
from gpu_worker_client._retry import MAX_RETRIES, Timing, backoff_seconds
from gpu_worker_client.errors import ConfigError, StorageError
from gpu_worker_client.protocol.http import TRANSIENT_STATUS

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
OnBytes = Callable[[int, int], object]
"""Called with (bytes done, bytes in all) while a transfer goes on, in the caller's thread. What it
raises ends the transfer, and a later one goes on from there."""
_log = logging.getLogger("gpu_worker_client")


@dataclass(frozen=True)
class ObjectInfo:
    """What the bucket says of an object."""

    key: str
    size_bytes: int
    etag: str
    """Without quotes; another one for every version."""


@dataclass(frozen=True)
class Refusal:
    """What an answer of the bucket means to a caller."""

    code: str
    sentence: str
    retryable: bool = False


_DENIED = Refusal(
    "denied",
    "the bucket refused the key pair: check both keys, and that they may read and write its"
    " objects",
)
_BUSY = Refusal("unavailable", "the bucket is busy or in trouble", retryable=True)
_CONFLICT = Refusal(
    "conflict", "another write came first: R2 takes one a second and key", retryable=True
)
_CORRUPT = Refusal("corrupted", "the bytes changed on their way", retryable=True)

REFUSALS: dict[str, Refusal] = {
    "NoSuchKey": Refusal("not_found", "there is no such object"),
    "NoSuchBucket": Refusal("no_bucket", "there is no such bucket on this account"),
    "NoSuchUpload": Refusal("no_upload", "the multipart upload was completed or aborted"),
    "PreconditionFailed": Refusal("changed", "the object was replaced by another"),
    "RequestTimeTooSkewed": Refusal(
        "clock_skew", "this machine's clock is more than 15 minutes off: set it"
    ),
    "EntityTooLarge": Refusal("too_large", "the object is larger than the bucket takes"),
    "InvalidRange": Refusal("changed", "the object is shorter than it was"),
    "BadDigest": _CORRUPT,
    "XAmzContentSHA256Mismatch": _CORRUPT,
    "IncompleteBody": _CORRUPT,
}
"""Refusals by the code in the answer's XML. https://developers.cloudflare.com/r2/api/error-codes/"""

_BY_STATUS: dict[int, Refusal] = {
    401: _DENIED,
    403: _DENIED,
    404: REFUSALS["NoSuchKey"],
    412: REFUSALS["PreconditionFailed"],
    416: REFUSALS["InvalidRange"],
    **dict.fromkeys(TRANSIENT_STATUS, _BUSY),
    **dict.fromkeys((409, 429), _CONFLICT),
}
"""Refusals by the status: for a HEAD, whose answer has no body, and for a code that the table
lacks."""


def refusal(code: str, status: int) -> Refusal:
    """The meaning of an answer that is no success."""
    unknown = Refusal("refused", f"the bucket refused the request ({code or status})")
    return REFUSALS.get(code) or _BY_STATUS.get(status) or unknown


_MAKING_A_CLIENT = Lock()
"""boto3's sessions are not made for threads; its clients are."""


@cache
def _session() -> Any:
    """One for all buckets: it keeps the description of S3, which takes 0.2 s to read. Not boto3's
    default one, which a program may have given a profile of its own."""
    from boto3.session import Session

    return Session()


class S3:
    """The calls. May be used from several threads."""

    def __init__(
        self,
        endpoint_url: str,
        bucket: str,
        access_key_id: str,
        secret_access_key: str,
        region: str,
        timing: Timing,
    ) -> None:
        try:
            from botocore.config import Config

            session = _session()
        except ImportError:
            raise ConfigError(
                "storage needs boto3: pip install 'gpu-worker-client[storage]'"
            ) from None
        self.bucket = bucket
        self.timing = timing
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # R2 refuses the checksum trailer that boto3 adds by default since 1.36.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            # A proxy named by the environment is for the world outside, not for a store on this
            # machine.
            proxies={} if urlsplit(endpoint_url).scheme == "http" else None,
        )
        with _MAKING_A_CLIENT:
            self._client: Any = session.client(
                "s3",
                region_name=region,
                endpoint_url=endpoint_url,
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                config=config,
            )

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One operation of boto3's client, by its name there, on this bucket. Raises StorageError:
        it failed, or failed `MAX_RETRIES` times more in a way that may pass."""
        for attempt in range(MAX_RETRIES + 1):
            try:
                return self.try_once(operation, **arguments)
            except StorageError as error:
                if not error.retryable or attempt == MAX_RETRIES:
                    raise
                pause = backoff_seconds(attempt, None, self.timing.random())
                _log.debug("%s; retry %d in %.2f s", error, attempt + 1, pause)
            self.timing.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def try_once(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """`call` without a retry."""
        from botocore.exceptions import BotoCoreError, ClientError

        checkpoint()
        try:
            answer = getattr(self._client, operation)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            response = cast("dict[str, Any]", error.response)
            code = str(response.get("Error", {}).get("Code", ""))
            status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise refused(refusal(code, status), operation, arguments.get("Key")) from None
        except BotoCoreError as error:
            raise connection_error(error, operation, arguments.get("Key")) from None
        return cast("dict[str, Any]", answer)

    def head(self, key: str) -> ObjectInfo | None:
        """Size and version of an object, None when there is none."""
        try:
            answer = self.call("head_object", Key=key)
        except StorageError as error:
            if error.code == "not_found":
                return None
            raise
        return ObjectInfo(key, int(answer["ContentLength"]), etag_of(answer))

    def presign(self, operation: str, expires_seconds: int, **arguments: Any) -> str:
        """A URL that carries the right to this one operation. Makes no request."""
        return self._client.generate_presigned_url(
            operation, Params={"Bucket": self.bucket, **arguments}, ExpiresIn=expires_seconds
        )


def etag_of(answer: Mapping[str, Any]) -> str:
    """Without quotes; empty when there is none."""
    return str(answer.get("ETag", "")).strip('"')


def connection_error(error: Exception, operation: str, key: object) -> StorageError:
    """The error for a request that got no answer, or only a part of one."""
    from botocore.exceptions import SSLError

    meaning = Refusal("unreachable", f"no whole answer ({type(error).__name__})", retryable=True)
    if isinstance(error, SSLError):
        meaning = Refusal("unreachable", "its certificate is not trusted")
    return refused(meaning, operation, key)


def refused(meaning: Refusal, operation: str, key: object) -> StorageError:
    where = f" {key}" if isinstance(key, str) else ""
    return StorageError(
        f"{operation}{where}: {meaning.sentence}", code=meaning.code, retryable=meaning.retryable
    )
