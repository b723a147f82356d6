"""Any order of what machines may do to a job, with any loss of requests between them: hypothesis
searches for one that breaks a promise, and prints the shortest."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.bucket_sim import Bucket, Machine, VirtualLoop

from gpu_worker_client import StorageError
from gpu_worker_client.protocol.errors import ErrorBody
from gpu_worker_client.queue import jobs
from gpu_worker_client.queue.documents import Claim, Manifest, ResultDocument
from gpu_worker_client.queue.keys import imported_key, result_key
from gpu_worker_client.queue.lease import LEASE_SECONDS, MAX_TRIES, Lease, LeaseLost, Taker
from gpu_worker_client.queue.states import TRANSITIONS, QueueState, WrongState

T = TypeVar("T")
ID = "job"
WORKERS = st.integers(0, 2)
FATES = st.sampled_from(["", "", "request_lost", "answer_lost", "late", "twice"])
"""What befalls the next write of a machine."""


class QueueMachine(RuleBasedStateMachine):
    """One job, three workers, one submitter."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.bucket = Bucket()
        self.leases: dict[int, Lease] = {}
        self.takes = 0
        self.state: QueueState | None = None
        self.machines = [Machine(f"w{n}", self.bucket, random.Random(n)) for n in range(3)]
        self.home = Machine("home", self.bucket, random.Random(9))
        self.call(jobs.submit(self.home, Manifest(job_id=ID), self.home.timing()))

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        with suppress(StorageError, LeaseLost, WrongState):
            return self.loop.run_until_complete(coroutine)
        return None

    @rule(worker=WORKERS, fate=FATES)
    def take(self, worker: int, fate: str) -> None:
        machine = self.machines[worker]
        machine.next_fate = fate
        self.takes += 1
        taker = Taker(machine, machine.timing(), machine.name)
        taken = self.call(taker.take(ID, f"{machine.name}.{self.takes}"))
        if isinstance(taken, Lease):
            self.leases[worker] = taken

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), fate=FATES)
    def renew(self, data: st.DataObject, fate: str) -> None:
        worker = data.draw(st.sampled_from(sorted(self.leases)))
        self.machines[worker].next_fate = fate
        self.call(self.leases[worker].renew())

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), fate=FATES, passing=st.sampled_from(["stop", "retry"]))
    def release(self, data: st.DataObject, fate: str, passing: str) -> None:
        worker = data.draw(st.sampled_from(sorted(self.leases)))
        self.machines[worker].next_fate = fate
        error = ErrorBody(code="upload_failed", message="m") if passing == "retry" else None
        self.call(self.leases.pop(worker).release(error))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), fate=FATES)
    def commit(self, data: st.DataObject, fate: str) -> None:
        worker = data.draw(st.sampled_from(sorted(self.leases)))
        self.machines[worker].next_fate = fate
        self.call(self.leases[worker].commit(ResultDocument(job_id=ID)))

    @rule(fate=FATES)
    def cancel(self, fate: str) -> None:
        self.home.next_fate = fate
        self.takes += 1
        self.call(jobs.cancel(self.home, ID, f"c{self.takes}", self.home.timing()))

    @rule(fate=FATES)
    def mark_imported(self, fate: str) -> None:
        self.home.next_fate = fate
        self.call(jobs.mark_imported(self.home, ID, self.home.timing()))

    @rule(seconds=st.sampled_from([0.5, 5.0, LEASE_SECONDS / 2, LEASE_SECONDS + 2]))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @invariant()
    def each_key_that_decides_is_written_once(self) -> None:
        written = Counter(write.key for write in self.bucket.writes)
        for key, times in written.items():
            if key.startswith(("claims/", "results/", "jobs/", "imported/")):
                assert times == 1, f"{key} was written {times} times"

    @invariant()
    def nobody_publishes_without_a_lease(self) -> None:
        assert self.bucket.unfenced == []

    @invariant()
    def no_more_than_three_tries_count(self) -> None:
        for write in self.bucket.writes:
            if write.key.startswith("claims/"):
                claim = Claim.read(write.body)
                assert claim is not None and claim.tries <= MAX_TRIES

    @invariant()
    def only_what_the_table_allows_happens(self) -> None:
        found = self.call(jobs.view(self.home, ID))
        assert found is not None
        if self.state is not None and found.state is not self.state:
            assert found.state in reachable(self.state), (self.state, found.state)
        self.state = found.state
        has_result = result_key(ID) in self.bucket.objects
        assert found.state.is_final == has_result
        assert imported_key(ID) not in self.bucket.objects or has_result

    def teardown(self) -> None:
        self.loop.close()


def reachable(state: QueueState) -> set[QueueState]:
    """Between two views several transitions may have happened."""
    found: set[QueueState] = set()
    todo = {state}
    while todo:
        following = set(TRANSITIONS[todo.pop()])
        todo |= following - found
        found |= following
    return found


class ManyOrders(QueueMachine):
    """The same, for longer."""


def searched(machine: type[QueueMachine], examples: int) -> Any:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return case


TestQueue = searched(QueueMachine, 25)
TestManyOrders = pytest.mark.slow(searched(ManyOrders, 600))
