"""Foreign text: read as numbers and dates, and made fit to be shown.

`int` takes digits of every script, blanks, underscores and signs, and `datetime` raises several
kinds of error on dates near its ends. Each parser here takes ASCII of a bounded length, and
returns None for everything else; a test bans the other ways. What is shown or logged has neither
secrets (`redact`) nor control characters (`printable`).
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_INTEGER = 10**18 - 1
_INTEGER = re.compile(r"[0-9]{1,18}")
_SIGV4_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_HTTP_DATE = re.compile(r"[A-Za-z0-9,:+ -]{1,64}")
_YEARS = range(1970, 9999)
"""Not 9999, so that days can be added to every date."""


def parse_integer(text: str | None, *, least: int = 0, most: int = MAX_INTEGER) -> int | None:
    """A decimal integer without sign, blanks or separators, from `least` to `most`."""
    if text is None or _INTEGER.fullmatch(text) is None:
        return None
    value = int(text)
    return value if least <= value <= most else None


def parse_unix_time(text: str) -> datetime | None:
    """Seconds since 1970, up to the year 5138."""
    seconds = parse_integer(text, most=10**11 - 1)
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def parse_sigv4_date(text: str) -> datetime | None:
    """A date of the form `20260131T235959Z`."""
    match = _SIGV4_DATE.fullmatch(text)
    if match is None:
        return None
    try:
        return _bounded(datetime(*map(int, match.groups()), tzinfo=timezone.utc))
    except ValueError:
        return None


def parse_http_date(text: str | None) -> datetime | None:
    """A date of an HTTP header, in UTC."""
    if text is None or _HTTP_DATE.fullmatch(text) is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # RFC 5322: "-0000" names no zone; HTTP dates are GMT
            return _bounded(date.replace(tzinfo=timezone.utc))
        return _bounded(date.astimezone(timezone.utc))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(date: datetime) -> datetime | None:
    return date if date.year in _YEARS else None


MASK = "[redacted]"
_URL = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,20}://)(?:[^\s/?#@\"'<>]*@)?(?P<rest>[^\s?#\"'<>]*)(?P<query>[?#][^\s\"'<>]*)?"
)
_PARAMETER = re.compile(
    r"(?P<name>\b(?:X-(?:Amz|Goog)-[A-Za-z0-9-]+|AWSAccessKeyId|Signature|api[_-]?key|access[_-]?token|client[_-]?secret))"
    r"(?P<sign>[\"']?\s*(?:=|%3D|:)\s*[\"']?)(?!\[redacted\])(?P<value>[^&\s\"',;)}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"\b(?P<kind>Bearer(?=\s+[\w.~+/=-]{8})|Basic(?=\s+[\w.~+/=-]{16}))\s+[\w.~+/=-]+",
    re.IGNORECASE | re.ASCII,
)
"""A longer token behind "Basic", which is an ordinary word as well."""
_KEY_SHAPES = re.compile(
    r"\b(?:rpa_[A-Za-z0-9]{16,}|hf_[A-Za-z0-9]{20,}|A[KS]IA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,})\b"
)
"""RunPod, Hugging Face, AWS and GitHub keys."""

# C0, DEL and C1 (ECMA-48); the line and paragraph separators; the bidirectional controls (Unicode
# Standard Annex 9), which show text in another order than it has; lone surrogates, which no UTF-8
# stream takes.
_OBEYED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def redact(text: str, *, query: str = "") -> str:
    """`text` without URL queries, fragments and user info, signing parameters, tokens and keys of
    known shapes; `query` stands where a URL had a query or a fragment."""
    text = _URL.sub(lambda url: url["scheme"] + url["rest"] + (query if url["query"] else ""), text)
    text = _PARAMETER.sub(lambda match: f"{match['name']}{match['sign']}{MASK}", text)
    text = _BEARER.sub(lambda match: f"{match['kind']} {MASK}", text)
    return _KEY_SHAPES.sub(MASK, text)


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with every control character written out; what was shown once stays as it is. `lines`
    leaves line feeds and tabs, for a text that may have more than one line."""

    def shown(found: re.Match[str]) -> str:
        if lines and found[0] in "\n\t":
            return found[0]
        return found[0].encode("unicode_escape").decode("ascii")

    return _OBEYED.sub(shown, text)
