"""The way of a job: parse, check the URLs, fetch, process, deliver, tell the webhook, answer.

`Worker.handle` takes what the RunPod SDK hands over and gives back what it accepts: the answer, or
`{"error": "<compact JSON>"}`. It never raises but for a cancel, leaves no file behind, and after a
cancel, a time limit or a crash the next job starts clean.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from gpu_worker import weights_pull
from gpu_worker.answer import complete_answer, fit_answer, is_large, reused_answer
from gpu_worker.bucket import store_result
from gpu_worker.errors import failure_answer
from gpu_worker.progress import Reporter, Send, drop
from gpu_worker.settings import Bucket, Settings
from gpu_worker.transfer.deliver import Delivered, deliver, deliver_result, read_result
from gpu_worker.transfer.fetch import fetch
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.urls import Source, TaskUrls, UrlPolicy, check_task
from gpu_worker.webhook import SEND_SECONDS, SHUTDOWN_SEND_SECONDS, Notice, Webhooks
from gpu_worker_client.protocol import (
    ErrorCode,
    Stage,
    TaskBase,
    TaskError,
    TaskResult,
    Timings,
    parse_task,
)
from gpu_worker_processors import registry
from gpu_worker_processors.engine.host import Engine, EngineAnswer, EngineJob
from gpu_worker_processors.engine.jobdir import JobDirectory
from gpu_worker_processors.results import encoded, summary

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_SUFFIX = ".mp4"
"""Container of an output whose URL names none."""
STOP_SECONDS = 5.0
"""A cancelled job's threads end within this long: the engine is killed and transfers look at their
event once a second."""


@dataclass
class Run:
    """What one job has collected so far."""

    task: TaskBase
    urls: TaskUrls
    job_id: str
    reporter: Reporter
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the job is over, however it ended: transfers in threads stop within a second."""
    stage: Stage = "validate"
    seconds: dict[Stage, float] = field(default_factory=dict[Stage, float])
    cold_start: bool = False


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
        self._engine = engine
        self._now = now
        self._turn: asyncio.Lock | None = None
        self._current: asyncio.Task[Any] | None = None
        self._draining = False
        self._background: set[asyncio.Future[None]] = set()
        self._policy = UrlPolicy(
            allowed_hosts=settings.allowed_hosts,
            exempt_hosts=settings.exempt_hosts,
            allow_local_files=settings.allow_local_files,
        )
        self._webhooks = Webhooks(settings.webhook_keys, self._policy)
        self._transfer = TransferLimits(
            total_seconds=settings.transfer_time_limit_seconds,
            max_input_bytes=settings.max_input_bytes,
        )

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
                return await self._answered(
                    str(job.get("id") or "local"), job.get("input"), reporter
                )
            finally:
                self._current = None
                await reporter.close()

    def drain(self) -> None:
        """Cancels the running job with a typed answer, and every later one: the worker is shutting
        down and the grace is over. Loop thread only."""
        self._draining = True
        if self._current is not None:
            self._current.cancel()

    def _shut_down(self) -> TaskError:
        grace = self._settings.drain_seconds
        message = (
            f"the worker was told to shut down and the job did not end within {grace:g} s; submit"
            " it again"
        )
        return TaskError(ErrorCode.cancelled, message, reason="shutdown")

    async def _answered(self, job_id: str, payload: object, reporter: Reporter) -> dict[str, Any]:
        run: Run | None = None
        notice: Notice | None = None
        try:
            task = parse_task(payload)
            notice = self._webhooks.notice(job_id, task)
            if self._draining:  # taken by a poll that was open when the grace ended
                raise self._shut_down()
            urls = check_task(
                task,
                self._policy,
                now=self._now(),
                min_remaining_seconds=self._settings.min_url_lifetime_seconds,
            )
            run = Run(task, urls, job_id, reporter)
            answer = await self._in_time(run)
        except asyncio.CancelledError:
            if not self._draining:
                raise
            answer = failure_answer(self._shut_down())
        except Exception as error:  # noqa: BLE001 - the edge: everything becomes a typed answer
            answer = failure_answer(error)
        finally:
            if run is not None:
                run.cancelled.set()
        return answer if notice is None else await self._told(notice, answer)

    async def _told(self, notice: Notice, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, once its event went out. A cancel ends the sending; a shutdown ends it too,
        but the answer stays."""
        stop = threading.Event()
        seconds = SHUTDOWN_SEND_SECONDS if self._draining else SEND_SECONDS
        sending = asyncio.ensure_future(asyncio.to_thread(notice.send, answer, stop, seconds))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            stop.set()
            await _ended(sending)
            if not self._draining:
                raise
            return answer

    async def _in_time(self, run: Run) -> dict[str, Any]:
        limit = self._settings.job_time_limit_seconds
        work = asyncio.ensure_future(self._run(run))
        try:
            done, _ = await asyncio.wait({work}, timeout=limit)
        except asyncio.CancelledError:
            work.cancel()
            await _ended(work)
            raise
        if done:
            return work.result()
        work.cancel()
        await _ended(work)
        message = (
            f"the job ran longer than this worker's limit of {limit:g} s; split the input or raise"
            " the limit"
        )
        raise TaskError(ErrorCode.time_limit, message, stage=run.stage, limit_seconds=limit)

    async def _run(self, run: Run) -> dict[str, Any]:
        earlier = await self._step(run, "fetch", self._earlier_result(run))
        if earlier is not None:
            return earlier
        await self._step(run, "load", self._weights(run))
        with JobDirectory(self._settings.work_root) as directory:
            job = EngineJob(
                id=run.job_id,
                task=run.task,
                work_dir=directory,
                input_path=directory / "input" if run.urls.input else None,
                output_path=directory / f"output{run.urls.output.suffix or DEFAULT_SUFFIX}"
                if run.urls.output
                else None,
                output_name=run.urls.output.name if run.urls.output else "",
                extra_inputs={name: directory / f"input-{name}" for name in run.urls.extra_inputs},
            )
            await self._fetch_and_load(run, job)
            self._engine.own(directory)
            processing = self._thread(run, lambda: self._engine.run(job, run.reporter.report))
            answer = await self._step(run, "process", processing)
            delivered = await self._step(run, "deliver", self._deliver(run, job))
            return await self._step(run, "deliver", self._answer(run, answer, delivered))

    async def _earlier_result(self, run: Run) -> dict[str, Any] | None:
        """A finished result with the same idempotency key, without any GPU work."""
        source, key = run.urls.result_get, run.task.idempotency_key
        if source is None:
            return None
        payload = await self._thread(
            run,
            lambda: read_result(
                source, policy=self._policy, limits=self._transfer, cancelled=run.cancelled
            ),
        )
        return await self._thread(
            run, lambda: reused_answer(payload, run.task.task, key, self._settings)
        )

    async def _weights(self, run: Run) -> None:
        if "tracks" in run.urls.extra_inputs:
            return  # what the network would find comes along
        names = registry.get(run.task.task).required_weights(run.task.params)
        if names:
            await self._thread(
                run, lambda: weights_pull.ensure(names, self._settings, run.cancelled)
            )

    async def _fetch_and_load(self, run: Run, job: EngineJob) -> None:
        """The input comes while the engine starts and loads its networks."""
        fetching = asyncio.ensure_future(self._step(run, "fetch", self._fetch(run, job)))
        loading = asyncio.ensure_future(self._step(run, "load", self._load(run, job)))
        try:
            await asyncio.wait({fetching, loading}, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            self._stop(run)
            await _ended(fetching, loading)
            raise
        if loading.done() and loading.exception() is not None:
            run.cancelled.set()
            await asyncio.wait({fetching})
            fetching.exception()  # seen: it was stopped for the load's sake
        # the fetch failed: its answer goes out now, and the load warms the engine for the next job
        elif not loading.done():
            self._background.add(loading)
            loading.add_done_callback(self._loaded_for_nobody)
            fetching.result()
        loading.result()
        fetching.result()

    def _loaded_for_nobody(self, loading: asyncio.Future[None]) -> None:
        self._background.discard(loading)
        if not loading.cancelled() and loading.exception() is not None:
            logger.info("a load whose job had already failed did not succeed either")

    async def _fetch(self, run: Run, job: EngineJob) -> None:
        """What goes with an input is small and comes first: a wrong one ends the job before the
        large one has come. Of a task without that one input each may be large."""
        small = replace(self._transfer, max_input_bytes=self._transfer.max_result_bytes)
        limits = small if run.urls.input is not None else self._transfer
        for name, source in run.urls.extra_inputs.items():
            await self._fetch_one(run, source, job.extra_inputs[name], limits)
        if run.urls.input is not None and job.input_path is not None:
            await self._fetch_one(run, run.urls.input, job.input_path, self._transfer)

    async def _fetch_one(
        self, run: Run, source: Source, dest: Path, limits: TransferLimits
    ) -> None:
        await self._thread(
            run,
            lambda: fetch(
                source,
                dest,
                policy=self._policy,
                limits=limits,
                progress=lambda done, total: run.reporter.report("fetch", done, total, "bytes"),
                cancelled=run.cancelled,
            ),
        )

    async def _load(self, run: Run, job: EngineJob) -> None:
        run.cold_start = await self._thread(run, lambda: self._engine.start(run.task.task))
        await self._thread(run, lambda: self._engine.prepare(job))

    async def _deliver(self, run: Run, job: EngineJob) -> Delivered | None:
        target, file = run.urls.output, job.output_path
        if target is None or file is None:
            return None
        return await self._thread(
            run,
            lambda: deliver(
                target,
                file,
                policy=self._policy,
                limits=self._transfer,
                progress=lambda done, total: run.reporter.report("deliver", done, total, "bytes"),
                cancelled=run.cancelled,
            ),
        )

    async def _answer(
        self, run: Run, answer: EngineAnswer, delivered: Delivered | None
    ) -> dict[str, Any]:
        timings = Timings(
            **{f"{stage}_sec": round(seconds, 3) for stage, seconds in run.seconds.items()},
            cold_start=run.cold_start,
        )
        result = await self._thread(
            run,
            lambda: complete_answer(run.task, run.urls, answer, delivered, timings, self._settings),
        )
        target, own = run.urls.result, self._settings.bucket
        if target is not None:
            await self._thread(
                run,
                lambda: deliver_result(
                    target,
                    encoded(result),
                    policy=self._policy,
                    limits=self._transfer,
                    cancelled=run.cancelled,
                    folder=self._settings.work_root,
                    read_back=run.urls.result_get,
                ),
            )
        elif own is not None and await self._thread(run, lambda: is_large(result, self._settings)):
            return summary(result, await self._thread(run, lambda: self._store(own, result, run)))
        return await self._thread(run, lambda: fit_answer(result, self._settings))

    def _store(self, own: Bucket, result: TaskResult, run: Run) -> str:
        return store_result(
            own,
            encoded(result),
            policy=self._policy,
            limits=self._transfer,
            cancelled=run.cancelled,
            folder=self._settings.work_root,
        )

    async def _step(self, run: Run, stage: Stage, step: Awaitable[T]) -> T:
        """Adds the step's time to its stage, and names the stage in an error that does not."""
        run.stage = stage
        started = time.perf_counter()
        try:
            return await step
        except TaskError as error:
            error.stage = error.stage or stage
            raise
        finally:
            run.seconds[stage] = run.seconds.get(stage, 0.0) + time.perf_counter() - started

    async def _thread(self, run: Run, call: Callable[[], T]) -> T:
        """Runs a blocking call in a thread. A cancel stops it first, so nothing of this job runs on
        when the next starts."""
        future = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._stop(run)
            await _ended(future)
            raise

    def _stop(self, run: Run) -> None:
        run.cancelled.set()
        self._engine.kill()


async def _ended(*stopped: asyncio.Future[Any]) -> None:
    """Waits for what was told to stop. How it ended is nobody's news: the job has its answer
    already."""
    done, _ = await asyncio.wait(stopped, timeout=STOP_SECONDS)
    for one in done:
        if not one.cancelled():
            one.exception()  # seen, or asyncio would log it as forgotten


def new_job_id() -> str:
    return f"local-{uuid.uuid4().hex[:12]}"
