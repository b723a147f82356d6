"""A bucket in memory with R2's rules and a network's faults, on a clock that jumps: hours of many
workers in seconds, and the same again from the same seed.

The rules: one lock a key, one write a second and key (429 to more), conditional writes, dates in
whole seconds by the bucket's own clock. The faults, each by chance: a request is lost, an answer is
lost, a write arrives twice or 20 seconds late; the bucket answers 429 for a while; a machine stands
still for three leases, its clock is wrong by minutes and drifts, or it is gone at a named point.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

from gpu_worker_client import StorageError, Timing
from gpu_worker_client.queue.documents import LeaseDocument, ResultDocument
from gpu_worker_client.queue.keys import job_id_of, lease_key
from gpu_worker_client.queue.lease import LEASE_SECONDS
from gpu_worker_client.queue.store import PAGE_KEYS, InDoubt, LostRace, Page, Stored

T = TypeVar("T")
EPOCH = 1_800_000_000.0
CRASH_POINTS = tuple(
    f"{when} {what}"
    for what in ("claim", "first lease", "renewal", "output", "result", "closing")
    for when in ("before", "after")
)
"""Where a machine may be gone: before a request of this kind leaves, or before its answer is
read."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is what its timers ask for: nothing waits."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everything waits for something that will not happen"
            self._loop.now += max(0.0, timeout)
        return found


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class Crashed(BaseException):
    """The machine is gone."""


@dataclass
class Faults:
    """Chances, of 0 to 1."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    storm: float = 0.0
    """That a write begins 5 seconds of 429 for everybody."""
    pause: float = 0.0
    """That a machine stands still before a request."""
    crash: Mapping[str, float] = field(default_factory=dict[str, float])
    """By crash point."""

    @classmethod
    def drawn(cls, chance: random.Random) -> Faults:
        return cls(
            request_lost=chance.uniform(0, 0.08),
            answer_lost=chance.uniform(0, 0.08),
            late=chance.uniform(0, 0.03),
            twice=chance.uniform(0, 0.03),
            storm=chance.uniform(0, 0.002),
            pause=chance.uniform(0, 0.01),
            crash={point: chance.uniform(0, 0.02) for point in CRASH_POINTS},
        )


@dataclass(frozen=True)
class Write:
    """A write that changed something."""

    at: float
    machine: str
    key: str
    body: bytes


class Bucket:
    """The objects, and the rules for them."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, float, bytes]] = {}
        self.writes: list[Write] = []
        self.requests: Counter[str] = Counter()
        """By operation, of every request that arrived."""
        self.unfenced: list[str] = []
        """Results that were sent by workers whose lease was lost."""
        self.storm_until = 0.0
        self._written: dict[str, float] = {}

    @property
    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def put(
        self, machine: str, key: str, body: bytes, if_absent: bool, if_match: str | None
    ) -> str:
        self.requests["put"] += 1
        there = self.objects.get(key)
        if self.now < self.storm_until or self.now - self._written.get(key, 0.0) < 1.0:
            raise LostRace(key)
        if (if_absent and there) or (if_match is not None and (not there or there[0] != if_match)):
            raise LostRace(key)
        etag = hashlib.md5(body).hexdigest()
        self.objects[key] = (etag, self.now, body)
        self._written[key] = self.now
        self.writes.append(Write(self.now, machine, key, body))
        return etag

    def sent(self, machine: Machine, key: str, body: bytes) -> None:
        """Notes a result whose worker no longer has the job, as it leaves the machine."""
        if not key.startswith("results/"):
            return
        result = ResultDocument.read(body)
        there = self.objects.get(lease_key(job_id_of(key)))
        lease = LeaseDocument.read(there[2]) if there else None
        if result is not None and lease is not None and 0 < result.attempt < lease.attempt:
            self.unfenced.append(f"{machine.name} {key}")

    def read(self, key: str, operation: str) -> Stored | None:
        self.requests[operation] += 1
        there = self.objects.get(key)
        if there is None:
            return None
        etag, modified, body = there
        return Stored(key, etag, float(int(modified)), float(int(self.now)), body)

    def list_page(self, prefix: str, after: str) -> Page:
        self.requests["list"] += 1
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page = [self.read(key, "listed") for key in keys[:PAGE_KEYS]]
        return Page([item for item in page if item is not None], len(keys) <= PAGE_KEYS)

    def delete(self, key: str) -> None:
        self.requests["delete"] += 1
        self.objects.pop(key, None)

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))


