"""What a verified request does to the bucket: one method per S3 operation, chosen by method and
query."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

from gpu_worker.devserver.faults.io import read_body
from gpu_worker.devserver.faults.plan import Fault, FaultKind
from gpu_worker.devserver.http_rules import Conditions, byte_range
from gpu_worker.devserver.responses import Body, LocalResponse
from gpu_worker.devserver.store.lists import list_objects, list_parts, list_uploads, xml_response
from gpu_worker.devserver.store.multipart import Uploads
from gpu_worker.devserver.store.objects import (
    SIGNED_PAYLOAD,
    Incoming,
    ObjectStore,
    expected_checksums,
    stored_headers,
)
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker.devserver.store.sigv4 import UNSIGNED_PAYLOAD
from gpu_worker_client.protocol import MAX_PARTS
from gpu_worker_client.protocol.foreign import parse_integer

MAX_COMPLETE_BYTES = 2 * 1024 * 1024
"""Bound of a CompleteMultipartUpload document: 10 000 parts of about 130 bytes."""


@dataclass(frozen=True)
class GateLimits:
    max_put_bytes: int = 5 * 1024**3 - 5 * 1024**2
    """Largest single PUT. https://developers.cloudflare.com/r2/platform/limits/"""
    max_part_bytes: int = 5 * 1024**3
    min_part_bytes: int = 5 * 1024**2
    write_interval_seconds: float = 1.0
    """Least time between two writes of one key, same source."""


@dataclass(frozen=True)
class GateRequest:
    http: web.Request
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    fault: Fault | None


