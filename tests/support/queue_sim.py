"""Workers and a submitter on the bucket of `bucket_sim`, all of them the real code, until every
job has ended; and what must hold then."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from gpu_worker.queue.pull import Puller, failed
from gpu_worker_client import ErrorCode, StorageError
from gpu_worker_client.protocol.errors import ErrorBody
from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.documents import Claim, Manifest, ResultDocument
from gpu_worker_client.queue.finder import Finder
from gpu_worker_client.queue.keys import new_job_id, output_key, result_key
from gpu_worker_client.queue.lease import MAX_TRIES, Lease, Taker
from gpu_worker_client.queue.states import QueueState, WrongState
from support.bucket_sim import Bucket, Crashed, Faults, Machine, run_virtually

LONGEST_HOURS = 200.0
"""Of virtual time, until which every job has ended."""


@dataclass
class Outcome:
    """What one simulation came to."""

    seed: int
    submitted: list[str]
    hours: float
    bucket: Bucket
    lives: int
    """Processes, counting each start."""
    states: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        claims = len(self.bucket.keys("claims/"))
        return (
            f"seed {self.seed}: {len(self.submitted)} jobs, {dict(self.states)}, {claims} claims,"
            f" {self.lives} processes, {self.hours:.1f} h; problems: {self.problems or 'none'}"
        )


class Simulation:
    """One run. The same arguments lead to the same run."""

    def __init__(self, seed: int, job_count: int, workers: int, faults: Faults | None = None):
        self.chance = random.Random(seed)
        self.faults = faults or Faults.drawn(self.chance)
        self.seed, self.job_count, self.workers = seed, job_count, workers
        self.bucket = Bucket()
        self.submitted: list[str] = []
        self.lives = 0

    def run(self) -> Outcome:
        return run_virtually(self._run())

    async def _run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        workers = [asyncio.create_task(self._worker(n)) for n in range(self.workers)]
        submitter = asyncio.create_task(self._submit_all())
        while not self._all_ended() and loop.time() < LONGEST_HOURS * 3600:
            await asyncio.sleep(60.0)
        for task in (*workers, submitter):
            task.cancel()
        await asyncio.gather(*workers, submitter, return_exceptions=True)
        outcome = Outcome(
            self.seed, self.submitted, loop.time() / 3600, self.bucket, lives=self.lives
        )
        judge(outcome)
        return outcome

    def _all_ended(self) -> bool:
        ended = len(self.bucket.keys("results/"))
        return len(self.submitted) == self.job_count and ended >= self.job_count

    def _machine(self, name: str) -> Machine:
        return Machine(name, self.bucket, self.chance, self.faults)

    async def _submit_all(self) -> None:
        machine = Machine(
            "submitter", self.bucket, self.chance, Faults(request_lost=0.1, answer_lost=0.1)
        )
        timing = machine.timing()
        for number in range(self.job_count):
            job_id = new_job_id(timing.now(), self.chance.random)
            while True:
                with suppress(StorageError):
                    await jobs.submit(machine, Manifest(job_id=job_id), timing)
                    break
            self.submitted.append(job_id)
            if number % 20 == 7:
                await self._cancel(machine, self.chance.choice(self.submitted))

    async def _cancel(self, machine: Machine, job_id: str) -> None:
        with suppress(StorageError, WrongState):
            await jobs.cancel(machine, job_id, f"cancel-{job_id}", machine.timing())

    async def _worker(self, number: int) -> None:
        """A host that starts a new process whenever one is gone."""
        while True:
            self.lives += 1
            machine = self._machine(f"w{number}.{self.lives}")
            taker = Taker(machine, machine.timing(), machine.name)
            puller = Puller(taker, Finder(taker), partial(self._perform, machine))
            running = asyncio.create_task(puller.run())
            if self.chance.random() < 0.2:  # SIGTERM one day
                asyncio.get_running_loop().call_later(self.chance.uniform(0, 3e4), puller.stop.set)
            try:
                await running
            except Crashed:
                machine.is_gone = True
            finally:
                running.cancel()
            await asyncio.sleep(self.chance.uniform(5.0, 60.0))

    async def _perform(self, machine: Machine, lease: Lease, _: Manifest) -> ResultDocument:
        await machine.timing().async_sleep(self.chance.uniform(1.0, 100.0))
        fate = self.chance.random()
        if fate < 0.04:
            code = ErrorCode.storage_unavailable if fate < 0.03 else ErrorCode.corrupt_media
            error = ErrorBody(code=code.value, message="by chance", retryable=code.retryable)
            return failed(lease.job_id, error)
        key = output_key(lease.job_id, lease.attempt, lease.nonce, "out.mp4")
        with suppress(StorageError):
            await machine.put(key, lease.nonce.encode())
            return ResultDocument(
                job_id=lease.job_id, output_key=key, result={"made_by": lease.nonce}
            )
        error = ErrorBody(code=ErrorCode.upload_failed.value, message="late", retryable=True)
        return failed(lease.job_id, error)


def judge(outcome: Outcome) -> None:
    """Notes what a queue must never do, and counts how the jobs ended."""
    bucket, problems = outcome.bucket, outcome.problems
    results = Counter(write.key for write in bucket.writes if write.key.startswith("results/"))
    for job_id in outcome.submitted:
        key = result_key(job_id)
        if results[key] != 1:
            problems.append(f"{job_id} was published {results[key]} times")
            continue
        result = ResultDocument.read(bucket.objects[key][2])
        assert result is not None
        outcome.states[result.status.value] += 1
        if result.status is QueueState.completed:
            output = bucket.objects.get(result.output_key or "")
            if output is None or output[2] != result.nonce.encode():
                problems.append(f"{job_id} has an output that is not its own, whole one")
    claims = [write for write in bucket.writes if write.key.startswith("claims/")]
    if len(claims) != len({write.key for write in claims}):
        problems.append("a claim was written twice")
    for write in claims:
        claim = Claim.read(write.body)
        if claim is None or not 0 < claim.tries <= MAX_TRIES:
            problems.append(f"{write.key} was one try too many")
    problems += [f"{who} was sent after the lease was lost" for who in bucket.unfenced]
