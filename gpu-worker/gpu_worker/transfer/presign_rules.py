"""What a presigned URL shows before any work: that the store will refuse it, and how to
sign it right.

Every rule here costs microseconds; the same fault found by the store costs the caller an hour of
GPU time at the upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from gpu_worker.transfer.presign import Presign
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.task import FRAMING_HEADERS

Method = Literal["GET", "PUT", "POST"]

_OWN_ON_GET = frozenset(
    {
        "accept-encoding",
        "content-encoding",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
    }
)
"""The download splits and resumes; a fixed range, encoding or condition would break that."""
_CHECKSUM_HELP = (
    "sign without a checksum: in the JavaScript SDK set requestChecksumCalculation to"
    ' WHEN_REQUIRED, in boto3 request_checksum_calculation="when_required"'
)
_OPERATIONS: dict[Method, frozenset[str]] = {
    "GET": frozenset({"GetObject"}),
    "PUT": frozenset({"PutObject", "UploadPart"}),
    "POST": frozenset({"CompleteMultipartUpload"}),
}


def check_presign(
    url: SafeUrl,
    field: str,
    *,
    method: Method,
    headers: Mapping[str, str],
    headers_field: str,
    now: datetime,
    min_remaining_seconds: float,
) -> None:
    """Refuses a URL that the store will refuse, or that ends too early.

    Raises:
        TaskError: `url_expired`, `url_denied`, or `invalid_task` for a header that may not be
            given.
    """
    if method == "GET":
        _check_conditions(headers, headers_field)
    presign = url.presign
    if presign is None:
        return
    if presign.problem is not None:
        raise _denied(field, presign.problem)
    check_expiry(url, field, now=now, min_remaining_seconds=min_remaining_seconds)
    _check_operation(presign, field, method)
    if method != "GET":
        _check_checksum(presign, field, headers)
    _check_signed_headers(presign, field, headers, headers_field)


def check_expiry(
    url: SafeUrl, field: str, *, now: datetime, min_remaining_seconds: float = 0.0
) -> None:
    """Raises `url_expired` when the URL has ended or will end before `min_remaining_seconds` are
    over."""
    if url.expires_at is None:
        return
    left = (url.expires_at - now).total_seconds()
    if left <= 0:
        message = (
            f"{field}: the URL expired {-left:.0f} s ago; sign a new one, for longer, and submit"
            " again"
        )
        raise TaskError(
            ErrorCode.url_expired, message, path=field, expired_seconds_ago=round(-left)
        )
    if left < min_remaining_seconds:
        message = (
            f"{field}: the URL ends in {left:.0f} s but may be needed for"
            f" {min_remaining_seconds:.0f} s; sign it for longer (the longest life is 7 days)"
        )
        raise TaskError(
            ErrorCode.url_expired,
            message,
            path=field,
            remaining_seconds=round(left),
            needed_seconds=round(min_remaining_seconds),
        )


def _check_conditions(headers: Mapping[str, str], headers_field: str) -> None:
    for name in headers:
        if name.lower() in _OWN_ON_GET:
            message = (
                f"{headers_field}.{name}: the download sets this header itself; sign the URL"
                " without it"
            )
            raise TaskError(ErrorCode.invalid_task, message, path=f"{headers_field}.{name}")


def _check_operation(presign: Presign, field: str, method: Method) -> None:
    if presign.operation is not None and presign.operation not in _OPERATIONS[method]:
        wanted = " or ".join(sorted(_OPERATIONS[method]))
        raise _denied(field, f"the URL was signed for another operation; sign it for {wanted}")


def _check_checksum(presign: Presign, field: str, headers: Mapping[str, str]) -> None:
    if presign.checksum is not None:
        raise _denied(
            field,
            f"{presign.checksum} is signed into the URL, so no body but that one can be uploaded;"
            f" {_CHECKSUM_HELP}",
        )
    given = {name.lower(): value for name, value in headers.items()}
    for name in sorted(presign.signed_headers):
        fixed = name == "content-md5" or name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum"))
        if fixed or (
            name == "x-amz-content-sha256"
            and given.get(name, "UNSIGNED-PAYLOAD") != "UNSIGNED-PAYLOAD"
        ):
            raise _denied(
                field, f"the signature fixes the body by the header {name}; {_CHECKSUM_HELP}"
            )


def _check_signed_headers(
    presign: Presign, field: str, headers: Mapping[str, str], headers_field: str
) -> None:
    framing = sorted(presign.signed_headers & FRAMING_HEADERS)
    if framing:
        raise _denied(
            field,
            f"the header {framing[0]} is signed, but its value is not known yet; sign without it",
        )
    given = {name.lower() for name in headers}
    missing = sorted(presign.signed_headers - given)
    if missing:
        what = "these headers are" if len(missing) > 1 else "this header is"
        message = (
            f"{what} signed but not given: {', '.join(missing)}; put name and value into"
            f" {headers_field}"
        )
        raise _denied(field, message, missing_headers=missing)
    unsigned = sorted(
        name for name in given if name.startswith("x-amz-") and name not in presign.signed_headers
    )
    if unsigned:
        raise _denied(
            field,
            f"{headers_field}.{unsigned[0]} is given but not signed, which the store refuses;"
            " sign it",
        )


def _denied(field: str, what: str, **details: Any) -> TaskError:
    return TaskError(ErrorCode.url_denied, f"{field}: {what}", path=field, **details)
