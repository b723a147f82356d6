"""A worker's hold on a job: claimed once, renewed while it works, given back or fenced off.

A claim is a key that only one can create. The lease beside it says until when its worker is
believed to live; an older one, by the store's clock, is up for the next claim. The result is a key
that only one can create as well: whatever goes wrong before, it is written once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

from gpu_worker_client._retry import Timing
from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol.errors import ErrorBody, ErrorCode, GpuWorkerError
from gpu_worker_client.queue.documents import Claim, LeaseDocument, ResultDocument
from gpu_worker_client.queue.keys import claim_key, lease_key, manifest_key, open_key, result_key
from gpu_worker_client.queue.states import QueueState
from gpu_worker_client.queue.store import KEY_SECONDS, InDoubt, LostRace, Store, Stored
from gpu_worker_client.queue.writes import WRITE_TRIES, create, pause, put_once

LEASE_SECONDS = 65.0
"""Age at which a lease has run out: three renewals missed, and 5 seconds for whole seconds in dates
and an answer on its way."""
RENEW_SECONDS = 20.0
MAX_TRIES = 3
FIRST_RETRY_SECONDS = 15.0
"""How long a job rests after its first failure that may pass; twice as long after the second."""
_log = logging.getLogger("gpu_worker_client")
COMMIT_TRIES = 20
"""A result is worth hours of work: a store in trouble gets some three minutes to recover."""


class LeaseLost(GpuWorkerError):
    """The job is no longer this worker's: it was cancelled, ended, or claimed by another after a
    pause. Nothing of it may be published."""


class NotTaken(Enum):
    """Why there is no lease on a job."""

    busy = "another has it, it rests after a failure, or its submit is not complete"
    ended = "it has a result"


@dataclass(frozen=True)
class Taker:
    """Who claims, and by which clock it waits."""

    store: Store
    timing: Timing
    worker: str
    """Name of this process, unlike any other's."""
    lease_seconds: float = LEASE_SECONDS
    """The same for all workers of a queue; more than three times the next."""
    renew_seconds: float = RENEW_SECONDS

    async def take(self, job_id: str, nonce: str) -> Lease | NotTaken:
        """A lease on a job that is open. One that was tried too often ends here as failed.

        Args:
            nonce: of this attempt, unlike any other's.

        Raises:
            StorageError: nobody knows; the next poll may.
        """
        if await self.store.head(result_key(job_id)) is not None:
            return await self._close(job_id)  # whoever wrote it got no further
        found = await self.store.get(lease_key(job_id))
        last = LeaseDocument.read(found.body) if found else None
        if found is not None and last is not None and found.age_seconds <= last.expires_seconds:
            return NotTaken.busy
        manifest = await self.store.get(manifest_key(job_id))
        if manifest is None:
            return NotTaken.busy  # it is being submitted, or never was
        claim = await self._claim(job_id, nonce, last)
        if claim is NotTaken.ended:
            await self._bury(job_id, nonce, last)
            return await self._close(job_id)
        if isinstance(claim, NotTaken):
            return claim
        document = LeaseDocument(
            **claim.model_dump(),
            seq=0,
            expires_seconds=self.lease_seconds,
            error=last.error if last is not None else None,
        )
        lease = Lease(self, document, manifest.body, found.etag if found else None)
        try:
            await lease.renew()
        except LeaseLost:
            return NotTaken.busy
        return lease

    async def _claim(self, job_id: str, nonce: str, last: LeaseDocument | None) -> Claim | NotTaken:
        """The next attempt, when nobody else has it; `ended`: there were enough."""
        attempt, tries = (last.attempt, last.tries) if last is not None else (0, 0)
        while tries < MAX_TRIES:
            attempt, tries = attempt + 1, tries + 1
            claim = Claim(
                job_id=job_id, attempt=attempt, nonce=nonce, worker=self.worker, tries=tries
            )
            standing = await create(
                self.store, claim_key(job_id, attempt), claim.to_bytes(), self.timing
            )
            owner = Claim.read(standing.body)
            if owner is not None and owner.nonce == nonce:
                return claim
            if standing.age_seconds <= self.lease_seconds or await self._leased(job_id, attempt):
                return NotTaken.busy
            # Its worker was lost before it wrote a lease.
            tries = tries if owner is None else owner.tries
        return NotTaken.ended

    async def _leased(self, job_id: str, attempt: int) -> bool:
        found = await self.store.get(lease_key(job_id))
        lease = LeaseDocument.read(found.body) if found else None
        return lease is not None and lease.attempt >= attempt

    async def _bury(self, job_id: str, nonce: str, last: LeaseDocument | None) -> None:
        lost = ErrorBody(
            code=ErrorCode.internal.value,
            message=f"{MAX_TRIES} workers were lost while they worked on this job",
        )
        error = last.error if last is not None and last.error is not None else lost
        await create(
            self.store,
            result_key(job_id),
            ResultDocument(
                job_id=job_id,
                status=QueueState.failed,
                completed_at=self.timing.now(),
                attempt=last.attempt if last is not None else 0,
                nonce=nonce,
                worker=self.worker,
                error=error,
            ).to_bytes(),
            self.timing,
        )

    async def _close(self, job_id: str) -> NotTaken:
        """Takes a job that has a result out of the list of open ones."""
        await self.store.delete(open_key(job_id))
        return NotTaken.ended


