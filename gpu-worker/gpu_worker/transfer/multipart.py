"""An upload in parts: equal pieces of one file, several at a time, each retried by itself.

Nothing is visible until the upload is completed, by the given URL or by the caller with the
returned part list; an upload that fails leaves no object, and the store drops its parts by itself
(after 7 days on R2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from xml.sax.saxutils import escape

from gpu_worker.transfer.body import BytesBody, FileBody
from gpu_worker.transfer.http import HttpChannel, Response
from gpu_worker.transfer.parallel import run_parallel
from gpu_worker.transfer.presign import signed_subset
from gpu_worker.transfer.presign_rules import check_expiry
from gpu_worker.transfer.put import output_exists, put
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.store_errors import StoreRefusal, Transient, judge
from gpu_worker.transfer.urls import Parts, Target
from gpu_worker_client.protocol import ErrorCode, OutputPart, TaskError

COMPLETION_SECONDS = 600.0
"""S3 sends blanks for minutes while it puts the parts together.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html"""
MAX_ANSWER_BYTES = 1024 * 1024
_ETAG = re.compile(rb"<ETag>([^<]{1,256})</ETag>")


@dataclass(frozen=True)
class PlannedPart:
    """One slice of the file."""

    n: int
    """From 1."""
    start: int
    size: int


def plan_parts(size: int, part_size: int, available: int) -> list[PlannedPart]:
    """Equal parts but for the last, which is not larger: R2 accepts nothing else.

    Raises:
        TaskError: `output_too_large` when there are not enough part URLs.
    """
    count = max(1, -(-size // part_size))
    if count > available:
        message = (
            f"output_multipart: the output has {size} bytes and needs {count} parts of {part_size};"
            f" there are {available}"
        )
        raise TaskError(
            ErrorCode.output_too_large,
            message,
            size_bytes=size,
            parts_needed=count,
            parts_given=available,
        )
    return [
        PlannedPart(n + 1, n * part_size, min(part_size, size - n * part_size))
        for n in range(count)
    ]


def upload_parts(
    channel: HttpChannel,
    target: Target,
    upload: Parts,
    fd: int,
    size: int,
    sent: Callable[[int], None],
) -> tuple[list[OutputPart], str | None]:
    """Uploads a file's parts and completes the upload when its URL was given.

    Returns:
        The parts with their ETags, and the whole object's ETag when it was completed here.
    """
    plan = plan_parts(size, upload.part_size, len(upload.urls))
    _check_all(
        target.where, [*upload.urls[: len(plan)], *([upload.complete] if upload.complete else [])]
    )
    etags: dict[int, str] = {}

    def send(part: PlannedPart) -> None:
        url = upload.urls[part.n - 1]
        where = f"{target.where}.parts.{part.n}.url"
        etag = put(
            channel,
            url,
            where,
            signed_subset(url.presign, target.headers),
            FileBody(fd, part.start, part.size),
            sent,
        )
        if etag is None:
            raise TaskError(
                ErrorCode.upload_failed, f"{where}: the store gave no ETag for the part", path=where
            )
        etags[part.n] = etag

    run_parallel(
        [lambda part=part: send(part) for part in plan],
        channel.limits.part_parallelism,
        channel.guard,
    )
    parts = [OutputPart(n=part.n, etag=etags[part.n]) for part in plan]
    return parts, _complete(channel, target, upload.complete, parts) if upload.complete else None


def _check_all(where: str, urls: Sequence[SafeUrl]) -> None:
    now = datetime.now(timezone.utc)
    for url in urls:
        check_expiry(url, where, now=now)


def _complete(
    channel: HttpChannel, target: Target, url: SafeUrl, parts: Sequence[OutputPart]
) -> str | None:
    """Makes the parts one object. Tried again, an answer that was lost shows as "no such upload" or
    412."""
    where = f"{target.where}.complete.url"
    body = BytesBody(completion_xml(parts))
    headers = {"Content-Type": "application/xml", **signed_subset(url.presign, target.headers)}
    retry = channel.retry()
    ambiguous = False
    while True:
        try:
            with channel.request("POST", url, where, headers, body=body) as response:
                return _read_completion(response, where)
        except Transient as failure:
            ambiguous = ambiguous or failure.ambiguous
            retry.pause(failure)
        except TaskError as error:
            gone = (
                error.code is ErrorCode.output_exists
                or error.details.get("storage_code") == "NoSuchUpload"
            )
            if not (ambiguous and gone):
                raise
            return None


def _read_completion(response: Response, where: str) -> str | None:
    """The object's ETag. S3 may answer 200 and put the error into the body."""
    if response.status == 412:
        raise output_exists(where)
    if response.status != 200:
        raise response.refusal()
    answer = response.text(MAX_ANSWER_BYTES, seconds=COMPLETION_SECONDS)
    if b"CompleteMultipartUploadResult" in answer and b"<Error>" not in answer:
        match = _ETAG.search(answer)
        return match[1].decode(errors="replace").replace("&quot;", '"') if match else None
    status = (
        400 if b"<Error>" in answer else 502
    )  # an empty or cut-off answer says nothing: try again
    raise judge(StoreRefusal(status, answer), where, "upload", datetime.now(timezone.utc))


def completion_xml(parts: Sequence[OutputPart]) -> bytes:
    """Body of CompleteMultipartUpload."""
    listed = "".join(
        f"<Part><PartNumber>{part.n}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>"
        for part in parts
    )
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
