"""The files of one job as its URLs: fetched, delivered, answered, within the worker's limits. A
path, where the policy allows one, is copied: the engine, which outlives the job, never reads the
caller's folders."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from gpu_worker import weights_pull
from gpu_worker.answer import answer_limits
from gpu_worker.bucket import store_result
from gpu_worker.earlier_result import earlier_answer
from gpu_worker.settings import Settings
from gpu_worker.transfer.transfers import Transfers
from gpu_worker.transfer.urls import TaskUrls
from gpu_worker_client.protocol import OutputPart, TaskBase
from gpu_worker_processors.atomic_file import disk_errors
from gpu_worker_processors.engine.host import EngineJob
from gpu_worker_processors.results import JobResult

COPY_BYTES = 1 << 20


class UrlFiles:
    """See `runner.JobFiles`."""

    def __init__(
        self, task: TaskBase, urls: TaskUrls, transfers: Transfers, settings: Settings
    ) -> None:
        self._task = task
        self._urls = urls
        self._transfers = transfers
        self._settings = settings
        self.output_name = urls.output.name if urls.output else None
        self.output_suffix = urls.output.suffix if urls.output else ""

    def earlier_answer(self) -> dict[str, Any] | None:
        if self._urls.result_get is None:
            return None
        payload = self._transfers.read_result(self._urls.result_get)
        if payload is None:
            return None
        task, stop = self._task, self._transfers.cancelled
        return earlier_answer(payload, task.task, task.idempotency_key, self._settings, stop)

    def fetch_weights(self, names: tuple[str, ...]) -> None:
        if names:
            weights_pull.ensure(names, self._settings, self._transfers.cancelled)

    def fetch(self, job: EngineJob) -> None:
        """Every input, while the store is asked whether it would take the outputs."""
        targets = [target for target in (self._urls.output, self._urls.result) if target]
        with ThreadPoolExecutor(max(len(targets), 1), "check-upload") as pool:
            checks = [pool.submit(self._transfers.check_upload, target) for target in targets]
            self._fetch_inputs(job)
        for check in checks:
            check.result()

    def _fetch_inputs(self, job: EngineJob) -> None:
        """What goes with an input is small and comes first: a wrong one ends the job before the
        large one has come. Of a task without that one input each may be large."""
        source, limits = self._urls.input, self._transfers.limits
        small = replace(limits, max_input_bytes=limits.max_result_bytes)
        for name, extra in self._urls.extra_inputs.items():
            self._transfers.fetch(extra, job.extra_inputs[name], small if source else limits)
        if source is not None and job.input_path is not None:
            self._transfers.fetch(source, job.input_path)

    @contextmanager
    def delivered(self, job: EngineJob) -> Generator[list[OutputPart] | None]:
        """A local output of a job that fails or is stopped after all is taken away again. No URL
        of a task allows that: what a PUT has stored stays."""
        if self._urls.output is None or job.output_path is None:
            yield None
            return
        parts = self._transfers.deliver(self._urls.output, job.output_path).parts
        try:
            yield parts
        except BaseException:
            if isinstance(self._urls.output.location, Path):
                self._urls.output.location.unlink(missing_ok=True)
            raise

    def answer(self, result: JobResult, stop: threading.Event) -> dict[str, Any]:
        urls, settings = self._urls, self._settings
        result = result.plus(
            output_url=str(urls.output) if urls.output else None,
            result_url=str(urls.result) if urls.result else None,
        )
        limits = answer_limits(settings)
        if urls.result is None and settings.bucket is None:
            return result.write(None, limits, stop).answer
        with disk_errors():
            whole: BinaryIO = tempfile.TemporaryFile(dir=settings.work_root)  # noqa: SIM115 - closed by the block below
        with whole:
            answer, is_large = result.write(whole, limits, stop)
            pieces = iter(lambda: whole.read(COPY_BYTES), b"")
            if urls.result is not None:
                self._transfers.deliver_result(
                    urls.result, pieces, settings.work_root, urls.result_get
                )
            elif settings.bucket is not None and is_large:
                answer["result_url"] = store_result(
                    settings.bucket, pieces, self._transfers, settings.work_root
                )
        return answer

    def halt(self) -> None:
        self._transfers.cancelled.set()
