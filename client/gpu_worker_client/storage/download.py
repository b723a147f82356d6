"""An object into a file: streamed into a part file, resumed by range where it broke, renamed when
it is whole.

Every request names the version it wants (`If-Match`), and the part file carries that version in its
name: bytes of two versions never mix. An answer counts only when it is of the length and from the
offset that were asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from gpu_worker_client._retry import MAX_RETRIES, backoff_seconds
from gpu_worker_client.errors import StorageError
from gpu_worker_client.storage.s3 import S3, ObjectInfo, OnBytes, connection_error

MAX_CHANGES = 3
"""How often an object may be replaced while it is fetched before that is an error."""
_PIECE_BYTES = 1 << 20


def download(s3: S3, key: str, path: Path, on_progress: OnBytes) -> None:
    """See `Storage.download`."""
    for changes_left in range(MAX_CHANGES, -1, -1):
        info = s3.head(key)
        if info is None:
            raise StorageError(f"{key}: there is no such object", code="not_found", retryable=False)
        version = re.sub(r"[^A-Za-z0-9-]", "", info.etag)[:40]
        part = path.with_name(f".{path.name[:150]}.{version}.part")
        try:
            _fetch(s3, info, part, on_progress)
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


def _fetch(s3: S3, info: ObjectInfo, part: Path, on_progress: OnBytes) -> None:
    with part.open("ab") as file:
        if file.tell() > info.size_bytes:
            file.truncate(0)
            file.seek(0)
        on_progress(file.tell(), info.size_bytes)
        _until_whole(s3, info, file, on_progress)
        file.flush()
        os.fsync(file.fileno())


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
        _check(answer, info, offset)
        while piece := body.read(_PIECE_BYTES):
            yield piece
    except BotoCoreError as error:
        raise connection_error(error, "get_object", info.key) from None
    finally:
        body.close()


def _check(answer: dict[str, Any], info: ObjectInfo, offset: int) -> None:
    """Raises StorageError: the answer is not the rest of this version, from this offset on."""
    if str(answer.get("ETag", "")).strip('"') != info.etag:
        raise StorageError(
            f"{info.key}: the object was replaced by another", code="changed", retryable=False
        )
    size = info.size_bytes
    wanted = (f"bytes {offset}-{size - 1}/{size}", size - offset)
    if (answer.get("ContentRange"), answer.get("ContentLength")) != wanted:
        raise StorageError(
            f"{info.key}: the bucket sent another range than asked for",
            code="unavailable",
            retryable=True,
        )
