"""Foreign text made fit to be read by a person: without secrets, without control characters."""

from __future__ import annotations

import re

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
    known shapes.

    Args:
        text: anybody's.
        query: what stands where a URL had a query or a fragment.
    """
    text = _URL.sub(lambda url: url["scheme"] + url["rest"] + (query if url["query"] else ""), text)
    text = _PARAMETER.sub(lambda match: f"{match['name']}{match['sign']}{MASK}", text)
    text = _BEARER.sub(lambda match: f"{match['kind']} {MASK}", text)
    return _KEY_SHAPES.sub(MASK, text)


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with every control character written out; what was shown once stays as it is.

    Args:
        text: anybody's.
        lines: leave line feeds and tabs, for a text that may have more than one line.
    """
    allowed = "\n\t" if lines else ""
    return _OBEYED.sub(lambda found: found[0] if found[0] in allowed else _written(found[0]), text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
