"""A file into the bucket: one PUT when it is small, else a multipart upload in equal parts that can
be resumed.

R2 wants all parts but the last to be of one size. The size of the parts follows from the file's
size only, so that a later process cuts as this one did, finds the open upload by its key, and sends
only what is missing: a part is there when the bucket's ETag of it is the MD5 of the bytes here.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gpu_worker_client._portal import Threads
from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol import MAX_PARTS
from gpu_worker_client.storage.s3 import S3, OnBytes

T = TypeVar("T")
_MIB = 1024**2


@dataclass(frozen=True)
class Part:
    """Bytes [start, start + size) of a file."""

    number: int
    """The first part is 1."""
    start: int
    size: int


def plan_parts(size: int, part_bytes: int) -> list[Part]:
    """Cuts `size` bytes into parts of `part_bytes`, the last one shorter; into larger ones where
    that would be too many."""
    if size > part_bytes * MAX_PARTS:
        part_bytes = -(-size // (MAX_PARTS * _MIB)) * _MIB
    return [
        Part(n, start, min(part_bytes, size - start))
        for n, start in enumerate(range(0, size, part_bytes), 1)
    ]


def upload(
    s3: S3, path: Path, key: str, part_bytes: int, parallel: int, on_progress: OnBytes | None
) -> None:
    """Stores a file under a key.

    Raises:
        StorageError: after bounded retries, or because the file changed meanwhile.
        OSError: the file cannot be read.
    """
    before = _version(path)
    size = before[0]
    notify = partial(_notify, on_progress, size)
    notify(0)
    if size <= part_bytes:
        data = path.read_bytes()
        s3.call("put_object", Key=key, Body=data, ContentMD5=b64encode(_md5(data)).decode())
        notify(size)
    else:
        parts = plan_parts(size, part_bytes)
        _send_parts(s3, path, key, parts, parallel, notify)
    if _version(path) != before:
        s3.call("delete_object", Key=key)
        raise StorageError(
            f"{path.name} was written to while it was uploaded; upload it again",
            code="changed",
            retryable=True,
        )


def _send_parts(
    s3: S3, path: Path, key: str, parts: list[Part], parallel: int, notify: Callable[[int], object]
) -> None:
    upload_id = _open_upload(s3, key) or str(
        s3.call("create_multipart_upload", Key=key)["UploadId"]
    )
    where = {"Key": key, "UploadId": upload_id}
    there = dict(_stored(s3, where))

    def send(part: Part) -> tuple[Part, bytes]:
        data = _read(path, part)
        digest = _md5(data)
        if there.get(part.number) != digest.hex():
            s3.call(
                "upload_part",
                **where,
                PartNumber=part.number,
                Body=data,
                ContentMD5=b64encode(digest).decode(),
            )
        return part, digest

    digests: dict[int, bytes] = {}
    done = 0
    for part, digest in _each(send, parts, parallel):
        digests[part.number] = digest
        done += part.size
        notify(done)
    _complete(s3, where, [digests[part.number] for part in parts])


def _each(send: Callable[[Part], T], parts: list[Part], parallel: int) -> Iterator[T]:
    """`send` of every part, in threads, first done first. Leaving early waits for none: Ctrl-C is
    not held up by a slow bucket, and a part that arrives late is one less to send the next time."""
    threads, running = Threads(), set[Future[T]]()
    for part in parts:
        running.add(threads.start(partial(send, part)))
        if len(running) == parallel:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (ended.result() for ended in done)
    yield from (ended.result() for ended in as_completed(running))


def _open_upload(s3: S3, key: str) -> str | None:
    """The upload of this key that was started last and not ended; None when there is none."""
    answer = s3.call("list_multipart_uploads", Prefix=key)
    found = [upload for upload in answer.get("Uploads", []) if upload["Key"] == key]
    return str(max(found, key=lambda upload: upload["Initiated"])["UploadId"]) if found else None


def _stored(s3: S3, where: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Number and ETag of every part that the bucket has."""
    marker = 0
    while True:
        answer = s3.call("list_parts", **where, PartNumberMarker=marker)
        for part in answer.get("Parts", []):
            yield int(part["PartNumber"]), str(part["ETag"]).strip('"')
        if not answer.get("IsTruncated"):
            return
        marker = int(answer["NextPartNumberMarker"])


def _complete(s3: S3, where: Mapping[str, str], digests: list[bytes]) -> None:
    """Makes one object of the parts. An upload that is gone was completed by an attempt whose
    answer got lost, or by another process with the same file: the object's ETag, the MD5 of the
    parts' MD5s, proves it."""
    parts = [{"PartNumber": n, "ETag": f'"{digest.hex()}"'} for n, digest in enumerate(digests, 1)]
    try:
        s3.call("complete_multipart_upload", **where, MultipartUpload={"Parts": parts})
    except StorageError as error:
        if error.code != "no_upload":
            raise
        answer: dict[str, Any] = s3.call("head_object", Key=where["Key"])
        if str(answer["ETag"]).strip('"') != f"{_md5(b''.join(digests)).hex()}-{len(digests)}":
            raise


def _notify(on_progress: OnBytes | None, total: int, done: int) -> None:
    if on_progress is not None:
        on_progress(done, total)


def _read(path: Path, part: Part) -> bytes:
    with path.open("rb") as file:
        file.seek(part.start)
        return file.read(part.size)


def _md5(data: bytes) -> bytes:
    """What S3 calls an ETag; a check against accidents, not against an attacker."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
