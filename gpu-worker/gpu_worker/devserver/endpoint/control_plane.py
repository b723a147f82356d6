"""A faithful RunPod control plane on loopback: the unmodified runpod worker loop on one side, any
client on the other.

Assembles the two APIs over one job queue, lets time pass in it, sends webhooks, and carries out
injected faults.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from gpu_worker.devserver.clock import Clock, system_clock
from gpu_worker.devserver.endpoint.hub import Hub
from gpu_worker.devserver.endpoint.public_api import PublicApi
from gpu_worker.devserver.endpoint.webhooks import Webhooks
from gpu_worker.devserver.endpoint.worker_api import WorkerApi
from gpu_worker.devserver.faults.io import answer
from gpu_worker.devserver.faults.plan import Faults
from gpu_worker.devserver.limits import PlatformLimits
from gpu_worker.devserver.responses import Body, LocalResponse

TICK_SECONDS = 0.1
"""How often time is applied when no request does it: the granularity of timeouts seen by a waiting
worker."""
MAX_STREAM_CHUNK_BYTES = 64 * 1024 * 1024
LOG_LENGTH = 10_000


@dataclass(frozen=True)
class Call:
    """One request as the control plane saw it."""

    method: str
    path: str
    """Below `/v2/ENDPOINT/`, and for a worker below its key."""
    status: int


class ControlPlane:
    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        *,
        limits: PlatformLimits | None = None,
        clock: Clock = system_clock,
        poll_seconds: float = 2.0,
    ) -> None:
        self.hub = Hub(
            endpoint_id,
            api_key,
            limits=limits or PlatformLimits(),
            clock=clock,
            poll_seconds=poll_seconds,
        )
        self.faults = Faults()
        self.log: deque[Call] = deque(maxlen=LOG_LENGTH)
        self.on_stop_pod: Callable[[str], None] | None = None
        """Called with a worker's id when its result asked for a fresh worker (`refresh_worker`)."""
        self.webhooks = Webhooks(self.hub.limits)

    def app(self) -> web.Application:
        app = web.Application(
            client_max_size=MAX_STREAM_CHUNK_BYTES, middlewares=[self._middleware()]
        )
        app.add_routes(WorkerApi(self.hub).routes())
        app.add_routes(PublicApi(self.hub).routes())
        app.cleanup_ctx.append(self._time)
        return app

    async def _time(self, _: web.Application) -> AsyncIterator[None]:
        """Lets time pass while the application runs."""
        task = asyncio.create_task(self._tick_forever())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await self.webhooks.close()

    async def _tick_forever(self) -> None:
        while True:
            self.hub.queue.tick()
            self.hub.changed()
            self._send_webhooks()
            self._stop_pods()
            await asyncio.sleep(TICK_SECONDS)

    def _send_webhooks(self) -> None:
        due, self.hub.queue.webhooks = self.hub.queue.webhooks, []
        for url, body in due:
            self.webhooks.send(url, body)

    def _stop_pods(self) -> None:
        stopping, self.hub.queue.stopping = self.hub.queue.stopping, []
        for worker_id in stopping:
            if self.on_stop_pod is not None:
                self.on_stop_pod(worker_id)

    def _middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        @web.middleware
        async def inject(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            path = request.path.removeprefix(f"/v2/{self.hub.endpoint_id}/").removeprefix(
                f"{self.hub.worker_key}/"
            )
            fault = self.faults.take(request.method, path, frozenset(request.query))

            def seen(status: int) -> None:
                self.log.append(Call(request.method, path, status))

            return await answer(
                request, fault, lambda _: _replied(request, handler), _refusal, seen
            )

        return inject


async def _replied(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> LocalResponse:
    """A handler's answer, always small, as a `LocalResponse`."""
    try:
        response = await handler(request)
    except web.HTTPException as refused:
        response = refused
    data = (
        response.body
        if isinstance(response, web.Response) and isinstance(response.body, bytes)
        else b""
    )
    return LocalResponse(response.status, {"Content-Type": response.content_type}, Body.of(data))


def _refusal(status: int, code: str | None) -> LocalResponse:
    return LocalResponse.bytes(
        status, json.dumps({"error": code or "injected fault"}).encode(), "application/json"
    )
