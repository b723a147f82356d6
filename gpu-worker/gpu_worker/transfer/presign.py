"""What a presigned URL binds: until when, which headers, which method, which checksum. Pure;
nothing is verified here.

`read_presign` understands SigV4 queries (`X-Amz-*`, and Google's `X-Goog-*` of the same shape) and
the older `Expires=<epoch>`. A URL without any of these is a plain URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl

from gpu_worker_client.protocol import MAX_PARTS
from gpu_worker_client.protocol.foreign import parse_integer, parse_sigv4_date, parse_unix_time
from gpu_worker_client.protocol.http import MAX_EXPIRES_SECONDS, signed_headers


@dataclass(frozen=True)
class Presign:
    """The readable part of a signature. Never holds the signature itself."""

    expires_at: datetime | None
    """None when the date could not be read; `problem` says so then."""
    expires_seconds: int | None = None
    """The life that was signed, None for a signature that only has an end."""
    signed_headers: frozenset[str] = frozenset()
    """Lower-case names, without `host`."""
    checksum: str | None = None
    """Name of a checksum parameter that fixes the body, None for a URL that takes any body."""
    operation: str | None = None
    """What AWS's JavaScript SDK says the URL is for ("GetObject"), None with other signers."""
    part_number: int | None = None
    version: Literal[2, 4] = 4
    """Version of the signature. One of version 2 covers a Content-Type even when it is absent, so
    none may be sent along unsigned."""
    problem: str | None = None
    """What is wrong with the signature's own parameters."""


def read_presign(query: str) -> Presign | None:
    """The presign of a query string, None when it has none."""
    values = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    for prefix in ("x-amz-", "x-goog-"):
        if f"{prefix}signature" in values or f"{prefix}credential" in values:
            return _version_4(values, prefix, signed_headers(query))
    if "expires" in values and "signature" in values:
        expires_at = parse_unix_time(values["expires"])
        problem = "Expires is not a Unix time" if expires_at is None else None
        return Presign(expires_at, version=2, problem=problem)
    return None


def signed_subset(presign: Presign | None, headers: Mapping[str, str]) -> dict[str, str]:
    """Those of `headers` that the signature binds."""
    signed = presign.signed_headers if presign else frozenset[str]()
    return {name: value for name, value in headers.items() if name.lower() in signed}


def _version_4(values: Mapping[str, str], prefix: str, signed: frozenset[str]) -> Presign:
    title = prefix.title()
    start = parse_sigv4_date(values.get(f"{prefix}date", ""))
    seconds = parse_integer(values.get(f"{prefix}expires"), least=1) if start else None
    part = values.get("partnumber")
    part_number = parse_integer(part, least=1, most=MAX_PARTS)
    expires_at = problem = None
    if start is None:
        problem = f"{title}Date is not of the form 20260131T235959Z"
    elif seconds is None:
        problem = f"{title}Expires is not a number of seconds"
    elif seconds > MAX_EXPIRES_SECONDS:
        limit = f"{title}Expires is over 7 days ({MAX_EXPIRES_SECONDS} seconds)"
        problem = f"{limit}, which the store refuses"
    else:
        expires_at = start + timedelta(seconds=seconds)
        if part is not None and part_number is None:
            problem = f"partNumber is not a number from 1 to {MAX_PARTS}"
    return Presign(
        expires_at=expires_at,
        expires_seconds=seconds,
        signed_headers=signed,
        checksum=next((name for name in sorted(values) if _fixes_body(name)), None),
        operation=values.get("x-id") or None,
        part_number=part_number,
        problem=problem,
    )


def _fixes_body(name: str) -> bool:
    if name == "x-amz-checksum-mode":  # asks a GET to show checksums
        return False
    return name.startswith("x-amz-checksum-") or name == "x-amz-sdk-checksum-algorithm"
