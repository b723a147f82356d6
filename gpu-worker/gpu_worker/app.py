"""A job on an endpoint: parse, check, fetch, process, deliver, answer.

`Worker.handle` takes what the RunPod SDK hands over and gives back what it accepts: the answer, or
`{"error": "<compact JSON>"}`. It raises nothing but a cancel, leaves no file behind, and after a
cancel, a time limit or a crash the next job starts clean.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

from gpu_worker import __version__
from gpu_worker.errors import failure_answer
from gpu_worker.files import UrlFiles
from gpu_worker.progress import Reporter, Send, drop
from gpu_worker.settings import Settings
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.transfers import Transfers
from gpu_worker.transfer.urls import TaskUrls, UrlPolicy, check_task
from gpu_worker.webhook import SEND_SECONDS, SHUTDOWN_SEND_SECONDS, Notice, Webhooks
from gpu_worker_client.protocol import ErrorCode, TaskBase, TaskError, parse_task
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.runner import JobRunner

T = TypeVar("T")

PACKAGE = "gpu-worker"
"""The distribution's name, for `WorkerInfo.package`."""
STOP_SECONDS = 5.0
"""A cancelled job ends within this long: the engine is killed, and transfers check for a stop once
a second."""


class Worker:
    """Runs jobs one at a time on one warm engine."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ):
        self._settings = settings
        self._now = now
        self._turn: asyncio.Lock | None = None
        self._current: asyncio.Task[Any] | None = None
        self._draining = False
        self._runner = JobRunner(engine, settings, PACKAGE, __version__, settings.prices)
        self._policy = UrlPolicy(
            allowed_hosts=settings.allowed_hosts,
            exempt_hosts=settings.exempt_hosts,
            allow_local_files=settings.allow_local_files,
        )
        self._limits = TransferLimits(
            total_seconds=settings.transfer_time_limit_seconds,
            max_input_bytes=settings.max_input_bytes,
        )
        self._webhooks = Webhooks(settings.webhook_keys, self._policy)

    async def handle(self, job: dict[str, Any], send: Send = drop) -> dict[str, Any]:
        """Runs one job to its answer.

        Args:
            job: `{"id": str, "input": task JSON}`.
            send: takes progress reports.

        Returns:
            The answer's JSON, or `{"error": text, "refresh_worker"?: True}`.
        """
        self._turn = self._turn or asyncio.Lock()
        async with self._turn:  # one job at a time per GPU, whatever the platform's concurrency
            self._current = asyncio.current_task()
            reporter = Reporter(send)
            try:
                return await self._answer(str(job.get("id") or "local"), job.get("input"), reporter)
            finally:
                self._current = None
                await reporter.close()

    def drain(self) -> None:
        """Cancels the running job with a typed answer, and every later one: the worker is shutting
        down and the grace is over. Loop thread only."""
        self._draining = True
        if self._current is not None:
            self._current.cancel()

    async def _answer(self, job_id: str, payload: object, reporter: Reporter) -> dict[str, Any]:
        notice: Notice | None = None
        try:
            # In threads: a quarter of a megabyte of parts takes half a second to check.
            task = await _in_thread(lambda: parse_task(payload))
            notice = self._webhooks.notice(job_id, task)
            if self._draining:  # taken by a poll that was open when the grace ended
                raise self._shutdown_error()
            urls = await _in_thread(lambda: self._checked(task))
            answer = await self._run(job_id, task, urls, reporter)
        except asyncio.CancelledError:
            if not self._draining:
                raise
            answer = failure_answer(self._shutdown_error())
        except Exception as error:  # noqa: BLE001 - the edge: everything becomes a typed answer
            answer = failure_answer(error)
        return answer if notice is None else await self._notify(notice, answer)

    def _checked(self, task: TaskBase) -> TaskUrls:
        return check_task(
            task,
            self._policy,
            now=self._now(),
            min_remaining_seconds=self._settings.min_url_lifetime_seconds,
        )

    async def _run(
        self, job_id: str, task: TaskBase, urls: TaskUrls, reporter: Reporter
    ) -> dict[str, Any]:
        """Fetch, process, deliver, answer: `JobRunner`'s work, in a thread."""
        transfers = Transfers(self._policy, self._limits, reporter.report)
        files = UrlFiles(task, urls, transfers, self._settings)
        stop = threading.Event()
        return await _in_thread(
            lambda: self._runner.run(job_id, task, files, reporter.report, stop), stop
        )

    async def _notify(self, notice: Notice, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, once its event was sent. A cancel ends the sending; a shutdown ends it too,
        but the answer stays."""
        stop = threading.Event()
        seconds = SHUTDOWN_SEND_SECONDS if self._draining else SEND_SECONDS
        try:
            return await _in_thread(lambda: notice.send(answer, stop, seconds), stop)
        except asyncio.CancelledError:
            if not self._draining:
                raise
            return answer

    def _shutdown_error(self) -> TaskError:
        grace = self._settings.drain_seconds
        message = (
            f"the worker was told to shut down and the job did not end within {grace:g} s; submit"
            " it again"
        )
        return TaskError(ErrorCode.cancelled, message, reason="shutdown")


async def _in_thread(call: Callable[[], T], stop: threading.Event | None = None) -> T:
    """What a blocking call gives. A cancel sets `stop` and waits for the call to end, so that
    nothing of a job runs on when the next starts."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        done, _ = await asyncio.wait({running}, timeout=STOP_SECONDS)
        for one in done:
            one.exception()  # of a job that is over; unseen, asyncio would log it
        raise


def new_job_id() -> str:
    return f"local-{uuid.uuid4().hex[:12]}"
