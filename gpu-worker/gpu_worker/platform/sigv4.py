"""Verification of AWS Signature Version 4 in a URL's query, written from the specification and independent of any SDK.

Accepts one request (method, raw path with query, headers) and either returns the decoded query or raises `S3Error`. Pure: no
I/O, the time is an argument. https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import strptime
from urllib.parse import parse_qsl, quote, unquote

from gpu_worker.platform.s3_errors import S3Error

MAX_EXPIRES_SECONDS = 604_800
"""Seven days, the longest life of a presigned URL. https://developers.cloudflare.com/r2/api/s3/presigned-urls/"""
MAX_SKEW_SECONDS = 900
"""A request dated further in the future is refused. AWS: RequestTimeTooSkewed after 15 minutes."""
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_UNRESERVED = "-_.~"
_REQUIRED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "auto"


def verify(method: str, raw_path: str, headers: Mapping[str, str], credentials: Credentials, now: float) -> dict[str, str]:
    """Checks the signature of a presigned request.

    Args:
        method: as sent.
        raw_path: the request line's target: path and query, still percent-encoded.
        headers: lower-case names; several values of one name joined by ",".
        credentials: the one key pair that is accepted.
        now: seconds since the epoch.

    Returns:
        The query without the signature's own parameters, decoded.
    """
    path, _, query_string = raw_path.partition("?")
    pairs = parse_qsl(query_string, keep_blank_values=True)
    query = _single_values(pairs)
    scope = _scope(query, credentials)
    signed = query["X-Amz-SignedHeaders"].split(";")
    _check_headers(signed, headers)
    canonical = _canonical_request(method, path, pairs, signed, headers)
    expected = _signature(canonical, query["X-Amz-Date"], scope, credentials.secret_key)
    if not hmac.compare_digest(expected.encode(), query["X-Amz-Signature"].encode()):
        raise S3Error("SignatureDoesNotMatch", "the signature does not fit method, path, query and signed headers")
    _check_time(query, now)
    return {name: value for name, value in query.items() if name not in _REQUIRED}


def _single_values(pairs: list[tuple[str, str]]) -> dict[str, str]:
    query = dict(pairs)
    if len(query) != len(pairs):
        raise S3Error("InvalidArgument", "a query parameter occurs twice")
    if not any(name in query for name in _REQUIRED):
        raise S3Error("Unauthorized", "the URL is not presigned")
    missing = [name for name in _REQUIRED if name not in query]
    if missing:
        raise S3Error("AuthorizationQueryParametersError", f"missing in the query: {', '.join(missing)}")
    if query["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256":
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Algorithm must be AWS4-HMAC-SHA256")
    return query


def _scope(query: Mapping[str, str], credentials: Credentials) -> str:
    access_key, _, scope = query["X-Amz-Credential"].partition("/")
    if access_key != credentials.access_key:
        raise S3Error("Unauthorized", "unknown access key")
    if scope != f"{query['X-Amz-Date'][:8]}/{credentials.region}/s3/aws4_request":
        raise S3Error("AuthorizationQueryParametersError", f"the scope must be DATE/{credentials.region}/s3/aws4_request")
    return scope


def _check_headers(signed: list[str], headers: Mapping[str, str]) -> None:
    if "host" not in signed:
        raise S3Error("AuthorizationQueryParametersError", "host must be a signed header")
    absent = [name for name in signed if name not in headers]
    if absent:
        raise S3Error("SignatureDoesNotMatch", f"signed but not sent: {', '.join(absent)}")
    unsigned = sorted(name for name in headers if name.startswith("x-amz-") and name not in signed)
    if unsigned:
        raise S3Error("AccessDenied", f"sent but not signed: {', '.join(unsigned)}")


def _check_time(query: Mapping[str, str], now: float) -> None:
    try:
        signed_at = timegm(strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
        expires = int(query["X-Amz-Expires"])
    except ValueError:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Date or X-Amz-Expires is malformed") from None
    if not 1 <= expires <= MAX_EXPIRES_SECONDS:
        raise S3Error("AuthorizationQueryParametersError", f"X-Amz-Expires must be 1 to {MAX_EXPIRES_SECONDS} seconds")
    if signed_at > now + MAX_SKEW_SECONDS:
        raise S3Error("RequestTimeTooSkewed", "the request is dated in the future")
    if now > signed_at + expires:
        raise S3Error("ExpiredRequest", "the presigned URL has expired")


def _canonical_request(
    method: str, raw_path: str, pairs: list[tuple[str, str]], signed: list[str], headers: Mapping[str, str]
) -> str:
    encoded = [(_encode(name), _encode(value)) for name, value in pairs if name != "X-Amz-Signature"]
    lines = [
        method,
        quote(unquote(raw_path), safe="/" + _UNRESERVED),
        "&".join(f"{name}={value}" for name, value in sorted(encoded)),
        *(f"{name}:{re.sub(' +', ' ', headers[name].strip())}" for name in signed),
        "",
        ";".join(signed),
        headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD),
    ]
    return "\n".join(lines)


def _encode(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _signature(canonical: str, date: str, scope: str, secret_key: str) -> str:
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret_key).encode()
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