class Lease:
    """One attempt at one job. Methods are called one at a time."""

    def __init__(
        self, taker: Taker, document: LeaseDocument, manifest: bytes, etag: str | None
    ) -> None:
        self.manifest = manifest
        """What is to be done, as it was submitted."""
        self._taker = taker
        self._store = taker.store
        self._timing = taker.timing
        self._etag = etag
        self._sent_at: float | None = None
        """When the last renewal left, by this machine's clock."""
        self._document = document

    @property
    def job_id(self) -> str:
        return self._document.job_id

    @property
    def attempt(self) -> int:
        return self._document.attempt

    @property
    def nonce(self) -> str:
        return self._document.nonce

    async def renew_until_lost(self) -> None:
        """Renews while the work goes on. Raises LeaseLost."""
        while True:
            await self._timing.async_sleep(self._taker.renew_seconds)
            try:
                await self.renew()
            except StorageError as error:
                _log.warning("job %s: the lease was not renewed: %s", self.job_id, error)

    async def renew(self) -> None:
        """Says that the worker lives.

        Raises:
            LeaseLost: the job is another's, or has ended.
            StorageError: nobody knows; work goes on, for a result is only written after a renewal.
        """
        if await self._store.head(result_key(self.job_id)) is not None:
            raise LeaseLost(f"job {self.job_id} was ended by another")
        await self._write(self._document.model_copy(update={"seq": self._document.seq + 1}))

    async def release(self, error: ErrorBody | None = None) -> None:
        """Gives the job back. Raises as `renew`.

        Args:
            error: why the attempt failed, in a way that may pass; None: the worker shuts down,
                which does not count as a try.
        """
        tries = self._document.tries
        change = {
            "seq": self._document.seq + 1,
            "released": True,
            "error": error,
            "tries": tries if error else tries - 1,
            "expires_seconds": FIRST_RETRY_SECONDS * 2 ** (tries - 1) if error else 0.0,
        }
        await self._write(self._document.model_copy(update=change))

    async def commit(self, result: ResultDocument) -> None:
        """Publishes the result: the one point at which a job ends. The lease is renewed right
        before, each time it is tried.

        Raises:
            LeaseLost: nothing was published by this attempt.
            StorageError: the store stayed in trouble; another worker will do the work again, unless
                the result arrives after all.
        """
        body = result.model_copy(update=self._signature()).to_bytes()
        for attempt in range(COMMIT_TRIES):
            try:
                await self.renew()
                if not self._is_fresh:
                    continue  # the machine stood still while the answer came
                standing = await put_once(self._store, result_key(self.job_id), body)
            except StorageError as error:
                if not error.retryable:
                    raise
                standing = None
            except LeaseLost:
                standing = await self._store.get(result_key(self.job_id))
                if standing is None:
                    raise
            if standing is not None:
                return self._check_own(standing)
            await pause(self._timing, attempt)
        raise InDoubt(result_key(self.job_id))

    @property
    def _is_fresh(self) -> bool:
        sent_at = self._sent_at
        return (
            sent_at is not None and self._timing.clock() - sent_at < 2 * self._taker.renew_seconds
        )

    def _signature(self) -> dict[str, object]:
        own = self._document
        return {"attempt": own.attempt, "nonce": own.nonce, "worker": own.worker}

    def _check_own(self, standing: Stored) -> None:
        written = ResultDocument.read(standing.body)
        if written is None or written.nonce != self.nonce:
            raise LeaseLost(f"job {self.job_id} was ended by another")

    async def _write(self, document: LeaseDocument) -> None:
        """Writes the lease over what this attempt, or an earlier one, wrote."""
        if self._sent_at is not None:
            since = self._timing.clock() - self._sent_at
            await self._timing.async_sleep(max(0.0, KEY_SECONDS - since))
        body, key = document.to_bytes(), lease_key(self.job_id)
        for attempt in range(WRITE_TRIES):
            sent_at = self._timing.clock()
            try:
                etag = self._etag
                self._etag = await self._store.put(key, body, if_absent=etag is None, if_match=etag)
                break
            except (LostRace, InDoubt):
                if await self._is_written(key, body):
                    break
            await pause(self._timing, attempt)
        else:
            raise InDoubt(key)
        self._sent_at, self._document = sent_at, document

    async def _is_written(self, key: str, body: bytes) -> bool:
        """Whether it is there after all. Notes over which version to write it if not. Raises
        LeaseLost: it never will be."""
        found = await self._store.get(key)
        if found is None:
            if self._sent_at is not None:
                raise LeaseLost(f"the lease on job {self.job_id} was removed")
            self._etag = None
            return False
        self._etag = found.etag
        there = LeaseDocument.read(found.body)
        if there is not None and there.attempt > self.attempt:
            raise LeaseLost(f"job {self.job_id} was claimed by another")
        return found.body == body
