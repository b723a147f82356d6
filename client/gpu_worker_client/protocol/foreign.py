"""Numbers and dates in foreign text: URLs, headers, XML.

`int` takes digits of every script, blanks, underscores and signs, and `datetime` raises several
kinds of error on dates near its ends. Each function here takes ASCII of a bounded length, and
returns None for everything else; a test bans the other ways.
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
