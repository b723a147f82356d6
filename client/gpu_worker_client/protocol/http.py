"""Rules of HTTP that everyone here follows who makes a request: which answers are temporary, how
long to wait before the next try, which hosts are this machine, which headers a presigned URL binds.
"""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import parse_qsl

from gpu_worker_client.protocol.foreign import parse_http_date

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that may be asked without TLS."""
FIRST_PAUSE_SECONDS = 0.5
"""As in openai-python's client."""
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
DEFAULT_EXPIRES_SECONDS = 24 * 3600
"""RunPod's default for the longest life of a job: its URLs must not die before it."""
MAX_EXPIRES_SECONDS = 7 * 24 * 3600
"""Longest life of a presigned URL. https://developers.cloudflare.com/r2/api/s3/presigned-urls/"""


def full_jitter_seconds(attempt: int, longest_seconds: float, jitter: float) -> float:
    """Seconds to wait after failure number `attempt` (from 0). `jitter` is a random number in [0,
    1). https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/"""
    return jitter * min(longest_seconds, FIRST_PAUSE_SECONDS * 2**attempt)


def retry_after_seconds(text: str | None, now: datetime) -> float | None:
    """What a `Retry-After` header asks for, in seconds or as a date; None when not readable."""
    text = (text or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    date = parse_http_date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def signed_headers(query: str) -> frozenset[str]:
    """Lower-case names of the headers, besides `host`, that must be sent with a URL of this query:
    those that its SigV4 signature, or Google's of the same shape, binds."""
    values = [
        value
        for name, value in parse_qsl(query)
        if name.lower() in ("x-amz-signedheaders", "x-goog-signedheaders")
    ]
    return frozenset(";".join(values).lower().split(";")) - {"", "host"}
