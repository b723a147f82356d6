"""The side of the control plane that callers use, as docs.runpod.io describes it: run, runsync,
status, stream, cancel, ..."""

from __future__ import annotations

import hmac
import json
from collections import deque
from typing import Any

from aiohttp import web

from gpu_worker.devserver.endpoint.hub import Hub
from gpu_worker.devserver.endpoint.job import Job
from gpu_worker.devserver.endpoint.jobs import NotRetryable, UnknownJob
from gpu_worker.devserver.limits import RATE_LIMITS, RATE_WINDOW_SECONDS, PolicyError
from gpu_worker_client.protocol.foreign import parse_integer


class PublicApi:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._recent: dict[str, deque[float]] = {name: deque() for name in RATE_LIMITS}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v2/{endpoint}/run", self.run),
            web.post("/v2/{endpoint}/runsync", self.runsync),
            web.get("/v2/{endpoint}/status/{job}", self.status),
            web.post("/v2/{endpoint}/status/{job}", self.status),
            web.get("/v2/{endpoint}/stream/{job}", self.stream),
            web.post("/v2/{endpoint}/stream/{job}", self.stream),
            web.post("/v2/{endpoint}/cancel/{job}", self.cancel),
            web.post("/v2/{endpoint}/retry/{job}", self.retry),
            web.get("/v2/{endpoint}/health", self.health),
            web.post("/v2/{endpoint}/purge-queue", self.purge),
        ]

    async def run(self, request: web.Request) -> web.Response:
        self._admit(request, "run")
        job = await self._submitted(request, self._hub.limits.run_payload_bytes, sync=False)
        return web.json_response(job.public())

    async def runsync(self, request: web.Request) -> web.Response:
        self._admit(request, "runsync")
        job = await self._submitted(request, self._hub.limits.runsync_payload_bytes, sync=True)
        await self._hub.until(
            lambda: job if job.status.is_final else None, self._wait_seconds(request)
        )
        return web.json_response(job.public())

    async def status(self, request: web.Request) -> web.Response:
        self._admit(request, "status")
        return web.json_response(self._job(request).public())

    async def stream(self, request: web.Request) -> web.Response:
        """Waits for the next chunks or the end of the job; the chunks come once each."""
        self._admit(request, "stream")
        job = self._job(request)
        await self._hub.until(
            lambda: job if job.stream or job.status.is_final else None, self._hub.poll_seconds
        )
        return web.json_response(
            {"status": job.status.value, "stream": self._hub.queue.take_stream(job)}
        )

    async def cancel(self, request: web.Request) -> web.Response:
        self._admit(request, "cancel")
        self._job(request)
        job = self._hub.queue.cancel(request.match_info["job"])
        self._hub.changed()
        return web.json_response({"id": job.id, "status": job.status.value})

    async def retry(self, request: web.Request) -> web.Response:
        self._admit(request, "retry")
        self._job(request)
        try:
            job = self._hub.queue.retry(request.match_info["job"])
        except NotRetryable as error:
            raise _refusal(web.HTTPBadRequest, str(error)) from None
        self._hub.changed()
        return web.json_response({"id": job.id, "status": job.status.value})

    async def health(self, request: web.Request) -> web.Response:
        self._admit(request, "health")
        return web.json_response(self._hub.queue.health())

    async def purge(self, request: web.Request) -> web.Response:
        self._admit(request, "purge-queue")
        removed = self._hub.queue.purge()
        self._hub.changed()
        return web.json_response({"removed": removed, "status": "completed"})

    def _admit(self, request: web.Request, operation: str) -> None:
        """Refuses a wrong key (401), a wrong endpoint (404), too many requests (429)."""
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._hub.api_key}".encode()):
            raise _refusal(
                web.HTTPUnauthorized, "Authorization: Bearer API_KEY is missing or wrong"
            )
        if request.match_info["endpoint"] != self._hub.endpoint_id:
            raise _refusal(web.HTTPNotFound, "endpoint not found")
        if self._hub.limits.rate_limited and operation in RATE_LIMITS:
            self._count(operation)

    def _count(self, operation: str) -> None:
        recent, now = self._recent[operation], self._hub.clock()
        while recent and now - recent[0] >= RATE_WINDOW_SECONDS:
            recent.popleft()
        if len(recent) >= RATE_LIMITS[operation]:
            raise _refusal(
                web.HTTPTooManyRequests, f"more than {RATE_LIMITS[operation]} requests in 10 s"
            )
        recent.append(now)

    async def _submitted(self, request: web.Request, limit: int, *, sync: bool) -> Job:
        if request.content_length is not None and request.content_length > limit:
            raise _too_large(limit)
        data = await request.content.read(limit + 1) if request.can_read_body else b""
        while len(data) <= limit and (more := await request.content.read(limit + 1 - len(data))):
            data += more
        if len(data) > limit:
            raise _too_large(limit)
        try:
            job = self._hub.queue.submit(_request_of(data), sync=sync)
        except PolicyError as error:
            raise _refusal(web.HTTPBadRequest, str(error)) from None
        self._hub.changed()
        return job

    def _wait_seconds(self, request: web.Request) -> float:
        low, high = self._hub.limits.runsync_wait_range_seconds
        wait = parse_integer(request.query.get("wait"))
        if wait is None:
            return self._hub.limits.runsync_wait_seconds
        return min(max(wait / 1000, low), high)

    def _job(self, request: web.Request) -> Job:
        try:
            return self._hub.queue.get(request.match_info["job"])
        except UnknownJob:
            raise _refusal(web.HTTPNotFound, "job not found") from None


def _request_of(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise _refusal(web.HTTPBadRequest, "the body is not JSON") from None
    if not isinstance(body, dict) or "input" not in body or body["input"] is None:
        raise _refusal(web.HTTPBadRequest, 'the body must be an object with "input"')
    if not isinstance(body.get("webhook", ""), str | None) or not isinstance(
        body.get("policy", {}), dict | None
    ):
        raise _refusal(web.HTTPBadRequest, "webhook must be a string and policy an object")
    return body


def _refusal(kind: type[web.HTTPException], message: str) -> web.HTTPException:
    return kind(text=json.dumps({"error": message}), content_type="application/json")


def _too_large(limit: int) -> web.HTTPException:
    text = json.dumps({"error": f"the payload exceeds {limit} bytes"})
    return web.HTTPRequestEntityTooLarge(
        limit, limit + 1, text=text, content_type="application/json"
    )
