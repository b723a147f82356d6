"""Takes the secrets out of text that a person will read: the query, fragment and user part of any
URL in it. A presigned URL's signature stands in its query, and foreign errors like to quote the URL
they failed on."""

from __future__ import annotations

import re

_URL = re.compile(
    r"""(?P<start>\b[A-Za-z][A-Za-z0-9+.-]{0,15}://)(?:[^\s/?#@"'<>\\]*@)?(?P<place>[^\s?#"'<>\\]*)(?P<query>[?#][^\s"'<>\\]*)?"""
)
_SIGNATURE = re.compile(r"(?i)\b(X-Amz-[A-Za-z-]+|Signature|AWSAccessKeyId)=[^\s&\"'<>\\]+")
_BEARER = re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}")


def redact(text: str) -> str:
    """`text` with `https://host/path?query` cut to `https://host/path`, and no bare signature
    parameter or bearer token."""
    text = _URL.sub(lambda match: match["start"] + match["place"], text)
    text = _SIGNATURE.sub(r"\1=[redacted]", text)
    return _BEARER.sub(r"\1 [redacted]", text)
