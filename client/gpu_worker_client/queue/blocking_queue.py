"""The blocking face of a queue: `Queue` submits jobs to a bucket and hands out `QueuedJob`s. What
the calls do is written in `async_queue`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gpu_worker_client._portal import blocking, call, iterating, on_callers_thread, sleeper
from gpu_worker_client._retry import Timing
from gpu_worker_client.queue.async_queue import (
    POLL_SECONDS,
    AsyncQueue,
    AsyncQueuedJob,
    Task,
    VideoId,
)
from gpu_worker_client.storage import Storage


class QueuedJob:
    """One job of a queue. Made by `Queue.submit` and `Queue.job`. A handle: it holds an id, so it
    can be dropped and made again with `Queue.job(id)`."""

    def __init__(self, job: AsyncQueuedJob) -> None:
        self.id = job.id
        self.core = job
        job.handle = self

    def __repr__(self) -> str:
        return repr(self.core).removeprefix("Async")

    status = blocking(AsyncQueuedJob.status)
    events = iterating(AsyncQueuedJob.events)
    wait = blocking(AsyncQueuedJob.wait)
    result = blocking(AsyncQueuedJob.result)
    cancel = blocking(AsyncQueuedJob.cancel)
    download = blocking(AsyncQueuedJob.download)


class Queue:
    """One queue. Arguments and errors as of `AsyncQueue`."""

    def __init__(
        self,
        bucket: Storage | str | None = None,
        *,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        poll_seconds: float = POLL_SECONDS,
        timing: Timing | None = None,
    ) -> None:
        timing = timing or Timing()
        timing = replace(timing, async_sleep=sleeper(timing.sleep, timing.async_sleep))
        self.core = AsyncQueue(
            bucket, prefix=prefix, env=env, poll_seconds=poll_seconds, timing=timing
        )
        """Carries the calls out, for what calls more than one thing at once."""

    def __repr__(self) -> str:
        return repr(self.core).removeprefix("Async")

    def submit(
        self,
        task: Task,
        *,
        video_id: VideoId | None = None,
        job_id: str | None = None,
        on_event: Callable[[Any], object] | None = None,
    ) -> QueuedJob:
        submit = partial(self.core.submit, video_id=video_id, job_id=job_id)
        return QueuedJob(call(partial(submit, task, on_event=on_callers_thread(on_event))))

    submit.__doc__ = AsyncQueue.submit.__doc__

    def job(self, job_id: str) -> QueuedJob:
        return QueuedJob(self.core.job(job_id))

    job.__doc__ = AsyncQueue.job.__doc__

    def retry(self, job_id: str) -> QueuedJob:
        return QueuedJob(call(self.core.retry, job_id))

    retry.__doc__ = AsyncQueue.retry.__doc__

    view = blocking(AsyncQueue.view)
    jobs = iterating(AsyncQueue.jobs)
    import_job = blocking(AsyncQueue.import_job)
    import_all = iterating(AsyncQueue.import_all)

    def purge(self, *job_ids: str) -> int:
        return call(self.core.purge, *job_ids)

    purge.__doc__ = AsyncQueue.purge.__doc__
