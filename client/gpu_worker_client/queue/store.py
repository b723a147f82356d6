"""What the queue needs of a bucket: whole small objects, conditional writes, pages of keys. Real
code has `BucketStore`; the simulation of the tests has its own.

The rules are R2's. A key takes one write a second, and answers 429 to more. A conditional write is
settled by the store; how exactly, R2 does not promise, so every write that was not plainly
answered is read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpu_worker_client.errors import StorageError

PAGE_KEYS = 1000
"""Keys of one page at most. https://developers.cloudflare.com/r2/api/s3/api/"""
KEY_SECONDS = 1.1
"""Two writes of one key are this far from each other: R2 takes one a second.
https://developers.cloudflare.com/r2/platform/limits/"""


class LostRace(StorageError):
    """412, 409 or 429: this request changed nothing. An earlier one of ours, whose answer was lost,
    may have."""

    def __init__(self, key: str) -> None:
        super().__init__(f"another write of {key} came first", code="changed", retryable=False)


class InDoubt(StorageError):
    """A write without an answer: it was made, or not, or will be."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no answer to a write of {key}", code="unreachable", retryable=True)


@dataclass(frozen=True)
class Stored:
    """An object, as one answer of the store showed it."""

    key: str
    etag: str
    modified: float
    """Seconds since the epoch by the store's clock, from `Last-Modified`: whole ones."""
    date: float
    """The same clock when it answered, from `Date`."""
    body: bytes = field(default=b"", repr=False)
    """Empty when it was not read."""

    @property
    def age_seconds(self) -> float:
        """Both times are the store's, so no other clock matters."""
        return self.date - self.modified


@dataclass(frozen=True)
class Page:
    objects: Sequence[Stored]
    """By rising key, without bodies."""
    is_last: bool


class Store(Protocol):
    """One bucket, or the part of it below a prefix. Reads are retried inside; a write is sent once.
    Every method raises StorageError."""

    async def get(self, key: str) -> Stored | None:
        """An object with its body, None when there is none."""
        ...

    async def head(self, key: str) -> Stored | None:
        """The same without its body."""
        ...

    async def put(
        self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        """Writes an object and gives its etag.

        Args:
            if_absent: only where there is none (`If-None-Match: *`).
            if_match: only over this etag.

        Raises:
            LostRace, InDoubt: as their names say.
        """
        ...

    async def list_page(self, prefix: str, after: str = "") -> Page:
        """Objects whose keys have this prefix and come after the key `after`."""
        ...

    async def delete(self, key: str) -> None:
        """One that is not there is no error."""
        ...
