"""Multipart uploads with R2's rules: equal parts, the last one not longer, nothing visible before
Complete.

R2 finds unequal parts out only at Complete, after all the upload; so does this.
https://developers.cloudflare.com/r2/objects/multipart-objects/
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu_worker.devserver.http_rules import Conditions
from gpu_worker.devserver.store.objects import Incoming, ObjectStore, StoredObject
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker_client.protocol.foreign import parse_integer

_PART = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)
_NUMBER = re.compile(r"<PartNumber>\s*([^<\s]*)\s*</PartNumber>")
_ETAG = re.compile(r"<ETag>\s*(?:&quot;|&#34;|\")?([0-9a-fA-F]+)(?:&quot;|&#34;|\")?\s*</ETag>")


@dataclass(frozen=True)
class StoredPart:
    number: int
    path: Path
    size: int
    etag: str


@dataclass
class Upload:
    id: str
    key: str
    headers: Mapping[str, str]
    initiated: float = 0.0
    """Seconds since the epoch."""
    parts: dict[int, StoredPart] = field(default_factory=dict[int, StoredPart])


def parse_complete(body: bytes) -> list[tuple[int, str]]:
    """The (number, etag) pairs of a CompleteMultipartUpload document, in its order."""
    listed: list[tuple[int, str]] = []
    for item in _PART.findall(body.decode("utf-8", "replace")):
        numbers, etag = _NUMBER.findall(item), _ETAG.search(item)
        number = parse_integer(numbers[0]) if numbers else None
        if number is None or etag is None:
            raise S3Error("MalformedXML", "a Part needs PartNumber and ETag")
        listed.append((number, etag.group(1).lower()))
    if not listed:
        raise S3Error("MalformedXML", "the document lists no Part")
    return listed


def choose_parts(
    listed: Sequence[tuple[int, str]], stored: Mapping[int, StoredPart], min_part_bytes: int
) -> list[StoredPart]:
    """The parts that make the object, or the refusal a real store would send."""
    numbers = [number for number, _ in listed]
    if numbers != sorted(set(numbers)):
        raise S3Error("InvalidPartOrder", "parts must be listed once each in rising order")
    for number, etag in listed:
        if number not in stored or stored[number].etag != etag:
            raise S3Error("InvalidPart", f"part {number} was not uploaded with this ETag")
    parts = [stored[number] for number in numbers]
    *leading, last = parts
    if any(part.size != leading[0].size for part in leading) or (
        leading and last.size > leading[0].size
    ):
        raise S3Error("InvalidPart", "All non-trailing parts must have the same length.")
    if leading and leading[0].size < min_part_bytes:
        raise S3Error(
            "EntityTooSmall", f"every part but the last needs at least {min_part_bytes} bytes"
        )
    return parts


class Uploads:
    """The uploads that are neither completed nor aborted."""

    def __init__(self, store: ObjectStore, *, min_part_bytes: int) -> None:
        self._store = store
        self._min_part_bytes = min_part_bytes
        self._open: dict[str, Upload] = {}
        self._lock = threading.RLock()

    def create(self, key: str, headers: Mapping[str, str]) -> str:
        upload = Upload(uuid.uuid4().hex, key, dict(headers), self._store.clock())
        with self._lock:
            self._open[upload.id] = upload
        return upload.id

    def get(self, upload_id: str, key: str) -> Upload:
        with self._lock:
            upload = self._open.get(upload_id)
        if upload is None or upload.key != key:
            raise S3Error("NoSuchUpload", "no such upload; it may have been completed or aborted")
        return upload

    def open(self) -> list[Upload]:
        with self._lock:
            return list(self._open.values())

    def open_ids(self, key: str | None = None) -> list[str]:
        return [upload.id for upload in self.open() if key is None or upload.key == key]

    def put_part(self, upload: Upload, number: int, incoming: Incoming, etag: str) -> None:
        with self._lock:
            self.get(upload.id, upload.key)
            path = self._store.new_file(f"part-{number}")
            incoming.path.rename(path)
            replaced = upload.parts.get(number)
            upload.parts[number] = StoredPart(number, path, incoming.size, etag)
        if replaced is not None:
            replaced.path.unlink(missing_ok=True)

    def complete(self, upload: Upload, body: bytes, conditions: Conditions) -> StoredObject:
        """Joins the listed parts into one object. On refusal the upload stays as it was."""
        with self._lock:
            parts = choose_parts(parse_complete(body), upload.parts, self._min_part_bytes)
            self._store.check_write(upload.key, conditions)
            md5s = b"".join(bytes.fromhex(part.etag) for part in parts)
            etag = f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"
            with self._store.incoming(upload.key) as joined:
                with joined.path.open("wb") as target:
                    for part in parts:
                        with part.path.open("rb") as source:
                            shutil.copyfileobj(source, target, 1024 * 1024)
                stored = self._store.publish(
                    upload.key, joined.path, etag, upload.headers, conditions
                )
            self._forget(upload)
        return stored

    def abort(self, upload: Upload) -> None:
        with self._lock:
            self.get(upload.id, upload.key)
            self._forget(upload)

    def _forget(self, upload: Upload) -> None:
        del self._open[upload.id]
        for part in upload.parts.values():
            part.path.unlink(missing_ok=True)
