"""The whole platform on this machine, in one context manager: control plane, R2 gate, worker
processes.

    with LocalPlatform() as platform:
        platform.gate.put("in.mp4", Path("clip.mp4"))
        platform.start_worker()
        client = Client(platform.endpoint_id, platform.api_key, platform.base_url)

Both services listen on loopback, on free ports by default, in one background thread with
its own event loop. Leaving the context ends every worker it started and removes its files, unless
`data_dir` was given.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from gpu_worker.devserver.clock import Clock, system_clock
from gpu_worker.devserver.endpoint.control_plane import ControlPlane
from gpu_worker.devserver.endpoint.fleet import Fleet
from gpu_worker.devserver.endpoint.job import Job
from gpu_worker.devserver.endpoint.worker_process import WorkerProcess
from gpu_worker.devserver.limits import PlatformLimits
from gpu_worker.devserver.store import private_files
from gpu_worker.devserver.store.actions import GateLimits
from gpu_worker.devserver.store.gate import R2Gate

T = TypeVar("T")

SHUTDOWN_SECONDS = 1.0
"""How long open requests may finish when the platform closes."""
CALL_SECONDS = 30.0
PING_MILLISECONDS = 1000
"""The SDK counts whole seconds; RunPod's own value is 10 s."""
READY_SECONDS = 120.0
"""A worker imports torch before its first poll; on a busy machine that takes long."""


class LocalPlatform:
    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        endpoint_id: str = "local",
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        gate_port: int = 0,
        limits: PlatformLimits | None = None,
        gate_limits: GateLimits | None = None,
        clock: Clock = system_clock,
        poll_seconds: float = 2.0,
    ) -> None:
        self.endpoint_id = endpoint_id
        self.api_key = api_key or secrets.token_urlsafe(24)
        self._host, self._port, self._gate_port = host, port, gate_port
        self._closing = ExitStack()
        self.data_dir = data_dir or Path(
            self._closing.enter_context(tempfile.TemporaryDirectory(prefix="gpu-worker-"))
        )
        self.data_dir.mkdir(private_files.FOLDER_MODE, parents=True, exist_ok=True)
        self.control = ControlPlane(
            endpoint_id, self.api_key, limits=limits, clock=clock, poll_seconds=poll_seconds
        )
        self.gate = R2Gate(self.data_dir / "objects", clock=clock, limits=gate_limits)
        self.faults = self.control.faults
        """Faults of the control plane; the gate has its own."""
        self.fleet = Fleet(self.worker_env, self.data_dir)
        self.control.on_stop_pod = self.fleet.replace_later
        self._origin = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="local-platform", daemon=True
        )

    def __enter__(self) -> LocalPlatform:
        self._thread.start()
        self._closing.callback(self._stop_loop)
        try:
            self._origin = self._call(self._listen(self.control.app(), self._port))
            self.gate.base_url = self._call(self._listen(self.gate.app(), self._gate_port))
        except BaseException:
            self._closing.close()
            raise
        self._closing.callback(self.fleet.close)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    @property
    def base_url(self) -> str:
        """What a client calls `base_url`: "http://127.0.0.1:PORT/v2"."""
        return f"{self._origin}/v2"

    @property
    def worker_url(self) -> str:
        """Below which workers ask for jobs and answer them. A secret: whoever has it is a
        worker."""
        return f"{self.base_url}/{self.endpoint_id}/{self.control.hub.worker_key}"

    @property
    def workers(self) -> list[WorkerProcess]:
        """The present workers; a `refresh_worker` answer replaces its worker by a new one."""
        return self.fleet.workers

    def worker_env(self, worker_id: str = "worker-1") -> dict[str, str]:
        """The environment in which the unmodified runpod SDK works for this endpoint. `$ID` is
        replaced by the SDK."""
        endpoint, gate = self.worker_url, self.gate.base_url.removeprefix("http://")
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{endpoint}/job-take/$ID?gpu=local",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{endpoint}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{endpoint}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
            "RUNPOD_WEBHOOK_PING": f"{endpoint}/ping/$RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL": str(PING_MILLISECONDS),
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_ENDPOINT_ID": self.endpoint_id,
            "RUNPOD_AI_API_KEY": self.api_key,
            "RUNPOD_LOG_LEVEL": "INFO",
            # The SDK's own checks look for a GPU, 10 % of free disk and a route to 8.8.8.8.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
            # Besides the gate what this machine's user names: a receiver of webhooks on loopback,
            # say.
            "GPU_WORKER_EXEMPT_HOSTS": ",".join(
                filter(None, (gate, os.environ.get("GPU_WORKER_EXEMPT_HOSTS")))
            ),
            "GPU_WORKER_END_WITH_PROCESS": str(os.getpid()),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def start_worker(
        self, extra_env: Mapping[str, str] | None = None, *, handler: Path | None = None
    ) -> WorkerProcess:
        """Starts `handler.py` (or another script) as one worker of the endpoint. Does not wait for
        it."""
        return self.fleet.start(extra_env, handler or _handler_path())

    def wait_ready(self, worker: WorkerProcess, timeout_seconds: float = READY_SECONDS) -> None:
        """Returns when the worker has asked for its first job. Raises RuntimeError with its log
        when it died or took long."""

        def ready() -> bool | None:
            return True if worker.poll() is not None or self.is_ready(worker) else None

        found = self.wait_until(ready, timeout_seconds)
        if found is None or worker.poll() is not None:
            state = "did not get ready" if worker.poll() is None else f"ended with {worker.poll()}"
            raise RuntimeError(f"{worker.worker_id} {state}:\n{worker.log_tail()}")

    def is_ready(self, worker: WorkerProcess) -> bool:
        """Whether the worker has ever asked for a job."""
        return worker.worker_id in self.control.hub.queue.ready_workers

    def job(self, job_id: str) -> Job:
        """The control plane's own record of a job, with its history."""
        return self.control.hub.queue.jobs[job_id]

    def wait_until(
        self, attempt: Callable[[], T | None], timeout_seconds: float = CALL_SECONDS
    ) -> T | None:
        """The first answer of `attempt` that is not None, asked in the platform's thread at every
        change; None on timeout."""
        return self._call(
            self.control.hub.until(attempt, timeout_seconds), timeout_seconds + CALL_SECONDS
        )

    async def _listen(self, app: web.Application, port: int) -> str:
        # Cancelling a handler whose caller has gone keeps a job from being handed to a dead worker.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await runner.setup()
        self._closing.callback(lambda: self._call(runner.cleanup()))
        site = web.TCPSite(runner, self._host, port)
        await site.start()
        return f"http://{self._host}:{runner.addresses[0][1]}"

    def _call(self, work: Coroutine[Any, Any, T], timeout_seconds: float = CALL_SECONDS) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_seconds)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()


def _handler_path() -> Path:
    import gpu_worker

    return Path(gpu_worker.__file__).parents[1] / "handler.py"
