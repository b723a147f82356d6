"""An object into a file: streamed into a part file, resumed by range where it broke, renamed when
it is whole.

Every request names the version it wants (`If-Match`), and the part file carries that version in its
name: bytes of two versions never mix. An answer counts only when it is of the length and from the
offset that were asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gpu_worker_client._retry import MAX_RETRIES, backoff_seconds
from gpu_worker_client.errors import StorageError
from gpu_worker_client.storage.s3 import S3, ObjectInfo, OnBytes, connection_error

MAX_CHANGES = 3
"""How often an object may be replaced while it is fetched before that is an error."""
_PIECE_BYTES = 1 << 20


def download(s3: S3, key: str, path: Path, on_progress: OnBytes | None) -> None:
    """Fetches an object into `path`, whole or not at all.

    Raises:
        StorageError: there is none, it keeps changing, or it could not be read after bounded
            retries.
        OSError: the file cannot be written.
    """
    for change in range(MAX_CHANGES + 1):
        info = s3.head(key)
        if info is None:
            raise StorageError(f"{key}: there is no such object", code="not_found", retryable=False)
        part = _part_path(path, info)
        try:
            _fetch(s3, info, part, on_progress)
        except StorageError as error:
            if error.code != "changed":
                raise
            part.unlink()
            if change == MAX_CHANGES:
                raise
            continue
        part.replace(path)
        return


def read(s3: S3, info: ObjectInfo) -> bytes:
    """A small object's bytes.

    Raises:
        StorageError: it could not be read after bounded retries.
    """
    data = bytearray()
    _until_whole(
        s3,
        info,
        lambda: len(data),
        lambda offset: [data.extend(piece) for piece in _pieces(s3, info, offset)],
    )
    return bytes(data)


def _part_path(path: Path, info: ObjectInfo) -> Path:
    version = re.sub(r"[^A-Za-z0-9-]", "", info.etag)[:40]
    return path.with_name(f".{path.name[:150]}.{version}.part")


def _fetch(s3: S3, info: ObjectInfo, part: Path, on_progress: OnBytes | None) -> None:
    with part.open("ab") as file:
        if file.tell() > info.size_bytes:
            file.truncate(0)

        def go_on(offset: int) -> None:
            for piece in _pieces(s3, info, offset):
                file.write(piece)
                notify()

        def notify() -> None:
            if on_progress is not None:
                on_progress(file.tell(), info.size_bytes)

        notify()
        _until_whole(s3, info, lambda: _flushed(file), go_on)
        os.fsync(file.fileno())


def _flushed(file: BinaryIO) -> int:
    file.flush()
    return file.seek(0, os.SEEK_END)


def _until_whole(
    s3: S3, info: ObjectInfo, have: Callable[[], int], go_on: Callable[[int], object]
) -> None:
    """Asks for the rest until there is none. Only failures that bring nothing new are counted."""
    failures, offset = 0, have()
    while offset < info.size_bytes:
        try:
            go_on(offset)
        except StorageError as error:
            failures = failures + 1 if have() == offset else 1
            if not error.retryable or failures > MAX_RETRIES:
                raise
            s3.timing.sleep(backoff_seconds(failures - 1, None, s3.timing.random()))
        offset = have()


def _pieces(s3: S3, info: ObjectInfo, offset: int) -> Iterator[bytes]:
    """The object's bytes from `offset` on.

    Raises:
        StorageError: retryable when another attempt can go on; "changed" when the object is another
            one by now.
    """
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
    """That the answer is the rest of this version, from this offset on."""
    if str(answer.get("ETag", "")).strip('"') != info.etag:
        raise StorageError(
            f"{info.key}: the object was replaced by another", code="changed", retryable=False
        )
    wanted = f"bytes {offset}-{info.size_bytes - 1}/{info.size_bytes}"
    if (
        answer.get("ContentRange") != wanted
        or answer.get("ContentLength") != info.size_bytes - offset
    ):
        raise StorageError(
            f"{info.key}: the bucket sent another range than asked for",
            code="unavailable",
            retryable=True,
        )
