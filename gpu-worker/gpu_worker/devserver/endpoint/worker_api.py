"""The side of the control plane that the unmodified runpod SDK talks to, in the form its source
expects (1.12).

`GET job-take` and `job-stop` are long polls; `POST job-done` carries results and progress as JSON
under a form content type; `GET ping` is the heartbeat of a separate process. The workers' key is
part of the path, which only they know: without it whoever else is on this machine could take a
job with its presigned URLs, or answer one. It is not in the Authorization header, because a
developer's own `~/.runpod/config.toml` replaces what the environment says of that.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gpu_worker.devserver.endpoint.hub import Hub
from gpu_worker.devserver.endpoint.job import Job
from gpu_worker.devserver.endpoint.jobs import UnknownJob
from gpu_worker_client.protocol.foreign import parse_integer

MAX_BATCH = 100


class WorkerApi:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def routes(self) -> list[web.RouteDef]:
        return [
            self._route("GET", "job-take/{worker}", self.take),
            self._route("GET", "job-take-batch/{worker}", self.take_batch),
            self._route("GET", "job-stop/{worker}", self.stop),
            self._route("POST", "job-done/{worker}/{job}", self.done),
            self._route("POST", "job-stream/{worker}/{job}", self.stream),
            self._route("GET", "ping/{worker}", self.ping),
        ]

    def _route(
        self, method: str, path: str, handle: Callable[[web.Request], Awaitable[web.Response]]
    ) -> web.RouteDef:
        async def for_workers(request: web.Request) -> web.Response:
            if not hmac.compare_digest(
                request.match_info["key"].encode(), self._hub.worker_key.encode()
            ):
                raise web.HTTPNotFound
            return await handle(request)

        return web.route(method, "/v2/{endpoint}/{key}/" + path, for_workers)

    async def take(self, request: web.Request) -> web.Response:
        jobs = await self._taken(request, 1)
        return web.json_response(_for_worker(jobs[0])) if jobs else web.Response(status=204)

    async def take_batch(self, request: web.Request) -> web.Response:
        size = parse_integer(request.query.get("batch_size")) or 1
        jobs = await self._taken(request, min(size, MAX_BATCH))
        return (
            web.json_response([_for_worker(job) for job in jobs])
            if jobs
            else web.Response(status=204)
        )

    async def _taken(self, request: web.Request, count: int) -> list[Job]:
        worker = request.match_info["worker"]
        jobs = await self._hub.until(
            lambda: self._hub.queue.take(worker, count) or None, self._hub.poll_seconds
        )
        if jobs:
            self._hub.changed()
        return jobs or []

    async def stop(self, request: web.Request) -> web.Response:
        worker = request.match_info["worker"]
        stops = await self._hub.until(
            lambda: self._hub.queue.take_stops(worker) or None, self._hub.poll_seconds
        )
        return web.json_response({"jobsToStop": stops}) if stops else web.Response(status=204)

    async def ping(self, request: web.Request) -> web.Response:
        self._hub.queue.seen(request.match_info["worker"])
        return web.json_response({})

    async def done(self, request: web.Request) -> web.Response:
        job_id, worker = request.match_info["job"], request.match_info["worker"]
        queue = self._hub.queue
        try:
            body = await _read_up_to(request, queue.result_limit_bytes(job_id))
            if body is None:
                queue.refuse_result(job_id, worker)
                return web.json_response({"error": "result exceeds the size limit"}, status=400)
            self._accept(job_id, worker, json.loads(body))
        except UnknownJob:
            return web.json_response({"error": "job not found"}, status=404)
        except ValueError:
            return web.json_response({"error": "body is not JSON"}, status=400)
        finally:
            self._hub.changed()
        return web.json_response({})

    def _accept(self, job_id: str, worker: str, body: Any) -> None:
        if not isinstance(body, dict):
            raise ValueError("a result is an object")
        if body.get("status") == "IN_PROGRESS":
            self._hub.queue.progress(job_id, worker, body.get("output"))
        else:
            self._hub.queue.finish(job_id, worker, body)

    async def stream(self, request: web.Request) -> web.Response:
        data = await request.read()
        try:
            self._hub.queue.add_stream(
                request.match_info["job"], request.match_info["worker"], json.loads(data), len(data)
            )
        except UnknownJob:
            return web.json_response({"error": "job not found"}, status=404)
        except ValueError:
            return web.json_response({"error": "body is not JSON"}, status=400)
        self._hub.changed()
        return web.json_response({})


def _for_worker(job: Job) -> dict[str, Any]:
    webhook = {"webhook": job.webhook} if job.webhook else {}
    return {**job.extra, **webhook, "id": job.id, "input": job.input}


async def _read_up_to(request: web.Request, limit: int) -> bytes | None:
    """The body, or None when it is longer than `limit`; the rest is read and dropped so that the
    sender gets the answer."""
    data = bytearray()
    total = 0
    async for chunk in request.content.iter_chunked(64 * 1024):
        total += len(chunk)
        if total <= limit:
            data += chunk
    return bytes(data) if total <= limit else None
