"""Joins the worker to the RunPod SDK: the async handler, progress that is settled, a drain with a
deadline, a boot check."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from gpu_worker.app import Worker
from gpu_worker.progress import Send, drop
from gpu_worker.runpod_sdk import AsyncClientSession, jobs_in_progress, runpod, send_result
from gpu_worker.settings import Settings
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.engine.jobdir import remove, sweep, worker_root
from gpu_worker_processors.redact import install as install_redaction
from gpu_worker_processors.sandbox.lifeline import die_with

logger = logging.getLogger(__name__)

EXIT_MARGIN_SECONDS = 8.0
"""An idle worker leaves this long after the signal, one with a job this long after its grace: the
SDK still posts the answer, and its long poll would hold it for up to 90 s."""


def serverless_config(env: Mapping[str, str]) -> dict[str, Any]:
    """The argument of `runpod.serverless.start`."""
    settings = Settings.from_env(env)
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    install_redaction(env, streams=True)
    if settings.end_with_process:
        die_with(settings.end_with_process)
    sweep(settings.work_root)
    settings = replace(settings, work_root=worker_root(settings.work_root))
    atexit.register(remove, settings.work_root)
    engine = Engine(settings, env)
    atexit.register(engine.close)
    worker = Worker(settings, engine)
    drain = Drain(worker, engine, settings)
    runpod.serverless.register_fitness_check(_boot_check(engine))
    on_platform = "RUNPOD_WEBHOOK_POST_OUTPUT" in env

    async def handler(job: dict[str, Any]) -> dict[str, Any]:
        return await worker.handle(job, progress_sender(job) if on_platform else drop)

    return {"handler": handler, "concurrency_modifier": drain.watch}


def progress_sender(job: dict[str, Any]) -> Send:
    """Posts a report the way the SDK's `progress_update` does, but awaited: that one's thread can
    overtake the answer."""

    async def send(report: dict[str, object]) -> None:
        async with AsyncClientSession() as session:
            await send_result(
                session, {"status": "IN_PROGRESS", "output": report}, {"id": job["id"]}
            )

    return send


def _boot_check(engine: Engine) -> Any:
    """A worker whose engine does not start ends before it takes a job; the SDK exits on a raised
    error."""

    def engine_starts() -> None:
        engine.start()

    return engine_starts


class Drain:
    """SIGTERM: no more jobs are taken, and the running one has a deadline.

    The SDK's own handler loses a job that its open poll still brings: what starts jobs has ended by
    then, so the job is taken and never run. And it waits for a running job for ever. So the SDK
    gets the signal between two polls, and the wait gets an end.
    """

    def __init__(self, worker: Worker, engine: Engine, settings: Settings) -> None:
        self._worker = worker
        self._engine = engine
        self._grace_seconds = settings.drain_seconds
        self._work_root = settings.work_root
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = False
        self._stop_sdk: Any = None

    def watch(self, concurrency: int) -> int:
        """The SDK's `concurrency_modifier`, called in its loop before each poll for a job, after it
        has set its own signal handlers, so that ours replace them. One GPU, one job at a time: the
        concurrency stays as it is until the worker shuts down, when no more jobs are wanted."""
        if self._loop is None and threading.current_thread() is threading.main_thread():
            self._loop = asyncio.get_running_loop()
            self._stop_sdk = signal.getsignal(signal.SIGTERM)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
        if not self._started:
            return concurrency
        if callable(self._stop_sdk):
            self._stop_sdk(signal.SIGTERM, None)
        return (
            concurrency if jobs_in_progress() else 0
        )  # 0 would keep a job that is queued from being started

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Begins the countdown, once."""
        if self._started or self._loop is None:
            return
        self._started = True
        logger.info("shutting down: the running job has %g s to finish", self._grace_seconds)
        loop = self._loop
        loop.call_soon_threadsafe(lambda: loop.call_later(self._grace_seconds, self._worker.drain))
        _later(EXIT_MARGIN_SECONDS, self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        if jobs_in_progress():
            _later(self._grace_seconds, self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        self._engine.kill()
        remove(self._work_root)  # what is registered with atexit does not run
        logging.shutdown()
        os._exit(0)


def _later(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
