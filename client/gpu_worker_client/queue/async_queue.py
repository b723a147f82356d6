"""A queue in a bucket, from its submitter's side, for programs with an event loop: every call,
written once. `blocking_queue.Queue` is its blocking face.

    queue = AsyncQueue("basketball-analyzer")
    job = await queue.submit("game.mp4", video_id=1)
    print(await job.status())
    async for done in queue.import_all("results.sqlite"):
        print(done)
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gpu_worker_client._blocking import in_thread, in_thread_notifying
from gpu_worker_client._retry import Timing
from gpu_worker_client.errors import ConfigError, NotFoundError, StorageError, WaitTimeout
from gpu_worker_client.events import Event, Watcher
from gpu_worker_client.files.transfer import OnEvent, notifying
from gpu_worker_client.protocol import OutputTask, State, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import ResultUnreadable
from gpu_worker_client.protocol.parse import is_web_url, typed_task
from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.database import Database
from gpu_worker_client.queue.documents import Manifest
from gpu_worker_client.queue.imports import Imported, import_file
from gpu_worker_client.queue.jobs import JobView
from gpu_worker_client.queue.keys import (
    input_key,
    new_job_id,
    prefixes_of,
    result_key,
    video_key,
)
from gpu_worker_client.queue.states import QueueState, WrongState, check_transition
from gpu_worker_client.queue.writes import listed
from gpu_worker_client.status import JobStatus, failure, read_progress, read_result
from gpu_worker_client.storage import Storage
from gpu_worker_client.storage.bucket import MAX_READ_BYTES

POLL_SECONDS = 10.0
"""Between two polls of a job: each costs five reads, 1,800 an hour."""
VideoId = int | str
Task = TaskBase | Mapping[str, Any] | bytes | str | os.PathLike[str]


class AsyncQueue:
    """One queue.

    Args:
        bucket: its name, or a storage. By a name the key pair comes from the environment; None
            takes the name from there, too: see `Storage.from_env`.
        prefix: of all keys of the queue, for a bucket that holds other things as well;
            the worker needs the same one. A storage has its own.
        poll_seconds: between two polls of a job that is followed.
        timing: clock, sleep and random numbers; for tests.

    Raises:
        ConfigError: a variable is missing or cannot work.
    """

    def __init__(
        self,
        bucket: Storage | str | None = None,
        *,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        poll_seconds: float = POLL_SECONDS,
        timing: Timing | None = None,
    ) -> None:
        if not isinstance(bucket, Storage):
            named = {} if bucket is None else {"R2_BUCKET_NAME": bucket}
            bucket = Storage.from_env(
                {**(os.environ if env is None else env), **named}, prefix=prefix
            )
        self.storage = bucket
        self.store = BucketStore(bucket)
        self.poll_seconds = poll_seconds
        self.timing = timing or Timing()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.storage.bucket!r})"

    async def submit(
        self,
        task: Task,
        *,
        video_id: VideoId | None = None,
        job_id: str | None = None,
        on_event: OnEvent | None = None,
    ) -> AsyncQueuedJob:
        """Uploads the task's files and puts the job into the queue.

        Args:
            task: a path, which `track` reads with its defaults; or any task, typed, as a dict or as
                JSON, with paths of this machine where it has URLs. `output_url` is a name: the file
                stays in the bucket, `AsyncQueuedJob.download` fetches it.
            video_id: your own number or name of the video; the results are stored under it.
            job_id: letters, digits, `-` and `_`; default: a new one, in the order of time.
            on_event: called with `Transfer`s.

        Raises:
            InvalidTask: the task does not fit; nothing was sent.
            ConfigError: a file is named by a web URL, or another job has this id.
            OSError: a file cannot be read.
            StorageError: the bucket failed; with the same `job_id` the same call goes on.
        """
        typed = _typed(task)
        now = self.timing.now()
        name = job_id or new_job_id(now, self.timing.random)
        paths = {field: _path(field, url) for field, url in typed.reads().items()}
        keys = {field: _key(name, field, path) for field, path in paths.items()}
        output = typed.written_object if isinstance(typed, OutputTask) else None
        params = typed.to_wire().get("params", {})
        try:
            manifest = Manifest(
                job_id=name,
                video_id=video_id,
                created_at=now,
                task=typed.task,
                parameters=params,
                files=keys,
                output=None if output is None else _path("output_url", output).name,
            )
        except ValueError:
            raise ConfigError("job_id must be 1 to 64 letters, digits, '-' and '_'") from None
        for field, path in paths.items():
            await in_thread_notifying(partial(self._upload, path, keys[field]), on_event)
        await self._enqueue(manifest)
        return AsyncQueuedJob(self, name)

    def job(self, job_id: str) -> AsyncQueuedJob:
        """A handle on a job of this queue. Sends nothing."""
        return AsyncQueuedJob(self, job_id)

    async def view(self, job_id: str) -> JobView:
        """Where one job is. Raises NotFoundError: there is no such job. StorageError."""
        view = await jobs.view(self.store, job_id)
        if view is None:
            raise NotFoundError(f"there is no job {job_id} in this queue", status=404)
        return view

    async def jobs(self) -> AsyncGenerator[JobView, None]:
        """Where every job is, oldest first. Raises StorageError."""
        async with aclosing(jobs.views(self.store)) as views:
            async for view in views:
                yield view

    async def import_job(self, job_id: str, database: str | os.PathLike[str]) -> Imported:
        """Writes a job's results into an SQLite file, and then marks the job as imported; once
        more, it writes nothing. The schema is in docs/queue.md.

        Raises:
            NotFoundError: there is no such job.
            WrongState: it has no results, or not yet.
            ResultUnreadable: the results are none; nothing was written.
            ConfigError: the database cannot be used.
            StorageError, OSError: the results did not come.
        """
        view = await self.view(job_id)
        if view.state is not QueueState.imported:
            check_transition(job_id, view.state, QueueState.imported)
        done = await in_thread(partial(self._import, view.manifest, Path(database)))
        await jobs.mark_imported(self.store, job_id, self.timing)
        return done

    async def import_all(
        self, database: str | os.PathLike[str]
    ) -> AsyncGenerator[Imported | ResultUnreadable, None]:
        """`import_job` of every job that is completed. One whose results cannot be read gives its
        error, and the next one follows."""
        async with aclosing(self.jobs()) as views:
            async for view in views:
                if view.state is QueueState.completed:
                    try:
                        yield await self.import_job(view.job_id, database)
                    except ResultUnreadable as error:
                        yield error

    async def retry(self, job_id: str) -> AsyncQueuedJob:
        """Puts a job that failed or was cancelled into the queue once more, under a new id and on
        the files that are in the bucket already. Raises NotFoundError, WrongState, StorageError."""
        view = await self.view(job_id)
        if view.state not in (QueueState.failed, QueueState.cancelled):
            raise WrongState(job_id, view.state, QueueState.pending)
        now = self.timing.now()
        new_id = new_job_id(now, self.timing.random)
        change = {"job_id": new_id, "created_at": now, "retry_of": job_id}
        manifest = view.manifest.model_copy(update=change | {"files": view.manifest.inputs})
        await self._enqueue(manifest)
        return AsyncQueuedJob(self, new_id)

    async def purge(self, *job_ids: str) -> int:
        """Deletes everything of jobs that have ended, their videos included, and says how many
        objects that were.

        Raises:
            NotFoundError: there is no such job. Nothing was deleted, here and in the next two.
            WrongState: one has not ended; cancel it first.
            ConfigError: a retry of one still needs its files.
            StorageError: some are left; purge them again.
        """
        views = {view.job_id: view async for view in self.jobs()}
        files: set[str] = set()
        for job_id in job_ids:
            view = views.get(job_id) or await self.view(job_id)
            if not view.state.is_final:
                raise WrongState(job_id, view.state, QueueState.cancelled)
            files |= set(view.manifest.inputs.values())
        for one in views.values():
            if not one.state.is_final and files & set(one.manifest.inputs.values()):
                raise ConfigError(f"job {one.job_id} still needs files of these jobs")
        deleted = 0
        for prefix in (prefix for job_id in job_ids for prefix in prefixes_of(job_id)):
            async for item in listed(self.store, prefix):
                await self.store.delete(item.key)
                deleted += 1
        return deleted

    async def _enqueue(self, manifest: Manifest) -> None:
        try:
            await jobs.submit(self.store, manifest, self.timing)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def _upload(self, path: Path, key: str, notify: Any) -> None:
        self.storage.upload(path, self.storage.key(key), notifying(notify, "upload", path))

    def _import(self, manifest: Manifest, database: Path) -> Imported:
        job_id = manifest.job_id
        video_id = job_id if manifest.video_id is None else manifest.video_id
        with tempfile.TemporaryDirectory() as folder, Database(database) as rows:
            key = self.storage.key(result_key(job_id))
            info = self.storage.head(key)
            if info is not None and info.size_bytes > MAX_READ_BYTES:
                problem = f"the results of job {job_id} have more than {MAX_READ_BYTES} bytes"
                raise StorageError(problem, code="too_large", retryable=False)
            path = self.storage.download(key, Path(folder) / "results.json")
            with path.open("rb") as file:
                return import_file(rows, file, job_id, video_id)


class AsyncQueuedJob:
    """One job of a queue, with the calls of `AsyncJob`. `queue.job(id)` makes a handle again."""

    def __init__(self, queue: AsyncQueue, job_id: str) -> None:
        self.id = job_id
        self._queue = queue
        self.handle: Any = self
        """What an error of this job carries: this job, or its blocking face."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def status(self) -> JobStatus:
        """Polls once. Raises NotFoundError: there is no such job. StorageError."""
        view = await self._queue.view(self.id)
        progress = view.status.progress if view.status and not view.state.is_final else None
        error = None
        if view.state is QueueState.failed:
            result = await jobs.read_result(self._queue.store, self.id)
            error = result.error.to_wire() if result and result.error else None
        return JobStatus(
            self.id,
            view.state.state,
            progress=read_progress(progress),
            error=error,
            worker_id=view.lease.worker if view.lease else None,
        )

    async def events(self, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Follows the job until its `Finished` event. Arguments and errors as of `wait`."""
        watcher, timing = Watcher(), self._queue.timing
        deadline = timing.deadline(timeout)
        while True:
            status = await self.status()
            for event in watcher.see(status):
                yield event
            if status.state.is_final:
                return
            pause = self._queue.poll_seconds * (0.75 + 0.5 * timing.random())
            remaining = pause if deadline is None else deadline - timing.clock()
            if remaining <= 0:
                raise WaitTimeout(
                    f"job {self.id} did not end in time; it was left running", job=self.handle
                )
            await timing.async_sleep(min(pause, remaining))

    async def wait(self, timeout: float | None = None) -> JobStatus:
        """Waits for the job to end, however it ends.

        Args:
            timeout: seconds of wall time; None waits for ever.

        Raises:
            WaitTimeout: the time is over; the job goes on.
            NotFoundError, StorageError: as `status`.
        """
        async with aclosing(self.events(timeout)) as events:
            async for _ in events:
                pass
        return await self.status()

    async def result(self, timeout: float | None = None) -> TaskResult:
        """Waits, then gives the typed result.

        Raises:
            JobError: the job ended without one; its class says why.
            WaitTimeout, NotFoundError, StorageError: as `wait`.
        """
        status = await self.wait(timeout)
        if status.state not in (State.completed, State.imported):
            raise failure(status, self.handle)
        found = await jobs.read_result(self._queue.store, self.id)
        return read_result(
            JobStatus(self.id, State.completed), found.result if found else None, job=self.handle
        )

    async def cancel(self) -> JobStatus:
        """Ends the job, also while it is worked on: its worker sees that within one renewal of its
        lease, 20 seconds. One that has ended stays as it ended. Raises as `status`."""
        await self._queue.view(self.id)
        nonce = f"cancelled.{uuid.uuid4().hex}"
        with suppress(WrongState):  # it ended before
            await jobs.cancel(self._queue.store, self.id, nonce, self._queue.timing)
        return await self.status()

    async def download(self, path: str | os.PathLike[str], on_event: OnEvent | None = None) -> Path:
        """Fetches the file that the job has made. Raises NotFoundError: it made none. StorageError,
        OSError."""
        found = await jobs.read_result(self._queue.store, self.id)
        if found is None or found.output_key is None:
            raise NotFoundError(f"job {self.id} has made no file", status=404)
        storage, target = self._queue.storage, Path(path)
        key = storage.key(found.output_key)
        return await in_thread_notifying(
            lambda notify: storage.download(key, target, notifying(notify, "download", target)),
            on_event,
        )


def _typed(task: Task) -> TaskBase:
    if isinstance(task, str | os.PathLike):
        return typed_task({"task": "track", "input_url": os.fspath(task)})
    return typed_task(task)


def _path(field: str, url: str) -> Path:
    """The local path that stands for a URL."""
    if is_web_url(url):
        raise ConfigError(f"{field}: a queue takes files of this machine; give a path")
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else Path(url)


def _key(job_id: str, field: str, path: Path) -> str:
    """Where an input goes. `field` is its path in the task: `input_url`, `inputs.NAME`."""
    if field == "input_url":
        return video_key(job_id, path.suffix.lower())
    head, _, name = field.partition(".")
    return input_key(job_id, name or head.removesuffix("_url") + path.suffix.lower())
