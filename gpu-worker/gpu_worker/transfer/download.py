"""One object on its way into one file: ranges, resumption, and never a mix of two versions.

The first request is a GET of the first range, never a HEAD (a GET signature does not cover it), and
its answer names size and ETag. Later requests carry `If-Match` and are believed only when they
continue exactly where asked; a store that does not answer ranges in a way to be trusted is read
again from the start, in one piece.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.transfer.http import HttpChannel, Response
from gpu_worker.transfer.limits import MIB, TransferLimits
from gpu_worker.transfer.parallel import run_parallel
from gpu_worker.transfer.progress import Meter, Progress
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.store_errors import Transient
from gpu_worker.transfer.urls import Source
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.atomic_file import disk_errors

LARGEST_RANGE_BYTES = 256 * MIB
"""So that a slow connection does not keep the rest waiting for long."""
PROGRESS_BYTES = MIB // 4
"""A failure after this much new data is the first of a new row."""
_CONTENT_RANGE = re.compile(r"bytes ([^-]*)-([^/]*)/(.*)")


class _ObjectChanged(Exception):
    """The object is no longer the one this download began with."""


class _NoRanges(Exception):
    """The store does not answer ranges in a way that can be trusted; the object has to be read in
    one piece."""


@dataclass
class Piece:
    """A byte range that one connection is working on."""

    position: int
    """First byte that is still missing."""
    end: int
    """First byte after it."""


def split(start: int, total: int, connections: int) -> list[Piece]:
    """Equal ranges over `start..total`, at least one for each connection."""
    size = total - start
    if size <= 0:
        return []
    count = max(connections, -(-size // LARGEST_RANGE_BYTES))
    step = -(-size // count)
    return [Piece(at, min(at + step, total)) for at in range(start, total, step)]


def check_size(size: int, where: str, limits: TransferLimits) -> None:
    if size > limits.max_input_bytes:
        message = (
            f"{where}: the object has {size} bytes, this worker takes {limits.max_input_bytes}"
        )
        raise TaskError(
            ErrorCode.input_too_large,
            message,
            path=where,
            size_bytes=size,
            limit_bytes=limits.max_input_bytes,
        )


class Download:
    """One object on its way into one file."""

    def __init__(
        self,
        channel: HttpChannel,
        source: Source,
        url: SafeUrl,
        fd: int,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._channel = channel
        self._source = source
        self._url = url
        self._fd = fd
        self._folder = folder
        self._progress = progress
        self._ranges = True
        self._known = False
        self._meter = Meter(progress, None)
        self.total = 0
        self.etag: str | None = None
        self.requests = 0

    def run(self) -> None:
        changes = 0
        while True:
            self._known = False
            try:
                return self._run_once()
            except _NoRanges:
                self._ranges = False
            except _ObjectChanged:
                changes += 1
                if changes > 1:
                    message = (
                        f"{self._source.where}: the object changed while it was read, twice; upload"
                        " it once, then submit"
                    )
                    raise TaskError(
                        ErrorCode.input_changed, message, path=self._source.where
                    ) from None

    def _run_once(self) -> None:
        limits = self._channel.limits
        first = Piece(0, limits.first_range_bytes)
        self._pull(first)
        if first.position >= self.total:
            return
        small = self.total < limits.parallel_from_bytes
        pieces = split(first.position, self.total, 1 if small else limits.range_parallelism)
        run_parallel(
            [lambda piece=piece: self._pull(piece) for piece in pieces],
            limits.range_parallelism,
            self._channel.guard,
        )

    def _pull(self, piece: Piece) -> None:
        """Reads one range to its end, over as many connections as it takes."""
        retry = self._channel.retry()
        while not self._known or piece.position < piece.end:
            before = piece.position
            try:
                self._request(piece)
            except Transient as failure:
                if not self._resumable():
                    self._known = False
                    piece.position = 0
                if piece.position - before >= PROGRESS_BYTES:
                    retry.progressed()
                retry.pause(failure)

    def _resumable(self) -> bool:
        return self._known and self._ranges and self.etag is not None

    def _request(self, piece: Piece) -> None:
        headers = dict(self._source.headers)
        if self._ranges:
            headers["Range"] = f"bytes={piece.position}-{piece.end - 1}"
        if self._resumable():
            headers["If-Match"] = self.etag or ""
        self.requests += 1
        request = self._channel.request("GET", self._url, self._source.where, headers)
        with self._channel.guard.moving() as count, request as response:
            size = self._accept(response, piece) if self._known else self._learn(response, piece)
            for chunk in response.chunks(size, count):
                self._channel.guard.check()
                with disk_errors():
                    _write_at(self._fd, chunk, piece.position)
                piece.position += len(chunk)
                self._meter.add(len(chunk))

    def _learn(self, response: Response, piece: Piece) -> int:
        """Takes size and ETag from the first good answer and makes room. Returns the length of this
        body."""
        if response.status == 416 and self._ranges:
            raise _NoRanges  # an empty object has no byte to give
        if response.status not in (200, 206):
            raise response.refusal()
        self._check_encoding(response)
        length = response.length
        if length is None:
            message = (
                f"{self._source.where}: the store sends no Content-Length, so a cut-off body would"
                " look whole"
            )
            raise TaskError(ErrorCode.length_required, message, path=self._source.where)
        if response.status == 200:
            self._ranges = False
            return self._start(response, piece, length, length)
        found = _content_range(response)
        if (
            found is None
            or not self._ranges
            or found[0] != piece.position
            or found[1] - found[0] != length
        ):
            raise self._bad_range()
        if found[2] > found[1] and not _strong(response.etag):
            raise self._bad_range()  # without an ETag the next range could be of another version
        return self._start(response, piece, length, found[2])

    def _start(self, response: Response, piece: Piece, length: int, total: int) -> int:
        check_size(total, self._source.where, self._channel.limits)
        self._make_room(total)
        self.total = total
        self.etag = response.etag if _strong(response.etag) else None
        self._meter = Meter(self._progress, total)
        piece.position, piece.end = 0, length
        self._known = True
        return length

    def _make_room(self, total: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if total > free:
            message = (
                f"the input has {total} bytes, the worker's disk has {free} left; use a larger"
                " container disk"
            )
            raise TaskError(ErrorCode.disk_full, message, needed_bytes=total, free_bytes=free)
        with disk_errors():
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._fd, total)

    def _accept(self, response: Response, piece: Piece) -> int:
        """Length of the body of a later answer, when it continues the same object exactly where
        asked."""
        if response.status == 412:
            raise _ObjectChanged
        if response.status in (200, 416):
            raise self._bad_range()
        if response.status != 206:
            raise response.refusal()
        self._check_encoding(response)
        if response.etag != self.etag:
            raise _ObjectChanged
        if (
            _content_range(response) != (piece.position, piece.end, self.total)
            or response.length != piece.end - piece.position
        ):
            raise self._bad_range()
        return piece.end - piece.position

    def _bad_range(self) -> Exception:
        if self._ranges:
            return _NoRanges()
        message = f"{self._source.where}: the store answers a plain GET with a part of the object"
        return TaskError(ErrorCode.download_failed, message, path=self._source.where)

    def _check_encoding(self, response: Response) -> None:
        encoding = (response.header("Content-Encoding") or "identity").lower()
        if encoding not in ("identity", "aws-chunked"):
            message = (
                f"{self._source.where}: the object has a Content-Encoding; store it without one"
            )
            raise TaskError(ErrorCode.unsupported_media, message, path=self._source.where)


def _strong(etag: str | None) -> bool:
    """Whether an ETag may stand in If-Match: weak ones may be equal for different bytes."""
    return etag is not None and etag.startswith('"')


def _content_range(response: Response) -> tuple[int, int, int] | None:
    """(first byte, first byte after, total) of a Content-Range, None without a readable one."""
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
    if match is None:
        return None
    start, end, total = (parse_integer(number) for number in match.groups())
    if start is None or end is None or total is None or not start <= end < total:
        return None
    return start, end + 1, total


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