class GateActions:
    """The operations of one bucket. A form POST is not among them: R2 has none."""

    def __init__(self, store: ObjectStore, uploads: Uploads, limits: GateLimits) -> None:
        self._store = store
        self._uploads = uploads
        self._limits = limits
        self._actions: dict[tuple[str, str], Callable[[GateRequest], Awaitable[LocalResponse]]] = {
            ("GET", "object"): self._get,
            ("HEAD", "object"): self._get,
            ("PUT", "object"): self._put,
            ("DELETE", "object"): self._delete,
            ("POST", "uploads"): self._create,
            ("PUT", "partNumber"): self._put_part,
            ("POST", "uploadId"): self._complete,
            ("DELETE", "uploadId"): self._abort,
            ("GET", "uploadId"): self._list_parts,
            ("GET", "bucket:list-type"): self._list_objects,
            ("GET", "bucket:uploads"): self._list_uploads,
            ("HEAD", "bucket:"): self._head_bucket,
        }

    async def act(self, request: GateRequest) -> LocalResponse:
        """Carries out one verified request or raises `S3Error`."""
        unknown = [name for name in request.query if name.startswith("response-")]
        if unknown:
            raise S3Error("NotImplemented", f"{unknown[0]} is not implemented")
        action = self._actions.get((request.http.method, _operation(request)))
        if action is None:
            raise S3Error("NotImplemented", "this operation is not implemented")
        return await action(request)

    async def _get(self, request: GateRequest) -> LocalResponse:
        found = self._store.get(request.key)
        headers = {
            "ETag": f'"{found.etag}"',
            "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(found.modified, usegmt=True),
            "Content-Type": "application/octet-stream",
            **{
                name if name.startswith("x-amz-") else name.title(): value
                for name, value in found.headers.items()
            },
        }
        if Conditions.of(request.headers).unmodified(found.etag):
            return LocalResponse(304, headers)
        if_range = request.headers.get("if-range")
        wanted = None
        if not _is(request.fault, FaultKind.ignore_range) and (
            if_range is None or if_range.strip('"') == found.etag
        ):
            wanted = byte_range(request.headers.get("range"), found.size)
        if wanted is None:
            return LocalResponse(200, headers, Body.of_file(found.path, 0, found.size))
        start, end = wanted
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        return LocalResponse(206, headers, Body.of_file(found.path, start, end))

    async def _put(self, request: GateRequest) -> LocalResponse:
        conditions = Conditions.of(request.headers)
        self._store.check_write(request.key, conditions)
        with self._incoming(request, self._limits.max_put_bytes) as incoming:
            etag = await _receive(request, incoming)
            self._store.publish(
                request.key, incoming.path, etag, stored_headers(request.headers), conditions
            )
        return LocalResponse(200, {"ETag": f'"{etag}"'})

    async def _delete(self, request: GateRequest) -> LocalResponse:
        self._store.delete(request.key)
        return LocalResponse(204)

    async def _create(self, request: GateRequest) -> LocalResponse:
        upload_id = self._uploads.create(request.key, stored_headers(request.headers))
        return xml_response(
            "InitiateMultipartUploadResult", {"Key": request.key, "UploadId": upload_id}
        )

    async def _put_part(self, request: GateRequest) -> LocalResponse:
        upload = self._uploads.get(request.query.get("uploadId", ""), request.key)
        number = parse_integer(request.query["partNumber"], least=1, most=MAX_PARTS)
        if number is None:
            raise S3Error("InvalidArgument", f"partNumber must be 1 to {MAX_PARTS}")
        with self._incoming(request, self._limits.max_part_bytes) as incoming:
            etag = await _receive(request, incoming)
            self._uploads.put_part(upload, number, incoming, etag)
        return LocalResponse(200, {"ETag": f'"{etag}"'})

    async def _complete(self, request: GateRequest) -> LocalResponse:
        upload = self._uploads.get(request.query["uploadId"], request.key)
        if _declared(request) > MAX_COMPLETE_BYTES:
            raise S3Error("EntityTooLarge", f"the document may have {MAX_COMPLETE_BYTES} bytes")
        body = b"".join([chunk async for chunk in read_body(request.http, request.fault)])
        if request.headers.get(SIGNED_PAYLOAD, UNSIGNED_PAYLOAD) not in (
            UNSIGNED_PAYLOAD,
            hashlib.sha256(body).hexdigest(),
        ):
            raise S3Error("XAmzContentSHA256Mismatch", f"{SIGNED_PAYLOAD} does not match the body")
        # In a thread: joining gigabytes must not hold up the heartbeats that the same event loop
        # answers.
        stored = await asyncio.to_thread(
            self._uploads.complete, upload, body, Conditions.of(request.headers)
        )
        return xml_response(
            "CompleteMultipartUploadResult", {"Key": stored.key, "ETag": f'"{stored.etag}"'}
        )

    async def _abort(self, request: GateRequest) -> LocalResponse:
        self._uploads.abort(self._uploads.get(request.query["uploadId"], request.key))
        return LocalResponse(204)

    async def _list_parts(self, request: GateRequest) -> LocalResponse:
        return list_parts(self._uploads.get(request.query["uploadId"], request.key), request.query)

    async def _list_objects(self, request: GateRequest) -> LocalResponse:
        prefix = request.query.get("prefix", "")
        found = [self._store.get(key) for key in self._store.keys() if key.startswith(prefix)]  # noqa: SIM118 - no mapping
        return list_objects(found, request.query)

    async def _list_uploads(self, request: GateRequest) -> LocalResponse:
        prefix = request.query.get("prefix", "")
        return list_uploads(
            [upload for upload in self._uploads.open() if upload.key.startswith(prefix)],
            request.query,
        )

    async def _head_bucket(self, _: GateRequest) -> LocalResponse:
        return LocalResponse(200)

    def _incoming(self, request: GateRequest, max_bytes: int) -> Incoming:
        declared = _declared(request)
        if declared > max_bytes:
            raise S3Error(
                "EntityTooLarge", f"one request may carry {max_bytes} bytes; use a multipart upload"
            )
        return self._store.incoming(
            request.key, expected_checksums({**_lower(request.query), **request.headers})
        )


def _operation(request: GateRequest) -> str:
    bucket = "" if request.key else "bucket:"
    names = ("list-type", "uploads") if bucket else ("partNumber", "uploadId", "uploads")
    return bucket + next(
        (name for name in names if name in request.query), "" if bucket else "object"
    )


def _declared(request: GateRequest) -> int:
    """The Content-Length, after refusing every way to send a body without one."""
    payload = request.headers.get(SIGNED_PAYLOAD, UNSIGNED_PAYLOAD)
    if "aws-chunked" in request.headers.get("content-encoding", "") or payload.startswith(
        "STREAMING-"
    ):
        raise S3Error("NotImplemented", "aws-chunked bodies and their trailers are not implemented")
    if payload != UNSIGNED_PAYLOAD and "authorization" not in request.headers:
        raise S3Error("NotImplemented", "signed payloads are not implemented for presigned URLs")
    length = request.http.content_length
    if length is None or "transfer-encoding" in request.headers:
        raise S3Error("MissingContentLength", "you must provide the Content-Length HTTP header")
    return length


async def _receive(request: GateRequest, incoming: Incoming) -> str:
    async for chunk in read_body(request.http, request.fault):
        incoming.write(chunk)
    return incoming.finish(_declared(request))


def _lower(query: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in query.items()}


def _is(fault: Fault | None, kind: FaultKind) -> bool:
    return fault is not None and fault.kind is kind
