"""Objects on disk: written to a temporary file, checked, then made visible in one step.

Every version of an object is a file of its own that never changes, so a reader that has opened one
is not disturbed by a later write. The index lives in memory: a new process starts empty. All
methods may be called from any thread.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Protocol

from gpu_worker.devserver.clock import Clock
from gpu_worker.devserver.http_rules import Conditions
from gpu_worker.devserver.store import private_files
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker.devserver.store.sigv4 import UNSIGNED_PAYLOAD

MAX_KEY_BYTES = 1024
"""https://developers.cloudflare.com/r2/platform/limits/"""
_STORED_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
)


SIGNED_PAYLOAD = "x-amz-content-sha256"
"""The one promise of a body's content that is part of the signature. In hex; the checksums are in
base64."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    """CRC-32 with hashlib's interface, big-endian as the checksum header carries it."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_CHECKSUMS = {
    "x-amz-checksum-crc32": _Crc32,
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
    "content-md5": lambda: hashlib.md5(usedforsecurity=False),
    SIGNED_PAYLOAD: hashlib.sha256,
}


@dataclass(frozen=True)
class StoredObject:
    key: str
    path: Path
    size: int
    etag: str
    """Without quotes: hex MD5 of the bytes, or `MD5-OF-MD5S-COUNT` for a multipart upload."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    modified: float = 0.0


class Incoming:
    """A body on its way to disk. A context manager: unless it was adopted, the file is gone at the
    end."""

    def __init__(self, path: Path, expected: Mapping[str, str]) -> None:
        self.path = path
        self.size = 0
        self._expected = expected
        self._hashes: dict[str, _Hash] = {name: _hasher(name) for name in expected}
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._file = path.open("wb")

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._md5.update(data)
        for item in self._hashes.values():
            item.update(data)
        self.size += len(data)

    def finish(self, declared: int) -> str:
        """Closes the file, checks length and checksums, returns the MD5."""
        self._file.close()
        if self.size != declared:
            raise S3Error("IncompleteBody", f"{self.size} of {declared} declared bytes arrived")
        for name, item in self._hashes.items():
            signed = name == SIGNED_PAYLOAD
            found = item.digest().hex() if signed else base64.b64encode(item.digest()).decode()
            if found != self._expected[name]:
                raise S3Error(
                    "XAmzContentSHA256Mismatch" if signed else "BadDigest",
                    f"{name} does not match the body",
                )
        return self._md5.hexdigest()


def _hasher(name: str) -> _Hash:
    if name not in _CHECKSUMS:
        raise S3Error("NotImplemented", f"{name} is not implemented here")
    return _CHECKSUMS[name]()


def expected_checksums(fields: Mapping[str, str]) -> dict[str, str]:
    """The checksums a request promises, from its headers and its query (aws-sdk-js signs one into
    presigned PUT URLs)."""
    promised = {
        name: value
        for name, value in fields.items()
        if name == "content-md5" or name.startswith("x-amz-checksum-")
    }
    payload = fields.get(SIGNED_PAYLOAD, UNSIGNED_PAYLOAD)
    return promised if payload == UNSIGNED_PAYLOAD else promised | {SIGNED_PAYLOAD: payload}


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a PUT that its GET gives back."""
    return {
        name: value
        for name, value in headers.items()
        if name in _STORED_HEADERS or name.startswith("x-amz-meta-")
    }


class ObjectStore:
    def __init__(self, root: Path, clock: Clock, *, write_interval_seconds: float) -> None:
        self._root = root
        self.clock = clock
        self._write_interval = write_interval_seconds
        self._objects: dict[str, StoredObject] = {}
        self._written: dict[str, float] = {}
        self._numbers = count(1)
        self._lock = threading.RLock()
        root.mkdir(private_files.FOLDER_MODE, parents=True, exist_ok=True)

    def incoming(self, key: str, expected: Mapping[str, str] | None = None) -> Incoming:
        return Incoming(self.new_file(key), expected or {})

    def new_file(self, key: str) -> Path:
        """A path that no other version has; it ends like the key so that tools recognise the
        type."""
        if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
            raise S3Error("KeyTooLong", f"a key has 1 to {MAX_KEY_BYTES} bytes")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", key.rsplit("/", 1)[-1])[-80:]
        with self._lock:
            return self._root / f"{next(self._numbers):06d}-{name}"

    def get(self, key: str) -> StoredObject:
        found = self.find(key)
        if found is None:
            raise S3Error("NoSuchKey", "the specified key does not exist")
        return found

    def find(self, key: str) -> StoredObject | None:
        with self._lock:
            return self._objects.get(key)

    def keys(self) -> list[str]:
        with self._lock:
            return sorted(self._objects)

    def check_write(self, key: str, conditions: Conditions, *, limited: bool = True) -> None:
        """Refuses a write early: the key was written less than a second ago, or a precondition
        fails."""
        with self._lock:
            last = self._written.get(key)
            if limited and last is not None and self.clock() - last < self._write_interval:
                raise S3Error("TooManyRequests", "one write a second to the same key")
            current = self._objects.get(key)
            conditions.check_write(current.etag if current else None)

    def publish(
        self,
        key: str,
        file: Path,
        etag: str,
        headers: Mapping[str, str],
        conditions: Conditions,
        *,
        limited: bool = True,
    ) -> StoredObject:
        """Makes a finished file the object of this key; the checks and the change are one step."""
        with self._lock:
            self.check_write(key, conditions, limited=limited)
            visible = self.new_file(key)
            file.rename(visible)
            stored = StoredObject(
                key, visible, visible.stat().st_size, etag, dict(headers), self.clock()
            )
            replaced = self._objects.get(key)
            self._objects[key] = stored
            if limited:
                self._written[key] = stored.modified
        if replaced is not None:
            replaced.path.unlink(missing_ok=True)
        return stored

    def delete(self, key: str) -> None:
        with self._lock:
            gone = self._objects.pop(key, None)
        if gone is not None:
            gone.path.unlink(missing_ok=True)
