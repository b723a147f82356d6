"""A file into the bucket, an object into a file; each goes on where an earlier attempt broke.

Up: one PUT when the file is small, else a multipart upload in equal parts. R2 wants all parts but
the last to be of one size. The size of the parts follows from the file's size only, so that a later
process cuts as this one did, finds the open upload by its key, and sends only what is missing: a
part is there when the bucket's ETag of it is the MD5 of the bytes here.

Down: streamed into a part file, resumed by range, renamed when it is whole. Every request names the
version it wants (`If-Match`), and the part file carries that version in its name: bytes of two
versions never mix. An answer counts only when it is of the length and from the offset that were
asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from gpu_worker_client._portal import Threads
from gpu_worker_client._retry import MAX_RETRIES, backoff_seconds
from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol import MAX_PARTS
from gpu_worker_client.storage.s3 import (
    REFUSALS,
    S3,
    ObjectInfo,
    OnBytes,
    connection_error,
    etag_of,
    refused,
)

T = TypeVar("T")
_MIB = 1024**2
MAX_CHANGES = 3
"""How often an object may be replaced while it is fetched before that is an error."""
_PIECE_BYTES = 1 << 20


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
    s3: S3, path: Path, key: str, part_bytes: int, parallel: int, on_progress: OnBytes
) -> None:
    """See `Storage.upload`; a file that changed meanwhile is a StorageError too."""
    before = _version(path)
    size = before[0]
    on_progress(0, size)
    if size <= part_bytes:
        data = path.read_bytes()
        s3.call("put_object", Key=key, Body=data, ContentMD5=b64encode(_md5(data)).decode())
        on_progress(size, size)
    else:
        _send_parts(s3, path, key, plan_parts(size, part_bytes), parallel, on_progress)
    if _version(path) != before:
        s3.call("delete_object", Key=key)
        problem = f"{path.name} was written to while it was uploaded; upload it again"
        raise StorageError(problem, code="changed", retryable=True)


def _send_parts(
    s3: S3, path: Path, key: str, parts: list[Part], parallel: int, on_progress: OnBytes
) -> None:
    answer = s3.call("list_multipart_uploads", Prefix=key)
    found = [each for each in answer.get("Uploads", []) if each["Key"] == key]
    # The one that was started last and not ended, or a new one.
    last = max(found, key=lambda each: each["Initiated"], default=None)
    opened = last or s3.call("create_multipart_upload", Key=key)
    where = {"Key": key, "UploadId": str(opened["UploadId"])}
    there = dict(_stored(s3, where))

    def send(part: Part) -> tuple[Part, bytes]:
        with path.open("rb") as file:
            file.seek(part.start)
            data = file.read(part.size)
        digest = _md5(data)
        if there.get(part.number) != digest.hex():
            given = {"Body": data, "ContentMD5": b64encode(digest).decode()}
            s3.call("upload_part", **where, PartNumber=part.number, **given)
        return part, digest

    digests: dict[int, bytes] = {}
    done, total = 0, parts[-1].start + parts[-1].size
    for part, digest in _each(send, parts, parallel):
        digests[part.number] = digest
        done += part.size
        on_progress(done, total)
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


def _stored(s3: S3, where: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Number and ETag of every part that the bucket has."""
    marker = 0
    while True:
        answer = s3.call("list_parts", **where, PartNumberMarker=marker)
        for part in answer.get("Parts", []):
            yield int(part["PartNumber"]), etag_of(part)
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
        answer = s3.call("head_object", Key=where["Key"])
        if etag_of(answer) != f"{_md5(b''.join(digests)).hex()}-{len(digests)}":
            raise


def _md5(data: bytes) -> bytes:
    """What S3 calls an ETag; a check against accidents, not against an attacker."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def download(s3: S3, key: str, path: Path, on_progress: OnBytes) -> None:
    """See `Storage.download`."""
    for changes_left in range(MAX_CHANGES, -1, -1):
        info = s3.head(key)
        if info is None:
            raise refused(REFUSALS["NoSuchKey"], "get_object", key)
        version = re.sub(r"[^A-Za-z0-9-]", "", info.etag)[:40]
        part = path.with_name(f".{path.name[:150]}.{version}.part")
        try:
            with part.open("ab") as file:
                if file.tell() > info.size_bytes:
                    file.truncate(0)
                    file.seek(0)
                on_progress(file.tell(), info.size_bytes)
                _until_whole(s3, info, file, on_progress)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            return
        except StorageError as error:
            if error.code != "changed":
                raise
            part.unlink()
            if not changes_left:
                raise


def read(s3: S3, info: ObjectInfo) -> bytes:
    """A small object's bytes. Errors as `download`."""
    data = BytesIO()
    _until_whole(s3, info, data, lambda _done, _total: None)
    return data.getvalue()


def _until_whole(s3: S3, info: ObjectInfo, file: BinaryIO, on_progress: OnBytes) -> None:
    """Appends the rest until there is none. Only failures that bring nothing new are counted."""
    failures = 0
    while (offset := file.tell()) < info.size_bytes:
        try:
            for piece in _pieces(s3, info, offset):
                file.write(piece)
                on_progress(file.tell(), info.size_bytes)
        except StorageError as error:
            failures = failures + 1 if file.tell() == offset else 1
            if not error.retryable or failures > MAX_RETRIES:
                raise
            s3.timing.sleep(backoff_seconds(failures - 1, None, s3.timing.random()))


def _pieces(s3: S3, info: ObjectInfo, offset: int) -> Iterator[bytes]:
    """The object's bytes from `offset` on. Raises StorageError: retryable when another attempt can
    go on; "changed" when the object is another one by now."""
    from botocore.exceptions import BotoCoreError

    answer = s3.try_once(
        "get_object", Key=info.key, Range=f"bytes={offset}-", IfMatch=f'"{info.etag}"'
    )
    body = answer["Body"]
    try:
        if etag_of(answer) != info.etag:
            raise refused(REFUSALS["PreconditionFailed"], "get_object", info.key)
        size = info.size_bytes
        wanted = (f"bytes {offset}-{size - 1}/{size}", size - offset)
        if (answer.get("ContentRange"), answer.get("ContentLength")) != wanted:
            problem = f"{info.key}: the bucket sent another range than asked for"
            raise StorageError(problem, code="unavailable", retryable=True)
        while piece := body.read(_PIECE_BYTES):
            yield piece
    except BotoCoreError as error:
        raise connection_error(error, "get_object", info.key) from None
    finally:
        body.close()
