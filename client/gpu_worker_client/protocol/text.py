"""Text of others made fit to be read by a person: without secrets, without control characters."""

from __future__ import annotations

import re

_URL = re.compile(
    r"""(?P<start>\b[A-Za-z][A-Za-z0-9+.-]{0,15}://)(?:[^\s/?#@"'<>\\]*@)?(?P<place>[^\s?#"'<>\\]*)(?P<query>[?#][^\s"'<>\\]*)?"""
)
_SIGNATURE = re.compile(r"(?i)\b(X-Amz-[A-Za-z-]+|Signature|AWSAccessKeyId)=[^\s&\"'<>\\]+")
_BEARER = re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}")


# C0, DEL and C1 (ECMA-48); the line and paragraph separators; the bidirectional controls (Unicode
# Standard Annex 9), which show text in another order than it has; lone surrogates, which no UTF-8
# stream takes.
_OBEYED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def redact(text: str) -> str:
    """`text` with `https://host/path?query` cut to `https://host/path`, and no bare signature
    parameter or bearer token."""
    text = _URL.sub(lambda match: match["start"] + match["place"], text)
    text = _SIGNATURE.sub(r"\1=[redacted]", text)
    return _BEARER.sub(r"\1 [redacted]", text)


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with every control character written out; what was shown once stays as it is.

    Args:
        text: anybody's.
        lines: leave line feeds and tabs, for a text that may have more than one line.
    """
    kept = "\n\t" if lines else ""
    return _OBEYED.sub(lambda found: found[0] if found[0] in kept else _written(found[0]), text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