class Machine:
    """One process with a clock, a network and a fate; the store as it sees it."""

    def __init__(
        self, name: str, bucket: Bucket, chance: random.Random, faults: Faults | None = None
    ) -> None:
        self.name = name
        self.bucket = bucket
        self.faults = faults or Faults()
        self.is_gone = False
        self.crash_at: str | None = None
        """A point at which it is gone for certain."""
        self.next_fate = ""
        """One of the chances' names, which strikes the next write for certain."""
        self._chance = chance
        self._frozen_until = 0.0
        self._skew = chance.uniform(-600, 600)
        self._drift = chance.uniform(0.999, 1.001)

    def timing(self) -> Timing:
        return Timing(
            clock=lambda: self._loop_time * self._drift + self._skew,
            async_sleep=self._sleep,
            random=self._chance.random,
            now=lambda: datetime.fromtimestamp(EPOCH + self._loop_time + self._skew, timezone.utc),
        )

    async def get(self, key: str) -> Stored | None:
        return await self._ask(lambda: self.bucket.read(key, "get"))

    async def head(self, key: str) -> Stored | None:
        return await self._ask(lambda: self.bucket.read(key, "head"))

    async def list_page(self, prefix: str, after: str = "") -> Page:
        return await self._ask(lambda: self.bucket.list_page(prefix, after))

    async def delete(self, key: str) -> None:
        await self._at("before", key)
        await self._ask(lambda: self.bucket.delete(key))
        await self._at("after", key)

    async def put(
        self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        await self._at("before", key, body)
        self.bucket.sent(self, key, body)
        await self._travel()

        def write() -> str:
            return self.bucket.put(self.name, key, body, if_absent, if_match)

        drawn, faults = self._chance.random(), self.faults
        if self.next_fate:
            faults, self.next_fate = Faults(**{self.next_fate: 1.0}), ""
        if self._chance.random() < faults.storm:
            self.bucket.storm_until = self.bucket.now + 5.0
        for chance, fate in (
            (faults.request_lost, None),
            (faults.answer_lost, (0.0,)),
            (faults.late, (self._chance.uniform(0.5, 20.0),)),
            (faults.twice, (0.0, self._chance.uniform(0.5, 20.0))),
        ):
            if drawn < chance:
                for seconds in fate or ():
                    asyncio.get_running_loop().call_later(seconds, _ignoring, write)
                await self._travel(10.0)
                await self._at("after", key, body)
                raise InDoubt(key)
            drawn -= chance
        etag = write()
        await self._travel()
        await self._at("after", key, body)
        return etag

    async def _ask(self, read: Callable[[], T]) -> T:
        await self._travel()
        if self._chance.random() < self.faults.request_lost / 4:  # after the retries of reads
            raise StorageError("no answer", code="unreachable", retryable=True)
        found = read()
        await self._travel()
        return found

    async def _travel(self, seconds: float = 0.2) -> None:
        if self._chance.random() < self.faults.pause:
            self._frozen_until = self._loop_time + 3 * LEASE_SECONDS
        await self._sleep(self._chance.uniform(0.01, seconds))

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while (left := self._frozen_until - self._loop_time) > 0:
            await asyncio.sleep(left)
        self._check_alive()

    async def _at(self, when: str, key: str, body: bytes = b"") -> None:
        self._check_alive()
        point = f"{when} {_kind(key, body)}"
        if point == self.crash_at or self._chance.random() < self.faults.crash.get(point, 0.0):
            self.is_gone = True
            self._check_alive()

    def _check_alive(self) -> None:
        if self.is_gone:
            raise Crashed(self.name)

    @property
    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()


def _kind(key: str, body: bytes) -> str:
    folder = key.partition("/")[0]
    if folder == "leases":
        return "first lease" if b'"seq":1,' in body else "renewal"
    names = {"claims": "claim", "outputs": "output", "results": "result", "open": "closing"}
    return names.get(folder, folder)


def _ignoring(write: Callable[[], str]) -> None:
    with suppress(LostRace):
        write()
