"""A job from its submitter's side: submitted, inspected, cancelled, marked as imported. What a job
is follows from which objects are there; nothing is written twice to say so."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

from gpu_worker_client._retry import Timing
from gpu_worker_client.queue.documents import (
    D,
    Document,
    LeaseDocument,
    Manifest,
    ResultDocument,
    StatusDocument,
)
from gpu_worker_client.queue.keys import (
    IMPORTED,
    JOBS,
    RESULTS,
    WAKE,
    imported_key,
    job_id_of,
    lease_key,
    manifest_key,
    open_key,
    result_key,
    status_key,
)
from gpu_worker_client.queue.states import QueueState, WrongState, check_transition
from gpu_worker_client.queue.store import InDoubt, Store
from gpu_worker_client.queue.writes import create, listed, replace


@dataclass(frozen=True)
class JobView:
    """Where a job is, as one view of the bucket saw it."""

    manifest: Manifest
    state: QueueState
    status: StatusDocument | None = None
    """Progress; of the present attempt while processing."""
    lease: LeaseDocument | None = None
    """Of the last attempt; None when there was none, or the job has ended."""

    @property
    def job_id(self) -> str:
        return self.manifest.job_id


async def submit(store: Store, manifest: Manifest, timing: Timing) -> None:
    """Puts a job into the queue; its inputs are there already. Made again with the same manifest
    it changes nothing.

    Raises:
        StorageError: it may or may not be in the queue; submit it again.
        ValueError: another job has this id.
    """
    job_id, body = manifest.job_id, manifest.to_bytes()
    # First the list: an entry without a manifest is no job, but one without an entry is never seen.
    await replace(store, open_key(job_id), _named(job_id), timing)
    standing = await create(store, manifest_key(job_id), body, timing)
    if standing.body != body:
        raise ValueError(f"there is another job {job_id}; give this one an id of its own")
    with suppress(InDoubt):  # workers list now and then all the same
        await replace(store, WAKE, job_id.encode(), timing)


async def view(store: Store, job_id: str) -> JobView | None:
    """Where the job is, None when there is no such job. Raises StorageError."""
    manifest = await _read(store, manifest_key(job_id), Manifest)
    if manifest is None:
        return None
    is_imported = await store.head(imported_key(job_id)) is not None
    has_result = is_imported or await store.head(result_key(job_id)) is not None
    return await _view(store, manifest, has_result, is_imported)


async def views(store: Store) -> AsyncGenerator[JobView, None]:
    """Every job, oldest first. Raises StorageError."""
    ended = {job_id_of(item.key) async for item in listed(store, RESULTS)}
    imported = {job_id_of(item.key) async for item in listed(store, IMPORTED)}
    async for item in listed(store, JOBS):
        manifest = await _read(store, item.key, Manifest)
        if manifest is not None:
            job_id = manifest.job_id
            yield await _view(store, manifest, job_id in ended, job_id in imported)


async def _view(store: Store, manifest: Manifest, has_result: bool, is_imported: bool) -> JobView:
    job_id = manifest.job_id
    status = await _read(store, status_key(job_id), StatusDocument)
    if is_imported:
        return JobView(manifest, QueueState.imported, status)
    if has_result:
        return JobView(manifest, await _final_state(store, job_id, status), status)
    found = await store.get(lease_key(job_id))
    lease = LeaseDocument.read(found.body) if found else None
    is_live = (
        lease is not None
        and found is not None
        and (found.age_seconds <= lease.expires_seconds and not lease.released)
    )
    state = QueueState.processing if is_live else QueueState.pending
    if status is not None and lease is not None and status.attempt != lease.attempt:
        status = None
    return JobView(manifest, state, status, lease)


async def _final_state(store: Store, job_id: str, status: StatusDocument | None) -> QueueState:
    """The status object says it in a few bytes, unless its writer stopped before."""
    if status is not None and status.final is not None:
        return status.final
    result = await read_result(store, job_id)
    return QueueState.failed if result is None else QueueState(result.status)


async def read_result(store: Store, job_id: str) -> ResultDocument | None:
    """What became of the job; None when it has not ended, or what is there is no result."""
    return await _read(store, result_key(job_id), ResultDocument)


async def cancel(store: Store, job_id: str, nonce: str, timing: Timing) -> JobView:
    """Ends a job that has no result; its worker sees that within one renewal.

    Args:
        nonce: of this call, unlike any other's.

    Raises:
        WrongState: it ended before.
        KeyError: there is no such job.
        StorageError: nobody knows; cancel it again.
    """
    before = await view(store, job_id)
    if before is None:
        raise KeyError(job_id)
    if before.state is QueueState.cancelled:
        return before
    check_transition(job_id, before.state, QueueState.cancelled)
    result = ResultDocument(
        job_id=job_id,
        video_id=before.manifest.video_id,
        status=QueueState.cancelled,
        completed_at=timing.now(),
        nonce=nonce,
    )
    standing = await create(store, result_key(job_id), result.to_bytes(), timing)
    ended = ResultDocument.read(standing.body)
    if ended is None or ended.status is not QueueState.cancelled:
        now = QueueState.failed if ended is None else QueueState(ended.status)
        raise WrongState(job_id, now, QueueState.cancelled)
    await store.delete(open_key(job_id))
    return JobView(before.manifest, QueueState.cancelled, before.status)


async def mark_imported(store: Store, job_id: str, timing: Timing) -> None:
    """Says that the result is in a database. Made again it changes nothing. Raises as `cancel`."""
    before = await view(store, job_id)
    if before is None:
        raise KeyError(job_id)
    if before.state is not QueueState.imported:
        check_transition(job_id, before.state, QueueState.imported)
        await create(store, imported_key(job_id), _named(job_id), timing)


def _named(job_id: str) -> bytes:
    return Document(job_id=job_id).to_bytes()


async def _read(store: Store, key: str, kind: type[D]) -> D | None:
    found = await store.get(key)
    return kind.read(found.body) if found else None
