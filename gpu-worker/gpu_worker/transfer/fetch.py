"""Reads what a task names: one object into one file, or an earlier result into memory.

Constant memory, several ranges at a time, resumed after a reset; on any failure the file is gone.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.transfer.connect import Network
from gpu_worker.transfer.download import Download, check_size
from gpu_worker.transfer.http import HttpChannel
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.local import copy_bytes, open_input
from gpu_worker.transfer.progress import Meter, Progress
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.store_errors import Transient
from gpu_worker.transfer.urls import Source, UrlPolicy
from gpu_worker.transfer.watchdog import Guard
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.atomic_file import disk_errors

_MAX_GZIP_RATIO = 100
"""JSON of a million boxes is packed to a tenth; only zeros and the like to a thousandth."""
_ANY_RATIO_BYTES = 16 * 1024**2
"""Small enough to be unpacked from anything."""


@dataclass(frozen=True)
class Fetched:
    """What arrived."""

    size_bytes: int
    etag: str | None
    seconds: float
    connections: int
    """Requests it took."""


def fetch(
    source: Source,
    dest: Path,
    *,
    policy: UrlPolicy,
    limits: TransferLimits,
    progress: Progress,
    cancelled: threading.Event,
    network: Network | None = None,
) -> Fetched:
    """Downloads `source` into the new file `dest`.

    Raises:
        TaskError: typed; `dest` does not exist then.
    """
    started = time.monotonic()
    with disk_errors():
        file = dest.open("xb")
    try:
        with file:
            if isinstance(source.location, Path):
                size = _copy_in(
                    source.where, source.location, file.fileno(), limits, progress, cancelled
                )
                return Fetched(size, None, time.monotonic() - started, 0)
            with HttpChannel(policy, limits, cancelled, "download", network) as channel:
                download = Download(
                    channel, source, source.location, file.fileno(), dest.parent, progress
                )
                download.run()
        return Fetched(download.total, download.etag, time.monotonic() - started, download.requests)
    except BaseException:
        dest.unlink(missing_ok=True)
        raise


def _copy_in(
    where: str,
    path: Path,
    fd: int,
    limits: TransferLimits,
    progress: Progress,
    cancelled: threading.Event,
) -> int:
    with (
        open_input(path, where) as original,
        os.fdopen(os.dup(fd), "wb") as copy,
        Guard(limits, cancelled, ErrorCode.download_timeout) as guard,
    ):
        size = os.fstat(original.fileno()).st_size
        check_size(size, where, limits)
        meter = Meter(progress, size)
        copy_bytes(original, copy, guard, meter.add)
        return size


def read_result(
    source: Source,
    *,
    policy: UrlPolicy,
    limits: TransferLimits,
    cancelled: threading.Event,
    network: Network | None = None,
) -> bytes | None:
    """An earlier result's JSON, gunzipped when the name ends in `.gz`; None when there is none
    yet."""
    if isinstance(source.location, Path):
        if not source.location.exists():
            return None
        with open_input(source.location, source.where) as file:
            data = file.read(limits.max_result_bytes + 1)
        _check_result_size(len(data), source.where, limits.max_result_bytes)
    else:
        with HttpChannel(policy, limits, cancelled, "download", network) as channel:
            data = _get(channel, source.location, source)
    if data is None or source.location.suffix.lower() != ".gz":
        return data
    return _gunzip(data, source.where, limits)


def _get(channel: HttpChannel, url: SafeUrl, source: Source) -> bytes | None:
    retry = channel.retry()
    while True:
        try:
            request = channel.request("GET", url, source.where, source.headers)
            with channel.guard.moving() as count, request as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise response.refusal()
                if response.length is None:
                    message = f"{source.where}: the store sends no Content-Length"
                    raise TaskError(ErrorCode.length_required, message, path=source.where)
                _check_result_size(response.length, source.where, channel.limits.max_result_bytes)
                return b"".join(bytes(chunk) for chunk in response.chunks(response.length, count))
        except Transient as failure:
            retry.pause(failure)


def _gunzip(data: bytes, where: str, limits: TransferLimits) -> bytes:
    """Bounded: a few kilobytes of gzip may hold gigabytes."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    most = min(limits.max_result_bytes, max(_ANY_RATIO_BYTES, _MAX_GZIP_RATIO * len(data)))
    try:
        plain = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise TaskError(
            ErrorCode.invalid_task, f"{where}: the earlier result is no gzip file", path=where
        ) from error
    _check_result_size(len(plain), where, most)
    return plain


def _check_result_size(size: int, where: str, most: int) -> None:
    if size > most:
        message = f"{where}: the earlier result is larger than {most} bytes"
        raise TaskError(ErrorCode.result_too_large, message, path=where, limit_bytes=most)
