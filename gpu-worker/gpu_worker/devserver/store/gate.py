"""A strict stand-in for a Cloudflare R2 bucket on loopback: it refuses what R2 refuses.

Accepts signed requests only (SigV4 in the query or in the header), one bucket, path-style. Verifies
signature, method, expiry, signed headers and signed payload; wants a Content-Length; applies R2's
rules for conditional writes, ranges, multipart parts and one write a second per key; stores to
disk. Nothing partial is ever visible. Lenient stores let all of these bugs pass.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gpu_worker.devserver.clock import Clock, system_clock
from gpu_worker.devserver.faults.io import answer
from gpu_worker.devserver.faults.plan import Fault, FaultKind, Faults
from gpu_worker.devserver.http_rules import Conditions
from gpu_worker.devserver.responses import LocalResponse
from gpu_worker.devserver.store.actions import GateActions, GateLimits, GateRequest
from gpu_worker.devserver.store.multipart import Uploads
from gpu_worker.devserver.store.objects import ObjectStore
from gpu_worker.devserver.store.presign import object_url, presign
from gpu_worker.devserver.store.s3_errors import S3Error, code_for_status, error_xml
from gpu_worker.devserver.store.sigv4 import Credentials, verify

LOG_LENGTH = 10_000
_INVERTED = bytes(255 - byte for byte in range(256))


@dataclass(frozen=True)
class Seen:
    """One request as the gate saw it, without its signature."""

    method: str
    key: str
    query: Mapping[str, str]
    """Decoded, without the X-Amz-* parameters."""
    headers: Mapping[str, str]
    """Lower-case names."""
    status: int
    """As answered; 0 when an injected fault broke the connection first."""
    fault: Fault | None


class R2Gate:
    """The bucket, as a test or a backend handles it. Every method may be called from any thread."""

    def __init__(
        self,
        root: Path,
        *,
        bucket: str = "media",
        clock: Clock = system_clock,
        limits: GateLimits | None = None,
    ) -> None:
        self.bucket = bucket
        self.limits = limits or GateLimits()
        self.credentials = Credentials("local-gate", secrets.token_urlsafe(24))
        self.faults = Faults()
        self.log: deque[Seen] = deque(maxlen=LOG_LENGTH)
        self.base_url = ""
        """Set by whoever binds the port: "http://127.0.0.1:PORT"."""
        self.clock = clock
        self.store = ObjectStore(
            root, clock, write_interval_seconds=self.limits.write_interval_seconds
        )
        self.uploads = Uploads(self.store, min_part_bytes=self.limits.min_part_bytes)
        self._actions = GateActions(self.store, self.uploads, self.limits)

    def put(
        self, key: str, content: bytes | Path, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Stores an object directly, as the bucket's owner."""
        with self.store.incoming(key) as incoming:
            if isinstance(content, bytes):
                incoming.write(content)
            else:
                with content.open("rb") as source:
                    while chunk := source.read(1024 * 1024):
                        incoming.write(chunk)
            etag = incoming.finish(incoming.size)
            self.store.publish(key, incoming.path, etag, headers or {}, Conditions(), limited=False)

    def read(self, key: str) -> bytes | None:
        """The object's bytes, None when there is no such object."""
        found = self.store.find(key)
        return found.path.read_bytes() if found else None

    def path(self, key: str) -> Path:
        """The file that holds the object now; it never changes, a later write makes another
        file."""
        return self.store.get(key).path

    def keys(self) -> list[str]:
        return self.store.keys()

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def open_uploads(self, key: str | None = None) -> list[str]:
        """Ids of multipart uploads that were neither completed nor aborted."""
        return self.uploads.open_ids(key)

    def presign(
        self,
        method: str,
        key: str,
        expires: int = 3600,
        headers: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        age_seconds: float = 0.0,
    ) -> str:
        """A presigned URL. `age_seconds` dates it back: `expires=60, age_seconds=3600` expired 59
        minutes ago."""
        return presign(
            method,
            object_url(self.base_url, self.bucket, key),
            self.credentials,
            signed_at=self.clock() - age_seconds,
            expires_seconds=expires,
            headers=headers,
            query=query,
        )

    def presign_multipart(
        self,
        key: str,
        size: int,
        part_size: int,
        *,
        expires: int = 3600,
        complete: bool = True,
        complete_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Opens an upload and presigns enough parts for `size` bytes, in the shape of the wire's
        `output_multipart`."""
        upload_id = self.uploads.create(key, headers or {})
        count = max(1, -(-size // part_size))

        def url(method: str, query: dict[str, str], signed: Mapping[str, str] | None = None) -> str:
            return self.presign(
                method, key, expires, signed, query={"uploadId": upload_id, **query}
            )

        plan: dict[str, Any] = {
            "part_size": part_size,
            "parts": [
                {"n": n, "url": url("PUT", {"partNumber": str(n)})} for n in range(1, count + 1)
            ],
        }
        if complete:
            plan["complete"] = {"url": url("POST", {}, complete_headers)}
        return plan

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = _path(request)
        key = "" if path == f"/{self.bucket}" else path.removeprefix(f"/{self.bucket}/")
        fault = self.faults.take(request.method, key, frozenset(request.query))

        async def serve(active: Fault | None) -> LocalResponse:
            reply = await self._serve(request, key, active)
            if active is not None and active.kind is FaultKind.change_object:
                self._change(key)  # the reply has the former version open
            return reply

        def seen(status: int) -> None:
            self.log.append(
                Seen(request.method, key, _public(request), _joined(request), status, fault)
            )

        return await answer(request, fault, serve, self._refusal, seen)

    async def _serve(self, request: web.Request, key: str, fault: Fault | None) -> LocalResponse:
        headers = _joined(request)
        try:
            query = verify(
                request.method, request.raw_path, headers, self.credentials, self.clock()
            )
            if not f"{_path(request)}/".startswith(f"/{self.bucket}/"):
                raise S3Error("NoSuchBucket", f"the bucket is {self.bucket!r}")
            return await self._actions.act(GateRequest(request, key, query, headers, fault))
        except S3Error as error:
            return self._refusal(error.status, error.code, error.message)

    def _refusal(
        self, status: int, code: str | None, message: str = "injected fault"
    ) -> LocalResponse:
        return LocalResponse.bytes(status, error_xml(code or code_for_status(status), message))

    def _change(self, key: str) -> None:
        """Another writer's version of the object: same size, other bytes."""
        current = self.read(key)
        if current is not None:
            self.put(key, current.translate(_INVERTED))


def _path(request: web.Request) -> str:
    return unquote(request.raw_path.partition("?")[0])


def _joined(request: web.Request) -> dict[str, str]:
    return {name.lower(): ",".join(request.headers.getall(name)) for name in request.headers}


def _public(request: web.Request) -> dict[str, str]:
    return {
        name: value
        for name, value in request.query.items()
        if not name.lower().startswith("x-amz-")
    }
