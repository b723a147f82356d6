"""The parts of HTTP that a store must get right: preconditions and byte ranges. Pure functions over
header values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker_client.protocol.foreign import parse_integer

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Conditions:
    """`If-Match` and `If-None-Match` as sent, None when absent."""

    if_match: str | None = None
    if_none_match: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Conditions:
        return cls(headers.get("if-match"), headers.get("if-none-match"))

    def check_write(self, etag: str | None) -> None:
        """Raises PreconditionFailed unless a write may replace the object with this ETag (None: no
        object)."""
        if self.if_match is not None and not _names(self.if_match, etag):
            raise S3Error("PreconditionFailed", "If-Match names another object, or there is none")
        if self.if_none_match is not None and _names(self.if_none_match, etag):
            raise S3Error("PreconditionFailed", "If-None-Match: the object exists")

    def unmodified(self, etag: str) -> bool:
        """Raises PreconditionFailed unless a read may go on; True when the answer is 304."""
        if self.if_match is not None and not _names(self.if_match, etag):
            raise S3Error("PreconditionFailed", "If-Match names another version of the object")
        return self.if_none_match is not None and _names(self.if_none_match, etag)


def _names(header: str, etag: str | None) -> bool:
    if etag is None:
        return False
    return any(
        item.strip().removeprefix("W/").strip('"') in ("*", etag) for item in header.split(",")
    )


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range [start, end) that a `Range` header asks of `size` bytes.

    None when the whole object is to be sent: no header, several ranges, or a unit that is not
    bytes. Raises InvalidRange when nothing of the object lies in the range.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    first, last = (parse_integer(number) for number in match.groups()) if match else (None, None)
    if first is None and last is None:
        return None
    if first is None:
        start, end = max(0, size - (last or 0)), size
    else:
        start, end = first, size if last is None else last + 1
        if last is not None and end <= start:
            return None
    if start >= size or end <= start:
        raise S3Error("InvalidRange", f"the object has {size} bytes")
    return start, min(end, size)
