"""Work on files, made into a task on URLs and run: inputs uploaded, outputs presigned, outputs
downloaded, objects deleted.

Keys follow from the work: a call that was killed and is made again finds the finished output and
result in the bucket, and no worker works twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from gpu_worker_client._blocking import in_thread, in_thread_notifying
from gpu_worker_client.errors import StorageError
from gpu_worker_client.events import Event
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import AnsweredBy, TaskBase, TaskResult
from gpu_worker_client.protocol.errors import JobError
from gpu_worker_client.protocol.http import DEFAULT_EXPIRES_SECONDS, MAX_EXPIRES_SECONDS
from gpu_worker_client.status import JobStatus

if TYPE_CHECKING:  # a program without a bucket loads none of it
    from gpu_worker_client.storage import PartsUpload, Storage

SINGLE_PUT_BYTES = 4_900 * 1024**2
"""Largest output of one PUT: R2 takes 5 MiB less than 5 GiB.
https://developers.cloudflare.com/r2/platform/limits/"""
OUTPUT_GROWTH = 40
"""How many times its input's size an output may have: x4 has 16 times the pixels, and sources are
packed tighter."""
OUTPUT_PARTS = 256
"""Parts presigned for an output that may exceed one PUT. A URL has up to 800 bytes, and a task 256
KiB."""
MIN_OUTPUT_PART_BYTES = 16 * 1024**2
R = TypeVar("R", bound=TaskResult)
R_co = TypeVar("R_co", bound=TaskResult, covariant=True)
_log = logging.getLogger("gpu_worker_client")


class RemoteJob(Protocol[R_co]):
    """A job on the endpoint."""

    id: str

    async def result(self) -> R_co: ...
    async def cancel(self, timeout: float | None = None) -> JobStatus: ...


