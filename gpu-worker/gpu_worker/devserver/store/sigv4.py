"""Verification of AWS Signature Version 4, written from the specification and independent of any
SDK: in a URL's query (presigned) or in the `Authorization` header (an SDK with keys of its own).

Accepts one request (method, raw path with query, headers) and either returns the decoded query or
raises `S3Error`. Pure: no I/O, the time is an argument.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker_client.protocol.foreign import parse_integer, parse_sigv4_date
from gpu_worker_client.protocol.http import MAX_EXPIRES_SECONDS

MAX_SKEW_SECONDS = 900
"""A request whose date is more than this ahead, or whose signed header is older, is refused.
AWS: RequestTimeTooSkewed after 15 minutes."""
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"

_UNRESERVED = "-_.~"
_REQUIRED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "auto"


@dataclass(frozen=True)
class _Claim:
    """What a request says of its own signature, wherever it says it."""

    credential: str
    """`KEY/DATE/REGION/s3/aws4_request`."""
    date: str
    """`YYYYMMDDThhmmssZ`."""
    signed: list[str]
    """Names of the signed headers, lower case."""
    signature: str
    payload: str
    """SHA-256 of the body in hex, or `UNSIGNED-PAYLOAD`."""
    expires: str | None
    """Seconds, of a presigned URL."""


def verify(
    method: str, raw_path: str, headers: Mapping[str, str], credentials: Credentials, now: float
) -> dict[str, str]:
    """Checks the signature of a request.

    Args:
        method: as sent.
        raw_path: the request line's target: path and query, still percent-encoded.
        headers: lower-case names; several values of one name joined by ",".
        credentials: the one key pair that is accepted.
        now: seconds since the epoch.

    Returns:
        The query without the signature's own parameters, decoded. The body is still to be held
            against a signed
        `x-amz-content-sha256`.
    """
    path, _, query_string = raw_path.partition("?")
    pairs = parse_qsl(query_string, keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise S3Error("InvalidArgument", "a query parameter occurs twice")
    claim = (
        _header_claim(query, headers)
        if "authorization" in headers
        else _query_claim(query, headers)
    )
    scope = _scope(claim, credentials)
    _check_headers(claim.signed, headers)
    canonical = _canonical_request(method, path, pairs, claim, headers)
    expected = _signature(canonical, claim.date, scope, credentials.secret_key)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise S3Error(
            "SignatureDoesNotMatch",
            "the signature does not fit method, path, query and signed headers",
        )
    _check_time(claim, now)
    return {name: value for name, value in query.items() if name not in _REQUIRED}


def _query_claim(query: Mapping[str, str], headers: Mapping[str, str]) -> _Claim:
    if not any(name in query for name in _REQUIRED):
        raise S3Error("Unauthorized", "the request is not signed")
    missing = [name for name in _REQUIRED if name not in query]
    if missing:
        raise S3Error(
            "AuthorizationQueryParametersError", f"missing in the query: {', '.join(missing)}"
        )
    if query["X-Amz-Algorithm"] != _ALGORITHM:
        raise S3Error("AuthorizationQueryParametersError", f"X-Amz-Algorithm must be {_ALGORITHM}")
    return _Claim(
        credential=query["X-Amz-Credential"],
        date=query["X-Amz-Date"],
        signed=query["X-Amz-SignedHeaders"].split(";"),
        signature=query["X-Amz-Signature"],
        payload=headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD),
        expires=query["X-Amz-Expires"],
    )


_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=(?P<credential>[^,\s]+), ?SignedHeaders=(?P<signed>[^,\s]+), ?"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


def _header_claim(query: Mapping[str, str], headers: Mapping[str, str]) -> _Claim:
    if any(name in query for name in _REQUIRED):
        raise S3Error(
            "InvalidArgument",
            "signed in the query and in the Authorization header; only one is allowed",
        )
    match = _AUTHORIZATION.fullmatch(headers["authorization"].strip())
    if match is None:
        raise S3Error(
            "AuthorizationHeaderMalformed", f"the Authorization header is not {_ALGORITHM}'s"
        )
    if "x-amz-date" not in headers or "x-amz-content-sha256" not in headers:
        raise S3Error("InvalidRequest", "x-amz-date and x-amz-content-sha256 are required headers")
    return _Claim(
        credential=match["credential"],
        date=headers["x-amz-date"],
        signed=match["signed"].split(";"),
        signature=match["signature"],
        payload=headers["x-amz-content-sha256"],
        expires=None,
    )


def _scope(claim: _Claim, credentials: Credentials) -> str:
    malformed = (
        "AuthorizationHeaderMalformed"
        if claim.expires is None
        else "AuthorizationQueryParametersError"
    )
    access_key, _, scope = claim.credential.partition("/")
    if access_key != credentials.access_key:
        raise S3Error("Unauthorized", "unknown access key")
    if scope != f"{claim.date[:8]}/{credentials.region}/s3/aws4_request":
        raise S3Error(malformed, f"the scope must be DATE/{credentials.region}/s3/aws4_request")
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


def _check_time(claim: _Claim, now: float) -> None:
    date, expires = parse_sigv4_date(claim.date), parse_integer(claim.expires)
    if date is None or (claim.expires is not None and expires is None):
        raise S3Error(
            "AuthorizationQueryParametersError", "X-Amz-Date or X-Amz-Expires is malformed"
        )
    signed_at = date.timestamp()
    if signed_at > now + MAX_SKEW_SECONDS or (
        expires is None and signed_at < now - MAX_SKEW_SECONDS
    ):
        raise S3Error("RequestTimeTooSkewed", "the request's date is too far from the time here")
    if expires is None:
        return
    if not 1 <= expires <= MAX_EXPIRES_SECONDS:
        raise S3Error(
            "AuthorizationQueryParametersError",
            f"X-Amz-Expires must be 1 to {MAX_EXPIRES_SECONDS} seconds",
        )
    if now > signed_at + expires:
        raise S3Error("ExpiredRequest", "the presigned URL has expired")


def _canonical_request(
    method: str,
    raw_path: str,
    pairs: list[tuple[str, str]],
    claim: _Claim,
    headers: Mapping[str, str],
) -> str:
    encoded = [
        (_encode(name), _encode(value)) for name, value in pairs if name != "X-Amz-Signature"
    ]
    lines = [
        method,
        quote(unquote(raw_path), safe="/" + _UNRESERVED),
        "&".join(f"{name}={value}" for name, value in sorted(encoded)),
        *(f"{name}:{re.sub(' +', ' ', headers[name].strip())}" for name in claim.signed),
        "",
        ";".join(claim.signed),
        claim.payload,
    ]
    return "\n".join(lines)


def _encode(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _signature(canonical: str, date: str, scope: str, secret_key: str) -> str:
    text = "\n".join([_ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret_key).encode()
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
