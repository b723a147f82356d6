"""What a store's refusal means: status and XML code of S3 and R2 in, a typed error or "try again"
out. Pure.

Codes: https://developers.cloudflare.com/r2/api/error-codes/ and
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. AWS answers an expired URL with
403, R2 with 400: both are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import parse_http_date
from gpu_worker_client.protocol.http import TRANSIENT_STATUS, retry_after_seconds

Direction = Literal["download", "upload"]

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
_EXPIRED_TEXT = re.compile(rb"<Message>[^<]{0,200}\bexpired\b", re.IGNORECASE)
_RETRIED_CODES = frozenset(
    {
        "BadGateway",
        "ClientDisconnect",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequests",
    }
)
_EXPIRED_CODES = frozenset({"ExpiredRequest", "ExpiredToken", "TokenRefreshRequired"})
_CLEAN_REFUSALS = frozenset({408, 409, 425, 429})
"""Refused before the store did anything, so a later 412 cannot be our own doing."""
MAX_RETRY_AFTER_SECONDS = 3600.0
SKEW_SECONDS = 60.0
"""A clock that is off by more is worth a word beside an expiry error."""


class Transient(Exception):
    """A failure that the next try may not have."""

    def __init__(
        self, error: TaskError, *, retry_after_seconds: float | None = None, ambiguous: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        """What to report when no try is left."""
        self.retry_after_seconds = retry_after_seconds
        self.ambiguous = ambiguous
        """The store may have done what was asked although no answer said so."""


@dataclass(frozen=True)
class StoreRefusal:
    """An answer that is not the wanted one."""

    status: int
    body: bytes = b""
    """The first bytes of it."""
    date: str | None = None
    """Its Date header."""
    retry_after: str | None = None
    is_version_2: bool = False
    """The URL has a signature of version 2."""

    @property
    def code(self) -> str:
        """Code of an S3 XML error, "" without one. Letters and digits only, so it may be shown."""
        match = _CODE.search(self.body)
        return match[1].decode() if match else ""


def judge(
    refusal: StoreRefusal, where: str, direction: Direction, now: datetime
) -> TaskError | Transient:
    """The error for a refusal.

    Args:
        where: field of the task that holds the URL.
        now: this machine's time, for the skew.
    """
    status, code = refusal.status, refusal.code
    shown = f"{status} {code}".strip()
    details: dict[str, Any] = {"path": where, "status": status}
    if code:
        details["storage_code"] = code
    if 300 <= status < 400:
        message = (
            f"{where}: the store answered with a redirect ({status}), which is never followed; give"
            " the final URL"
        )
        return TaskError(ErrorCode.redirect_not_allowed, message, **details)
    if code == "RequestTimeTooSkewed":
        return _skewed(refusal, where, now)
    if code in _EXPIRED_CODES or (status in (400, 401, 403) and _EXPIRED_TEXT.search(refusal.body)):
        skew = _offset_seconds(refusal.date, now)
        if skew is not None and abs(skew) > SKEW_SECONDS:
            details["clock_offset_seconds"] = round(skew)
        message = (
            f"{where}: the store says the URL has expired ({shown}); sign a new one, for longer"
        )
        return TaskError(ErrorCode.url_expired, message, **details)
    if code in _RETRIED_CODES or status in TRANSIENT_STATUS:
        message = f"{where}: the store kept answering {shown}; submit again later"
        ambiguous = status not in _CLEAN_REFUSALS and code not in (
            "IncompleteBody",
            "RequestTimeout",
        )
        error = TaskError(ErrorCode.storage_unavailable, message, **details)
        asked = retry_after_seconds(refusal.retry_after, now)
        return Transient(
            error,
            retry_after_seconds=None if asked is None else min(asked, MAX_RETRY_AFTER_SECONDS),
            ambiguous=ambiguous,
        )
    return _permanent(refusal, where, direction, details)


def _permanent(
    refusal: StoreRefusal, where: str, direction: Direction, details: dict[str, Any]
) -> TaskError:
    status, code = refusal.status, refusal.code
    shown = f"{status} {code}".strip()
    if status == 404 and direction == "download":
        return TaskError(
            ErrorCode.input_not_found, f"{where}: there is no such object ({shown})", **details
        )
    if status == 413 or code == "EntityTooLarge":
        message = (
            f"{where}: the store refuses an object of this size ({shown}); give output_multipart"
        )
        return TaskError(ErrorCode.output_too_large, message, **details)
    hint = _VERSION_2 if refusal.is_version_2 else _hint(status, code)
    message = f"{where}: the store refuses the request ({shown}){hint}"
    return TaskError(ErrorCode.url_denied, message, **details)


_VERSION_2 = (
    "; the URL has a signature of version 2, which R2 and newer buckets of S3 do not take: sign"
    ' with version 4 (boto3: Config(signature_version="s3v4"))'
)
"""https://developers.cloudflare.com/r2/api/s3/api/"""


def _hint(status: int, code: str) -> str:
    if code == "SignatureDoesNotMatch":
        return (
            "; the URL was signed for another method, or a signed header was sent with another"
            " value"
        )
    if code in (
        "BadDigest",
        "InvalidDigest",
        "XAmzContentSHA256Mismatch",
        "Unauthorized",
        "NotImplemented",
    ):
        return "; sign the URL without a checksum (requestChecksumCalculation WHEN_REQUIRED)"
    if code in ("NoSuchBucket", "NoSuchUpload"):
        return "; the bucket or the multipart upload does not exist (any more)"
    return "; check key, bucket and permissions of the signer" if status in (401, 403) else ""


def _skewed(refusal: StoreRefusal, where: str, now: datetime) -> TaskError:
    offset = _offset_seconds(refusal.date, now)
    measured = (
        "" if offset is None else f" (the store's clock is {offset:+.0f} s from this worker's)"
    )
    message = (
        f"{where}: the store says the clocks differ too much{measured}; set the clock of the signer"
    )
    return TaskError(
        ErrorCode.clock_skew,
        message,
        path=where,
        offset_seconds=None if offset is None else round(offset),
    )


def _offset_seconds(date: str | None, now: datetime) -> float | None:
    parsed = parse_http_date(date)
    return None if parsed is None else (parsed - now).total_seconds()