class TaskClient(Protocol):
    """What work on files, whole or split, needs of a client of one endpoint, with a bucket."""

    @property
    def storage(self) -> Storage: ...

    async def submit(
        self, task: AnsweredBy[R], *, policy: Policy | None = None
    ) -> RemoteJob[R]: ...

    async def run(
        self,
        task: AnsweredBy[R],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> R: ...

    def job(self, job_id: str, task: AnsweredBy[R]) -> RemoteJob[R]: ...


@dataclass(frozen=True)
class Transfer:
    """Bytes on their way between this machine and the bucket; an `Event` beside those of the
    job."""

    direction: Literal["upload", "download"]
    name: str
    """Name of the local file, without its folder."""
    done_bytes: int
    total_bytes: int


OnEvent = Callable[[Event | Transfer], object]
"""Called with the job's events, and with `Transfer`s before and after them."""
Notify = Callable[[Transfer], object]


async def run_files(
    client: TaskClient,
    work: FileWork[R],
    timeout: float | None,
    on_event: OnEvent | None,
    policy: Policy | None,
) -> R:
    """Uploads, runs the task, downloads, deletes. Arguments and errors as of `FileTasks`;
    `on_event` may be a coroutine function."""
    preparing = partial(prepare, work, lambda: client.storage, policy)
    prepared = await in_thread_notifying(preparing, on_event)
    try:
        task = cast("AnsweredBy[R]", prepared.task)
        result = await client.run(task, timeout, on_event, policy=policy)
        await in_thread_notifying(partial(prepared.download, result), on_event)
    except JobError:
        await in_thread(prepared.clean_up)
        raise
    await in_thread(prepared.clean_up)
    return result


@dataclass
class Prepared:
    """A task whose inputs are in the bucket."""

    task: TaskBase
    """For `Client.run`."""
    work: FileWork
    storage: Storage | None = None
    """None when the work names no path."""
    output_key: str | None = None
    parts: PartsUpload | None = None
    temporary_keys: list[str] = field(default_factory=list[str])
    """Keys of the objects that only this work needs."""

    def download(self, result: TaskResult, notify: Notify) -> None:
        """Downloads the output, when it goes to a path. Raises StorageError, OSError: it did not
        come; it stays in the bucket, and the same call made again only downloads it."""
        target = self.work.output_path
        if self.storage is None or self.output_key is None or target is None:
            return
        if self.parts is not None and result.output_parts and not result.deduplicated:
            self.storage.complete_parts(self.parts, result.output_parts)
        self.storage.download(self.output_key, target, notifying(notify, "download", target))

    def clean_up(self) -> None:
        """Deletes what only this work needed. A failure is logged: the lifecycle rule of the prefix
        sees to the rest."""
        if self.storage is None:
            return
        try:
            if self.parts is not None:
                self.storage.abort_parts(self.parts)
            self.storage.delete(*self.temporary_keys)
        except StorageError as error:
            _log.warning("objects of a finished job were left in the bucket: %s", error)


def prepare(
    work: FileWork,
    storage: Callable[[], Storage],
    policy: Policy | None,
    notify: Notify,
    *,
    in_parts: bool = True,
) -> Prepared:
    """Uploads the inputs that are paths and presigns what the worker needs.

    Args:
        work: checked here, before anything is sent.
        storage: gives the bucket; called only when a path is named.
        policy: of the job: the URLs live as long as the job may.
        notify: called with every `Transfer`.
        in_parts: presign parts for an output that may exceed one PUT.

    Raises:
        InvalidTask, ConfigError, StorageError, OSError: as their names say.
    """
    checked_policy(policy)
    task = work.check()
    if not work.needs_bucket:
        return Prepared(task, work)
    bucket = storage()
    keys = {
        name: bucket.upload(path, on_progress=notifying(notify, "upload", path))
        for name, path in work.paths.items()
    }
    # One name for one piece of work on one machine: the same call has it again. Random when an
    # input is a URL, behind which there may be something else the next time.
    output = work.output_path.absolute() if work.output_path else work.output
    identity = [work.task, work.params, sorted(keys.items()), output, platform.node()]
    known = json.dumps(identity, sort_keys=True, default=str).encode()
    name = uuid.uuid4().hex if len(keys) < len(work.files) else hashlib.sha256(known).hexdigest()
    result_key = bucket.key("out", name, "result.json")
    prepared = Prepared(task, work, bucket, temporary_keys=[result_key])
    if not bucket.keep_inputs:
        prepared.temporary_keys += keys.values()
    lifetime = (policy or Policy.for_task(task)).ttl_seconds or DEFAULT_EXPIRES_SECONDS
    seconds = min(MAX_EXPIRES_SECONDS, round(lifetime))
    fields = _presigned_output(prepared, bucket, name, seconds, in_parts) | {
        "idempotency_key": name,
        "result_url": bucket.presign_put(result_key, seconds),
        "result_get_url": bucket.presign_get(result_key, seconds),
    }
    if prepared.output_key is not None and bucket.head(prepared.output_key) is None:
        # A result whose output is gone must not be taken for a finished job.
        bucket.delete(result_key)
    urls = {path: bucket.presign_get(key, seconds) for path, key in keys.items()}
    prepared.task = work.as_task(urls, fields)
    return prepared


def _presigned_output(
    prepared: Prepared, bucket: Storage, name: str, seconds: int, in_parts: bool
) -> dict[str, Any]:
    """The task's fields that say where the output goes; notes its key."""
    work = prepared.work
    if work.output is None:
        return {}
    if (target := work.output_path) is None:
        return {"output_url": str(work.output)}
    prepared.output_key = key = bucket.key("out", name, f"output{target.suffix.lower()}")
    prepared.temporary_keys.append(key)
    likely_bytes = OUTPUT_GROWTH * work.input_bytes
    if likely_bytes <= SINGLE_PUT_BYTES or not in_parts:
        return {"output_url": bucket.presign_put(key, seconds)}
    part_bytes = max(MIN_OUTPUT_PART_BYTES, -(-likely_bytes // OUTPUT_PARTS))
    prepared.parts = bucket.presign_parts(key, part_bytes, OUTPUT_PARTS, seconds)
    return {"output_multipart": prepared.parts.multipart.model_dump(exclude_unset=True)}


def notifying(
    notify: Notify, direction: Literal["upload", "download"], path: Path
) -> Callable[[int, int], object]:
    """For `on_progress` of the storage: makes each of its counts a `Transfer`."""
    return lambda done, total: notify(Transfer(direction, path.name, done, total))
